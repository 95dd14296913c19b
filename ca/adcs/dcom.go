package adcs

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"

	"github.com/oiweiwei/go-msrpc/dcerpc"
	"github.com/oiweiwei/go-msrpc/msrpc/dcetypes"
	"github.com/oiweiwei/go-msrpc/msrpc/dcom"
	oxr "github.com/oiweiwei/go-msrpc/msrpc/dcom/iobjectexporter/v0"
	scm "github.com/oiweiwei/go-msrpc/msrpc/dcom/iremotescmactivator/v0"
	"github.com/oiweiwei/go-msrpc/msrpc/dtyp"
)

var (
	classRequest = &dcom.ClassID{Data1: 0xd99e6e74, Data2: 0xfc88, Data3: 0x11d0, Data4: []byte{0xb4, 0x98, 0, 0xa0, 0xc9, 3, 0x12, 0xf3}}
	classAdmin   = &dcom.ClassID{Data1: 0xd99e6e73, Data2: 0xfc88, Data3: 0x11d0, Data4: []byte{0xb4, 0x98, 0, 0xa0, 0xc9, 3, 0x12, 0xf3}}
)

const (
	classContext     = 0x14 // CLSCTX_LOCAL_SERVER | CLSCTX_REMOTE_SERVER
	levelImpersonate = 3    // what [MS-CSRA], section 2.1 asks for
	sequenceTCP      = 7    // ncacn_ip_tcp
	differentMachine = 2    // MSHCTX_DIFFERENTMACHINE
)

// object is an activated object of the CA: a connection to its exporter and
// who it is there.
type object struct {
	wire    *wire
	ipid    *dcom.IPID
	version *dcom.COMVersion
}

// this begins every call ([MS-DCOM], section 2.2.13.3), with a causality ID
// of its own.
func (o *object) this() *dcom.ORPCThis {
	var id [16]byte
	rand.Read(id[:])
	cid := &dcom.CID{Data1: uint32(id[0])<<24 | uint32(id[1])<<16 | uint32(id[2])<<8 | uint32(id[3]),
		Data2: uint16(id[4])<<8 | uint16(id[5]), Data3: uint16(id[6])<<8 | uint16(id[7]), Data4: id[8:]}
	return &dcom.ORPCThis{Version: o.version, CID: cid}
}

// activate makes an object of a class: ServerAlive2, RemoteCreateInstance,
// then a connection to the port where it lives ([MS-DCOM], section 3.2.4.1).
// client binds an interface to it.
func (c *CA) activate(ctx context.Context, class *dcom.ClassID, iid *dcom.IID,
	client func(ctx context.Context, cc dcerpc.Conn, o *object, opts []dcerpc.Option) error) (*object, error) {
	port, o, err := c.create(ctx, class, iid)
	if err != nil {
		return nil, err
	}
	o.wire, err = newWire(ctx, c.host, port, c.connect)
	if err != nil {
		return nil, c.unreachable("object exporter", err, 0)
	}
	opts, err := c.mechanism.Options(ctx, c.target)
	if err != nil {
		o.wire.close()
		return nil, c.unreachable("signing in", err, 0)
	}
	err = o.wire.bind(ctx, true, func(ctx context.Context, cc dcerpc.Conn) error {
		return client(ctx, cc, o, append(protect(c.target, opts), dcom.WithIPID(o.ipid)))
	})
	if err != nil {
		_, fault := o.wire.outcome()
		o.wire.close()
		c.mechanism.Refused()
		return nil, c.unreachable("binding the interface on port "+strconv.Itoa(port), err, fault)
	}
	return o, nil
}

// create asks the service control manager on port 135 for the object.
func (c *CA) create(ctx context.Context, class *dcom.ClassID, iid *dcom.IID) (port int, o *object, err error) {
	w, err := newWire(ctx, c.host, c.mapperPort, c.connect)
	if err != nil {
		return 0, nil, c.unreachable("activation", err, 0)
	}
	defer w.close()
	o = &object{}
	if o.version, err = serverAlive(ctx, w); err != nil {
		return 0, nil, c.unreachable("reaching port "+strconv.Itoa(c.mapperPort), err, 0)
	}
	opts, err := c.mechanism.Options(ctx, c.target)
	if err != nil {
		return 0, nil, c.unreachable("signing in", err, 0)
	}
	var reply *scm.RemoteCreateInstanceResponse
	err = w.bind(ctx, true, func(bound context.Context, cc dcerpc.Conn) error {
		cl, err := scm.NewRemoteSCMActivatorClient(bound, cc, protect(c.target, opts)...)
		if err != nil {
			return err
		}
		in, err := activationBlob(class, iid, o.version)
		if err != nil {
			return err
		}
		reply, err = cl.RemoteCreateInstance(ctx, &scm.RemoteCreateInstanceRequest{ORPCThis: o.this(), ActPropertiesIn: in})
		return err
	})
	if reply != nil && reply.Return < 0 {
		return 0, nil, c.unreachable("activation", errors.New("refused"), uint32(reply.Return))
	}
	if err != nil {
		_, fault := w.outcome()
		c.mechanism.Refused()
		return 0, nil, c.unreachable("activation", err, fault)
	}
	if port, o.ipid, err = readActivation(reply); err != nil {
		return 0, nil, c.unreachable("activation", err, 0)
	}
	return port, o, nil
}

// serverAlive asks for the COM version; nobody needs to sign in for that.
func serverAlive(ctx context.Context, w *wire) (version *dcom.COMVersion, err error) {
	err = w.bind(ctx, false, func(bound context.Context, cc dcerpc.Conn) error {
		cl, err := oxr.NewObjectExporterClient(bound, cc, dcerpc.WithInsecure())
		if err != nil {
			return err
		}
		r, err := cl.ServerAlive2(ctx, &oxr.ServerAlive2Request{})
		if err != nil {
			return err
		}
		version = r.COMVersion
		return nil
	})
	if err == nil && version == nil {
		err = errors.New("no COM version")
	}
	return version, err
}

func activationBlob(class *dcom.ClassID, iid *dcom.IID, version *dcom.COMVersion) (*dcom.InterfacePointer, error) {
	p := &dcom.ActivationProperties{DestinationContext: differentMachine, Properties: []dcom.ActivationProperty{
		&dcom.InstantiationInfoData{ClassID: class, IID: []*dcom.IID{iid}, IIDCount: 1, ClassContext: classContext, ClientCOMVersion: version},
		&dcom.ActivationContextInfoData{},
		&dcom.LocationInfoData{},
		&dcom.SCMRequestInfoData{RemoteRequest: &dcom.CustomRemoteRequestSCMInfo{
			ClientImpLevel: levelImpersonate, RequestedProtocolSequencesCount: 1, RequestedProtocolSequences: []uint16{sequenceTCP},
		}},
	}}
	return p.ActivationPropertiesIn()
}

// readActivation takes port and object from the activation's reply.
func readActivation(reply *scm.RemoteCreateInstanceResponse) (port int, ipid *dcom.IPID, err error) {
	defer recoverInto(&err)
	if reply == nil || reply.ActPropertiesOut == nil {
		return 0, nil, errors.New("the reply has no properties")
	}
	out := &dcom.ActivationProperties{}
	if err := out.Parse(reply.ActPropertiesOut); err != nil {
		return 0, nil, fmt.Errorf("reading the reply: %w", err)
	}
	where, props := out.SCMReplyInfoData(), out.PropertiesOutInfo()
	if where == nil || where.RemoteReply == nil || where.RemoteReply.OXIDBindings == nil || props == nil || len(props.InterfaceData) == 0 ||
		props.InterfaceData[0] == nil {
		return 0, nil, errors.New("the reply names no interface")
	}
	if len(props.HResults) > 0 && props.HResults[0] < 0 {
		return 0, nil, fmt.Errorf("the interface was refused: 0x%08X", uint32(props.HResults[0]))
	}
	ipid = props.InterfaceData[0].IPID()
	if g := (*dtyp.GUID)(ipid); g == nil || g.Data1 == 0 && g.Data2 == 0 && g.Data3 == 0 && len(strings.Trim(string(g.Data4), "\x00")) == 0 {
		return 0, nil, errors.New("the reply names no object")
	}
	port, err = portOf(where.RemoteReply.OXIDBindings)
	return port, ipid, err
}

// portOf returns the TCP port of the string bindings, whose addresses may name
// interfaces that cannot be reached from here ([MS-DCOM], section 2.2.19.3).
func portOf(b *dcom.DualStringArray) (int, error) {
	if int(b.SecurityOffset) > len(b.StringArray) {
		return 0, errors.New("string bindings: offset beyond their end")
	}
	for rest := b.StringArray[:b.SecurityOffset]; len(rest) > 1 && rest[0] != 0; {
		tower, end := rest[0], 1
		for end < len(rest) && rest[end] != 0 {
			end++
		}
		address := string(utf16.Decode(rest[1:end]))
		if _, tail, ok := strings.Cut(address, "["); ok && int(tower) == dcetypes.ProtocolTCP {
			if port, err := strconv.ParseUint(strings.TrimSuffix(tail, "]"), 10, 16); err == nil && port > 0 {
				return int(port), nil
			}
		}
		rest = rest[min(end+1, len(rest)):]
	}
	return 0, errors.New("string bindings: no TCP port")
}
