package adcstest

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"maps"
	"sync"
	"unicode/utf16"

	"github.com/oiweiwei/go-msrpc/midl/uuid"
	"github.com/oiweiwei/go-msrpc/msrpc/dcom"
	activation "github.com/oiweiwei/go-msrpc/msrpc/dcom/iactivation/v0"
	oxid "github.com/oiweiwei/go-msrpc/msrpc/dcom/iobjectexporter/v0"
	scm "github.com/oiweiwei/go-msrpc/msrpc/dcom/iremotescmactivator/v0"
	remunknown "github.com/oiweiwei/go-msrpc/msrpc/dcom/iremunknown/v0"
	remunknown2 "github.com/oiweiwei/go-msrpc/msrpc/dcom/iremunknown2/v0"
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

// resolver is IObjectExporter.
type resolver struct {
	oxid.UnimplementedObjectExporterServer
	e *exporter
}

func (r resolver) ServerAlive(context.Context, *oxid.ServerAliveRequest) (*oxid.ServerAliveResponse, error) {
	return &oxid.ServerAliveResponse{}, nil
}

func (r resolver) ServerAlive2(context.Context, *oxid.ServerAlive2Request) (*oxid.ServerAlive2Response, error) {
	return &oxid.ServerAlive2Response{COMVersion: comVersion, ObjectResolverBindings: r.e.dualStrings("")}, nil
}

func (r resolver) SimplePing(context.Context, *oxid.SimplePingRequest) (*oxid.SimplePingResponse, error) {
	return &oxid.SimplePingResponse{}, nil
}

func (r resolver) ComplexPing(context.Context, *oxid.ComplexPingRequest) (*oxid.ComplexPingResponse, error) {
	return &oxid.ComplexPingResponse{SetID: 1}, nil
}

func (r resolver) ResolveOxid2(context.Context, *oxid.ResolveOxid2Request) (*oxid.ResolveOxid2Response, error) {
	_, unknown := r.e.identity()
	return &oxid.ResolveOxid2Response{
		OXIDBindings: r.e.bindings(), RemoteUnknown: unknown, AuthnHint: uint32(levelPrivacy), COMVersion: comVersion,
	}, nil
}

// activator is IRemoteSCMActivator.
type activator struct {
	scm.UnimplementedRemoteSCMActivatorServer
	e *exporter
}

func (a activator) RemoteCreateInstance(_ context.Context, in *scm.RemoteCreateInstanceRequest) (*scm.RemoteCreateInstanceResponse, error) {
	asked := &dcom.ActivationProperties{}
	if err := asked.Parse(in.ActPropertiesIn); err != nil {
		return nil, fault(faultStub)
	}
	var wish *dcom.InstantiationInfoData
	for _, p := range asked.Properties {
		if v, ok := p.(*dcom.InstantiationInfoData); ok {
			wish = v
		}
	}
	if wish == nil || wish.ClassID == nil {
		return nil, fault(faultStub)
	}
	class := wish.ClassID.GUID().UUID().String()
	if interfacesOf[class] == nil {
		return &scm.RemoteCreateInstanceResponse{ORPCThat: that(), Return: ClassNotRegistered}, nil
	}
	out := &dcom.PropertiesOutInfo{InterfacesCount: uint32(len(wish.IID))}
	for _, iid := range wish.IID {
		p, hr, err := a.e.marshalled(class, iid)
		if err != nil {
			return nil, err
		}
		out.IIDs, out.HResults, out.InterfaceData = append(out.IIDs, iid), append(out.HResults, hr), append(out.InterfaceData, p)
	}
	reply, err := a.e.activationReply(out)
	return &scm.RemoteCreateInstanceResponse{ORPCThat: that(), ActPropertiesOut: reply}, err
}

// activationReply has PropsOutInfo first, then ScmReplyInfo: the order of
// Windows, on which clients rely. The library's own helper would write the
// class of the request.
func (e *exporter) activationReply(out *dcom.PropertiesOutInfo) (*dcom.InterfacePointer, error) {
	id, unknown := e.identity()
	properties := &dcom.ActivationProperties{DestinationContext: 2, Properties: []dcom.ActivationProperty{
		out,
		&dcom.SCMReplyInfoData{RemoteReply: &dcom.CustomRemoteReplySCMInfo{
			OXID: id, OXIDBindings: e.bindings(), IPIDRemoteUnknown: unknown,
			AuthnHint: uint32(levelPrivacy), ServerVersion: comVersion,
		}},
	}}
	b, err := properties.Marshal()
	if err != nil {
		return nil, err
	}
	return interfacePointer(&dcom.ObjectReference{
		Signature: []byte("MEOW"), Flags: dcom.ObjectReferenceTypeCustom, IID: dcom.ActivationPropertiesOutIID,
		ObjectReference: &dcom.ObjectReference_ObjectReference{Value: &dcom.ObjectReference_Custom{
			Custom: &dcom.ObjectReferenceCustom{ClassID: dcom.ActivationPropertiesOutClassID, Size: uint32(len(b)) + 8, ObjectData: b},
		}},
	})
}

// oldActivator is IActivation, of clients before COM 5.6.
type oldActivator struct{ e *exporter }

func (a oldActivator) RemoteActivation(_ context.Context, in *activation.RemoteActivationRequest) (*activation.RemoteActivationResponse, error) {
	id, unknown := a.e.identity()
	r := &activation.RemoteActivationResponse{
		Interfaces: in.Interfaces, ORPCThat: that(), OXID: id, OXIDBindings: a.e.bindings(),
		RemoteUnknown: unknown, AuthnHint: uint32(levelPrivacy), ServerVersion: comVersion,
	}
	if in.ClassID == nil {
		return nil, fault(faultStub)
	}
	class := in.ClassID.UUID().String()
	if interfacesOf[class] == nil {
		r.HResult = ClassNotRegistered
		return r, nil
	}
	for _, iid := range in.IIDs {
		p, hr, err := a.e.marshalled(class, iid)
		if err != nil {
			return nil, err
		}
		r.InterfaceData, r.Results = append(r.InterfaceData, p), append(r.Results, hr)
	}
	return r, nil
}

// remoteUnknown is IRemUnknown2.
type remoteUnknown struct {
	remunknown2.UnimplementedRemoteUnknown2Server
	e *exporter
}

func (u remoteUnknown) RemoteQueryInterface(_ context.Context, in *remunknown.RemoteQueryInterfaceRequest) (*remunknown.RemoteQueryInterfaceResponse, error) {
	r := &remunknown.RemoteQueryInterfaceResponse{That: that(), IIDsCount: in.IIDsCount}
	u.e.mu.Lock()
	objects := maps.Clone(u.e.objects)
	u.e.mu.Unlock()
	if in.IPID == nil {
		return nil, fault(faultStub)
	}
	class, ok := objects[binaryGUID(in.IPID)]
	if !ok {
		return nil, fault(faultDisconnected)
	}
	for range in.IIDs {
		r.QueryInterfaceResults = append(r.QueryInterfaceResults, &dcom.RemoteQueryInterfaceResult{Std: u.e.reference(class)})
	}
	return r, nil
}

func (u remoteUnknown) RemoteAddReference(_ context.Context, in *remunknown.RemoteAddReferenceRequest) (*remunknown.RemoteAddReferenceResponse, error) {
	return &remunknown.RemoteAddReferenceResponse{That: that(), Results: make([]int32, len(in.InterfaceReferences))}, nil
}

// RemoteRelease forgets an object with all of its references: nobody shares
// one here.
func (u remoteUnknown) RemoteRelease(_ context.Context, in *remunknown.RemoteReleaseRequest) (*remunknown.RemoteReleaseResponse, error) {
	u.e.mu.Lock()
	defer u.e.mu.Unlock()
	for _, r := range in.InterfaceReferences {
		if r == nil || r.IPID == nil {
			continue
		}
		ipid := binaryGUID(r.IPID.GUID())
		delete(u.e.objects, ipid)
		delete(u.e.views, ipid)
	}
	return &remunknown.RemoteReleaseResponse{That: that()}, nil
}

// binaryGUID is a GUID as packets carry it.
func binaryGUID(g *dtyp.GUID) [16]byte {
	var b [16]byte
	copy(b[:], g.UUID().EncodeBinary())
	return b
}
