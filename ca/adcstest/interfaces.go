package adcstest

import (
	"net"

	admin "github.com/oiweiwei/go-msrpc/msrpc/dcom/csra/icertadmind/v0"
	admin2 "github.com/oiweiwei/go-msrpc/msrpc/dcom/csra/icertadmind2/v0"
	activation "github.com/oiweiwei/go-msrpc/msrpc/dcom/iactivation/v0"
	oxid "github.com/oiweiwei/go-msrpc/msrpc/dcom/iobjectexporter/v0"
	scm "github.com/oiweiwei/go-msrpc/msrpc/dcom/iremotescmactivator/v0"
	remunknown2 "github.com/oiweiwei/go-msrpc/msrpc/dcom/iremunknown2/v0"
	request2 "github.com/oiweiwei/go-msrpc/msrpc/dcom/wcce/icertrequestd2/v0"
	epm "github.com/oiweiwei/go-msrpc/msrpc/epm/epm/v3"
	icpr "github.com/oiweiwei/go-msrpc/msrpc/icpr/icertpassage/v0"
)

// mapperInterfaces are those of the machine's endpoint mapper port.
func (r *RPC) mapperInterfaces() []rpcInterface {
	mapper := &endpointMapper{ip: net.ParseIP(r.o.Address), entries: func() []mapped {
		var list []mapped
		if !r.o.NoICPR {
			list = append(list, mapped{icpr.CertPassageSyntaxV0_0, r.PassagePort(), ""})
		}
		if !r.o.NoDCOM {
			list = append(list, mapped{oxid.ObjectExporterSyntaxV0_0, r.EndpointMapperPort(), ""})
		}
		return list
	}}
	list := []rpcInterface{{
		syntax: syntax("e1af8308-5d1f-11c9-91a4-08002b14a0fa", 3), handler: epm.NewEpmServerHandle(mapper),
	}}
	if r.o.NoDCOM {
		return list
	}
	// Activation below packet integrity is refused since KB5004442.
	return append(list,
		rpcInterface{syntax: syntax("99fcfec4-5260-101b-bbcb-00aa0021347a", 0), handler: oxid.NewObjectExporterServerHandle(resolver{e: r.e})},
		rpcInterface{syntax: syntax("000001a0-0000-0000-c000-000000000046", 0), level: levelIntegrity, handler: scm.NewRemoteSCMActivatorServerHandle(activator{e: r.e})},
		rpcInterface{syntax: syntax("4d9f4ab8-7d1c-11cf-861e-0020af6e7c57", 0), level: levelIntegrity, handler: activation.NewActivationServerHandle(oldActivator{e: r.e})},
	)
}

// objectInterfaces want packet privacy: IF_ENFORCEENCRYPTICERTREQUEST and
// IF_ENFORCEENCRYPTICERTADMIN are on.
func (r *RPC) objectInterfaces() []rpcInterface {
	if r.o.NoDCOM {
		return nil
	}
	unknown := remunknown2.NewRemoteUnknown2ServerHandle(remoteUnknown{e: r.e})
	requests := request2.NewCertRequestD2ServerHandle(requestFace{ca: r.ca, e: r.e})
	admins := admin2.NewCertAdminD2ServerHandle(adminFace{ca: r.ca, e: r.e})
	return []rpcInterface{
		{syntax: syntax("00000131-0000-0000-c000-000000000046", 0), handler: unknown},
		{syntax: syntax("00000143-0000-0000-c000-000000000046", 0), handler: unknown},
		{syntax: syntax(interfacesOf[classRequest][0], 0), level: levelPrivacy, faulty: true, handler: r.e.of(classRequest, requests)},
		{syntax: syntax(interfacesOf[classRequest][1], 0), level: levelPrivacy, faulty: true, handler: r.e.of(classRequest, requests)},
		{syntax: syntax(interfacesOf[classAdmin][0], 0), level: levelPrivacy, faulty: true, handler: r.e.of(classAdmin, admins)},
		{syntax: syntax(interfacesOf[classAdmin][1], 0), level: levelPrivacy, faulty: true, handler: r.e.of(classAdmin, admins)},
	}
}

func (r *RPC) passageInterfaces() []rpcInterface {
	if r.o.NoICPR {
		return nil
	}
	return []rpcInterface{{
		syntax: syntax("91ae6020-9e3c-11cf-8d7c-00aa00c091be", 0), level: levelPrivacy, faulty: true,
		handler: icpr.NewCertPassageServerHandle(passageFace{ca: r.ca}),
	}}
}

var (
	_ request2.CertRequestD2Server = requestFace{}
	_ admin.CertAdminDServer       = adminFace{}
	_ admin2.CertAdminD2Server     = adminFace{}
)
