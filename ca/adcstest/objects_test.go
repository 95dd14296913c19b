package adcstest

import (
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/oiweiwei/go-msrpc/dcerpc"
	"github.com/oiweiwei/go-msrpc/msrpc/dcom"
	activation "github.com/oiweiwei/go-msrpc/msrpc/dcom/iactivation/v0"
	remunknown "github.com/oiweiwei/go-msrpc/msrpc/dcom/iremunknown/v0"
	request "github.com/oiweiwei/go-msrpc/msrpc/dcom/wcce/icertrequestd/v0"
	request2 "github.com/oiweiwei/go-msrpc/msrpc/dcom/wcce/icertrequestd2/v0"
	"github.com/oiweiwei/go-msrpc/msrpc/dtyp"

	"github.com/certconnector/certconnector/internal/testkeys"
)

// TestObjectLife activates in the way of old clients, asks for another
// interface, releases the object and finds it gone.
func TestObjectLife(t *testing.T) {
	ca := newCA(t, Options{})
	r := serveRPC(t, ca, RPCOptions{})
	c := newClient(t, r, "svc", dcerpc.WithSeal())
	c.this = &dcom.ORPCThis{Version: comVersion, CID: &dcom.CID{}}
	ctx := c.context()
	dial := func(port int) dcerpc.Conn {
		t.Helper()
		conn, err := dcerpc.Dial(ctx, "127.0.0.1", dcerpc.WithEndpoint(fmt.Sprintf("ncacn_ip_tcp:[%d]", port)))
		if err != nil {
			t.Fatalf("dialling: %v", err)
		}
		t.Cleanup(func() { conn.Close(ctx) })
		return conn
	}
	activator, err := activation.NewActivationClient(ctx, dial(r.EndpointMapperPort()), c.security...)
	if err != nil {
		t.Fatalf("binding: %v", err)
	}
	activate := func(class string) *activation.RemoteActivationResponse {
		t.Helper()
		got, err := activator.RemoteActivation(ctx, &activation.RemoteActivationRequest{
			ORPCThis: c.this, ClassID: (*dtyp.GUID)(classID(class)), Interfaces: 1, IIDs: []*dcom.IID{request.CertRequestDIID},
			RequestedProtocolSequencesCount: 1, RequestedProtocolSequences: []uint16{7},
		})
		if err != nil || got == nil {
			t.Fatalf("RemoteActivation: %v", err)
		}
		return got
	}
	if got := activate(unknownIID); got.HResult != ClassNotRegistered {
		t.Errorf("a class that is not registered: 0x%08x", uint32(got.HResult))
	}
	activated := activate(classRequest)
	ipid := activated.InterfaceData[0].IPID()
	requests, err := request.NewCertRequestDClient(ctx, dial(r.ObjectPort()), append(c.security, dcom.WithIPID(ipid))...)
	if err != nil {
		t.Fatalf("binding the object: %v", err)
	}
	ask := &request.RequestRequest{This: c.this, Authority: ca.Name(), Flags: requestPKCS10, Attributes: "CertificateTemplate:IntuneDevice", Request: blob(newCSR(t, testkeys.P256(0)))}
	if got, err := requests.Request(ctx, ask); err != nil || got.Disposition != DispositionIssued {
		t.Errorf("Request: %v, %v", got, err)
	}
	if got, err := requests.GetCACert(ctx, &request.GetCACertRequest{This: c.this, Authority: ca.Name(), Chain: wantChain}); err != nil || len(got.Out.Buffer) == 0 {
		t.Errorf("GetCACert: %v", err)
	}
	unknown, err := remunknown.NewRemoteUnknownClient(ctx, dial(r.ObjectPort()), append(c.security, dcom.WithIPID(activated.RemoteUnknown))...)
	if err != nil {
		t.Fatalf("binding IRemUnknown: %v", err)
	}
	query, err := unknown.RemoteQueryInterface(ctx, &remunknown.RemoteQueryInterfaceRequest{
		This: c.this, IPID: ipid.GUID(), ReferencesCount: 1, IIDsCount: 1, IIDs: []*dcom.IID{request2.CertRequestD2IID},
	})
	if err != nil || len(query.QueryInterfaceResults) != 1 {
		t.Fatalf("RemQueryInterface: %v", err)
	}
	second, err := request2.NewCertRequestD2Client(ctx, dial(r.ObjectPort()), append(c.security, dcom.WithIPID(query.QueryInterfaceResults[0].Std.IPID))...)
	if err != nil {
		t.Fatalf("binding the second interface: %v", err)
	}
	if _, err := second.Ping2(ctx, &request2.Ping2Request{This: c.this, Authority: ca.Name()}); err != nil {
		t.Errorf("Ping2: %v", err)
	}
	if _, err := unknown.RemoteRelease(ctx, &remunknown.RemoteReleaseRequest{This: c.this, InterfaceReferencesCount: 1,
		InterfaceReferences: []*dcom.RemoteInterfaceReference{{IPID: ipid, PublicReferencesCount: 5}}}); err != nil {
		t.Errorf("RemRelease: %v", err)
	}
	if _, err := requests.Request(ctx, ask); err == nil {
		t.Error("an object outlived its release")
	}
}

func TestMechanismsAreOffWhenSwitchedOff(t *testing.T) {
	ca := newCA(t, Options{})
	r := serveRPC(t, ca, RPCOptions{NoNTLM: true})
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.PassagePort()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := conn.Write(bindPDU(t, []byte{authNTLM, levelPrivacy, 0, 0, 1, 0, 0, 0}, []byte("NTLMSSP\x00"))); err != nil {
		t.Fatal(err)
	}
	p, err := readPDU(conn)
	if err != nil || p.kind != pduBindNak || p.body[0] != 8 {
		t.Errorf("answer to NTLM: %v, %v", p, err)
	}
}

func TestManyConnectionsAtOnce(t *testing.T) {
	const clients, each = 16, 8
	ca := newCA(t, Options{})
	r := serveRPC(t, ca, RPCOptions{})
	csr := newCSR(t, testkeys.P256(0))
	var wg sync.WaitGroup
	for range clients {
		c := newClient(t, r, "svc", dcerpc.WithSeal())
		ctx := c.context()
		wg.Go(func() {
			requests, err := c.request(ctx)
			if err != nil {
				t.Errorf("activating: %v", err)
				return
			}
			for range each {
				if got, err := requests.Request2(ctx, c.submission("IntuneDevice", csr)); err != nil || got.Disposition != DispositionIssued {
					t.Errorf("Request2: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	serials := map[string]bool{}
	for _, row := range ca.Rows() {
		serials[row.Serial] = true
	}
	if len(serials) != clients*each {
		t.Errorf("%d serial numbers, want %d", len(serials), clients*each)
	}
}
