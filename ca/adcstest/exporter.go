package adcstest

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"sync"
	"unicode/utf16"

	"github.com/oiweiwei/go-msrpc/midl/uuid"
	"github.com/oiweiwei/go-msrpc/msrpc/dcom"
	"github.com/oiweiwei/go-msrpc/msrpc/dtyp"
	"github.com/oiweiwei/go-msrpc/ndr"
)

// Classes that the CA registers.
const (
	classRequest = "d99e6e74-fc88-11d0-b498-00a0c90312f3" // CCertRequestD
	classAdmin   = "d99e6e73-fc88-11d0-b498-00a0c90312f3" // CCertAdminD
)

// interfacesOf are the interfaces of each class.
var interfacesOf = map[string][]string{
	classRequest: {"d99e6e70-fc88-11d0-b498-00a0c90312f3", "5422fd3a-d4b8-4cef-a12e-e87d4ca22e90"},
	classAdmin:   {"d99e6e71-fc88-11d0-b498-00a0c90312f3", "7fe0d935-dda6-443f-85d0-1cfb58fe41dd"},
}

const unknownIID = "00000000-0000-0000-c000-000000000046"

// exporter is the DCOM object exporter ([MS-DCOM], section 3.1): it activates
// objects of the CA's classes and knows them by their IPIDs.
type exporter struct {
	ca   *CA
	host string // for string bindings

	mu      sync.Mutex
	port    int
	id      uint64 // OXID
	unknown [16]byte
	objects map[[16]byte]string // IPID → class
	views   map[[16]byte]*view  // IPID → open view
}

// restart forgets all objects, as a new process does.
func (e *exporter) restart(port int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.port, e.objects, e.views = port, map[[16]byte]string{}, map[[16]byte]*view{}
	e.id = binary.LittleEndian.Uint64(randomBytes(8))
	e.unknown = [16]byte(randomBytes(16))
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// class tells the class of the object that a call is for.
func (e *exporter) class(ctx context.Context) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.objects[callOf(ctx).object]
}

func guid(b [16]byte) *dtyp.GUID {
	u := &uuid.UUID{}
	if err := u.DecodeBinary(b[:]); err != nil {
		panic("16 octets are no UUID: " + err.Error())
	}
	return dtyp.GUIDFromUUID(u)
}

// dualStrings is DUALSTRINGARRAY: TCP bindings, then the security packages. A
// Windows machine names itself by its NetBIOS name first, which few resolve,
// and then lists the addresses of all its networks.
func (e *exporter) dualStrings(endpoint string) *dcom.DualStringArray {
	const tcp = 7
	var list []uint16
	for _, host := range []string{e.ca.computer(), e.host} {
		list = append(list, tcp)
		list = append(list, utf16.Encode([]rune(host+endpoint))...)
		list = append(list, 0)
	}
	list = append(list, 0)
	security := len(list)
	for _, kind := range []byte{authSPNEGO, authKerberos, authNTLM} {
		list = append(list, uint16(kind), 0xffff, 0)
	}
	list = append(list, 0)
	return &dcom.DualStringArray{EntriesLength: uint16(len(list)), SecurityOffset: uint16(security), StringArray: list}
}

// identity is the OXID and the IPID of IRemUnknown.
func (e *exporter) identity() (uint64, *dcom.IPID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.id, (*dcom.IPID)(guid(e.unknown))
}

func (e *exporter) bindings() *dcom.DualStringArray {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.dualStrings(fmt.Sprintf("[%d]", e.port))
}

var comVersion = &dcom.COMVersion{MajorVersion: 5, MinorVersion: 7}

// reference makes an object reference with an IPID of its own.
func (e *exporter) reference(class string) *dcom.StdObjectReference {
	e.mu.Lock()
	defer e.mu.Unlock()
	ipid := [16]byte(randomBytes(16))
	e.objects[ipid] = class
	return &dcom.StdObjectReference{
		PublicReferencesCount: 5, OXID: e.id, OID: binary.LittleEndian.Uint64(randomBytes(8)), IPID: (*dcom.IPID)(guid(ipid)),
	}
}

// marshalled is the OBJREF of a new interface pointer, or the HRESULT that
// there is none.
func (e *exporter) marshalled(class string, iid *dcom.IID) (*dcom.InterfacePointer, int32, error) {
	const noInterface int32 = 0x80004002 - 1<<32
	known := iid.String() == unknownIID
	for _, id := range interfacesOf[class] {
		known = known || id == iid.String()
	}
	if !known {
		return nil, noInterface, nil
	}
	p, err := interfacePointer(&dcom.ObjectReference{
		Signature: []byte("MEOW"), Flags: dcom.ObjectReferenceTypeStandard, IID: iid,
		ObjectReference: &dcom.ObjectReference_ObjectReference{Value: &dcom.ObjectReference_Standard{
			Standard: &dcom.ObjectReferenceStandard{Std: e.reference(class), ResolverAddr: e.dualStrings("")},
		}},
	})
	return p, 0, err
}

func interfacePointer(r *dcom.ObjectReference) (*dcom.InterfacePointer, error) {
	b, err := ndr.Marshal(r, ndr.Opaque)
	return &dcom.InterfacePointer{DataCount: uint32(len(b)), Data: b}, err
}

func that() *dcom.ORPCThat { return &dcom.ORPCThat{} }
