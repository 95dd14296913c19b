package adcstest

import (
	"fmt"
	"testing"

	"github.com/oiweiwei/go-msrpc/dcerpc"
	"github.com/oiweiwei/go-msrpc/msrpc/dcetypes"
	epm "github.com/oiweiwei/go-msrpc/msrpc/epm/epm/v3"
	icpr "github.com/oiweiwei/go-msrpc/msrpc/icpr/icertpassage/v0"
	"github.com/oiweiwei/go-msrpc/ssp"
	"github.com/oiweiwei/go-msrpc/ssp/credential"
)

func TestEndpointMapper(t *testing.T) {
	for _, off := range []bool{false, true} {
		ca := newCA(t, Options{})
		r := serveRPC(t, ca, RPCOptions{NoICPR: off})
		c := newClient(t, r, "svc", dcerpc.WithSeal())
		ctx := c.context()
		conn, err := dcerpc.Dial(ctx, "127.0.0.1", dcerpc.WithEndpoint(fmt.Sprintf("ncacn_ip_tcp:[%d]", r.EndpointMapperPort())))
		if err != nil {
			t.Fatalf("dialling: %v", err)
		}
		defer conn.Close(ctx)
		mapper, err := epm.NewEpmClient(ctx, conn, dcerpc.WithInsecure())
		if err != nil {
			t.Fatalf("binding: %v", err)
		}
		asked := dcetypes.FloorsToTower([]*dcetypes.Floor{
			{Protocol: uint8(dcetypes.ProtocolUUID), UUID: icpr.CertPassageSyntaxV0_0.IfUUID, Data: []byte{0, 0}},
			{Protocol: uint8(dcetypes.ProtocolUUID), UUID: dcerpc.TransferNDR, VersionMajor: 2, Data: []byte{0, 0}},
			{Protocol: uint8(dcetypes.ProtocolRPC_CO), Data: []byte{0, 0}},
			{Protocol: uint8(dcetypes.ProtocolTCP), Data: []byte{0, 0}},
			{Protocol: uint8(dcetypes.ProtocolIP), Data: []byte{0, 0, 0, 0}},
		})
		asked.TowerLength = uint32(len(asked.TowerOctetString))
		got, err := mapper.Map(ctx, &epm.MapRequest{MapTower: asked, EntryHandle: &epm.LookupHandle{}, MaxTowers: 4})
		if off {
			if got == nil || got.Status != notRegistered || len(got.Towers) != 0 {
				t.Errorf("ept_map where ICertPassage is off: %v", got)
			}
			continue
		}
		if err != nil || len(got.Towers) != 1 || got.Towers[0].Binding().StringBinding.Endpoint != fmt.Sprint(r.PassagePort()) {
			t.Errorf("ept_map: %v, %v", got, err)
		}
		all, err := mapper.Lookup(ctx, &epm.LookupRequest{EntryHandle: &epm.LookupHandle{}, MaxEntries: 10})
		if err != nil || len(all.Entries) != 2 {
			t.Errorf("ept_lookup: %v, %v", all, err)
		}
	}
}

func TestNTLMInSPNEGO(t *testing.T) {
	ca := newCA(t, Options{})
	r := serveRPC(t, ca, RPCOptions{})
	c := &client{t: t, port: r.EndpointMapperPort(), security: []dcerpc.Option{
		dcerpc.WithCredentials(credential.NewFromPassword(`CORP\svc`, DefaultPassword)), dcerpc.WithTargetName("host/ca01.corp.test"),
		dcerpc.WithMechanism(ssp.SPNEGO), dcerpc.WithMechanism(strictNTLM{}), dcerpc.WithSeal(),
	}}
	ctx := c.context()
	passage, err := c.passage(ctx, r.PassagePort())
	if err != nil {
		t.Fatalf("binding: %v", err)
	}
	in := &icpr.CertServerRequestRequest{Authority: ca.Name(), RequestID: 5, Attributes: blob(nil), Request: blob(nil)}
	for range 3 { // the ciphers start anew after the mechListMIC, the numbers go on
		if got, _ := passage.CertServerRequest(ctx, in); got == nil || int32(got.Return) != PropertyEmpty {
			t.Fatalf("retrieving what is not there: %v", got)
		}
	}
	ca.Fail(CorruptReply, 1)
	if got, err := passage.CertServerRequest(ctx, in); err == nil || got != nil && int32(got.Return) == PropertyEmpty {
		t.Errorf("a damaged reply was taken: %v, %v", got, err)
	}
}
