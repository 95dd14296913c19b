package adcstest

import (
	"context"
	"maps"

	"github.com/oiweiwei/go-msrpc/msrpc/dcom"
	activation "github.com/oiweiwei/go-msrpc/msrpc/dcom/iactivation/v0"
	oxid "github.com/oiweiwei/go-msrpc/msrpc/dcom/iobjectexporter/v0"
	scm "github.com/oiweiwei/go-msrpc/msrpc/dcom/iremotescmactivator/v0"
	remunknown "github.com/oiweiwei/go-msrpc/msrpc/dcom/iremunknown/v0"
	remunknown2 "github.com/oiweiwei/go-msrpc/msrpc/dcom/iremunknown2/v0"
	"github.com/oiweiwei/go-msrpc/msrpc/dtyp"
)

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
