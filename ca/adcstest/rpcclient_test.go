package adcstest

import (
	"context"
	"crypto/subtle"
	"fmt"
	"testing"
	"time"

	"github.com/oiweiwei/go-msrpc/dcerpc"
	"github.com/oiweiwei/go-msrpc/msrpc/dcom"
	"github.com/oiweiwei/go-msrpc/msrpc/dcom/csra"
	admin "github.com/oiweiwei/go-msrpc/msrpc/dcom/csra/icertadmind/v0"
	admin2 "github.com/oiweiwei/go-msrpc/msrpc/dcom/csra/icertadmind2/v0"
	oxid "github.com/oiweiwei/go-msrpc/msrpc/dcom/iobjectexporter/v0"
	scm "github.com/oiweiwei/go-msrpc/msrpc/dcom/iremotescmactivator/v0"
	request2 "github.com/oiweiwei/go-msrpc/msrpc/dcom/wcce/icertrequestd2/v0"
	"github.com/oiweiwei/go-msrpc/msrpc/dtyp"
	icpr "github.com/oiweiwei/go-msrpc/msrpc/icpr/icertpassage/v0"
	"github.com/oiweiwei/go-msrpc/ssp/credential"
	"github.com/oiweiwei/go-msrpc/ssp/gssapi"
	"github.com/oiweiwei/go-msrpc/ssp/ntlm"
)

// strictNTLM is the library's NTLM with the check of the reply's signature that
// it leaves out.
type strictNTLM struct{ ntlm.Mechanism }

func (strictNTLM) New(ctx context.Context) (gssapi.Mechanism, error) {
	m, err := ntlm.Mechanism{}.New(ctx)
	if err != nil {
		return nil, err
	}
	inner, ok := m.(*ntlm.Mechanism)
	if !ok {
		return nil, fmt.Errorf("the library's NTLM is a %T", m)
	}
	return &strictContext{inner}, nil
}

type strictContext struct{ *ntlm.Mechanism }

func (m *strictContext) UnwrapEx(ctx context.Context, in *gssapi.MessageTokenEx) (*gssapi.MessageTokenEx, error) {
	out, err := m.Mechanism.UnwrapEx(ctx, in)
	if err == nil && subtle.ConstantTimeCompare(in.Signature, out.Signature) != 1 {
		return nil, gssapi.ContextError(ctx, gssapi.BadMIC, gssapi.ErrBadMIC)
	}
	return out, err
}

// client is go-msrpc's client at the CA's door.
type client struct {
	t        *testing.T
	port     int
	security []dcerpc.Option
	this     *dcom.ORPCThis
}

func newClient(t *testing.T, r *RPC, account string, level dcerpc.Option) *client {
	return &client{t: t, port: r.EndpointMapperPort(), security: []dcerpc.Option{
		dcerpc.WithCredentials(credential.NewFromPassword(`CORP\`+account, DefaultPassword)),
		dcerpc.WithMechanism(strictNTLM{}), dcerpc.WithTargetName("host/ca01.corp.test"), level,
	}}
}

func (c *client) context() context.Context {
	ctx, cancel := context.WithTimeout(gssapi.NewSecurityContext(c.t.Context()), 2*time.Minute)
	c.t.Cleanup(cancel)
	return ctx
}

// activate gets a new object.
func (c *client) activate(ctx context.Context, class string, iid *dcom.IID) (dcerpc.Conn, dcerpc.Option, error) {
	mapper, err := dcerpc.Dial(ctx, "127.0.0.1", dcerpc.WithEndpoint(fmt.Sprintf("ncacn_ip_tcp:[%d]", c.port)))
	if err != nil {
		return nil, nil, err
	}
	defer mapper.Close(ctx)
	resolver, err := oxid.NewObjectExporterClient(ctx, mapper, dcerpc.WithInsecure())
	if err != nil {
		return nil, nil, err
	}
	alive, err := resolver.ServerAlive2(ctx, &oxid.ServerAlive2Request{})
	if err != nil {
		return nil, nil, err
	}
	c.this = &dcom.ORPCThis{Version: alive.COMVersion, CID: &dcom.CID{}}
	activator, err := scm.NewRemoteSCMActivatorClient(ctx, mapper, c.security...)
	if err != nil {
		return nil, nil, err
	}
	properties := &dcom.ActivationProperties{DestinationContext: 2, Properties: []dcom.ActivationProperty{
		&dcom.InstantiationInfoData{ClassID: classID(class), IID: []*dcom.IID{iid}, IIDCount: 1, ClassContext: 0x14, ClientCOMVersion: alive.COMVersion},
		&dcom.ActivationContextInfoData{}, &dcom.LocationInfoData{},
		&dcom.SCMRequestInfoData{RemoteRequest: &dcom.CustomRemoteRequestSCMInfo{ClientImpLevel: 3, RequestedProtocolSequencesCount: 1, RequestedProtocolSequences: []uint16{7}}},
	}}
	in, err := properties.ActivationPropertiesIn()
	if err != nil {
		return nil, nil, err
	}
	reply, err := activator.RemoteCreateInstance(ctx, &scm.RemoteCreateInstanceRequest{ORPCThis: c.this, ActPropertiesIn: in})
	if err != nil {
		return nil, nil, err
	}
	out := &dcom.ActivationProperties{}
	if err := out.Parse(reply.ActPropertiesOut); err != nil {
		return nil, nil, err
	}
	bindings := out.SCMReplyInfoData().RemoteReply.OXIDBindings.EndpointsByProtocol("ncacn_ip_tcp")
	object, err := dcerpc.Dial(ctx, "127.0.0.1", bindings...)
	return object, dcom.WithIPID(out.PropertiesOutInfo().InterfaceData[0].IPID()), err
}

func classID(text string) *dcom.ClassID {
	id := syntax(text, 0)
	return (*dcom.ClassID)(guid([16]byte(id[:16])))
}

func (c *client) request(ctx context.Context) (request2.CertRequestD2Client, error) {
	conn, ipid, err := c.activate(ctx, classRequest, request2.CertRequestD2IID)
	if err != nil {
		return nil, err
	}
	c.t.Cleanup(func() { conn.Close(context.WithoutCancel(ctx)) })
	return request2.NewCertRequestD2Client(ctx, conn, append(c.security, ipid)...)
}

func (c *client) admin(ctx context.Context) (admin2.CertAdminD2Client, error) {
	conn, ipid, err := c.activate(ctx, classAdmin, admin2.CertAdminD2IID)
	if err != nil {
		return nil, err
	}
	c.t.Cleanup(func() { conn.Close(context.WithoutCancel(ctx)) })
	return admin2.NewCertAdminD2Client(ctx, conn, append(c.security, ipid)...)
}

func (c *client) passage(ctx context.Context, port int) (icpr.CertPassageClient, error) {
	conn, err := dcerpc.Dial(ctx, "127.0.0.1", dcerpc.WithEndpoint(fmt.Sprintf("ncacn_ip_tcp:[%d]", port)))
	if err != nil {
		return nil, err
	}
	c.t.Cleanup(func() { conn.Close(context.WithoutCancel(ctx)) })
	return icpr.NewCertPassageClient(ctx, conn, c.security...)
}

func (c *client) submission(template string, csr []byte) *request2.Request2Request {
	return &request2.Request2Request{
		This: c.this, Authority: "Corp Issuing CA", Flags: requestPKCS10, Attributes: "CertificateTemplate:" + template, Request: blob(csr),
	}
}

func filetimeOf(t time.Time) *dtyp.Filetime {
	b := filetime(t)
	return &dtyp.Filetime{LowDateTime: le.Uint32(b), HighDateTime: le.Uint32(b[4:])}
}

func (c *client) openView(columns []uint32, first, count uint32, restrictions ...*csra.CertViewRestriction) *admin.OpenViewRequest {
	return &admin.OpenViewRequest{
		This: c.this, Authority: "Corp Issuing CA", ColumnsCountOut: uint32(len(columns)), ColumnsOut: columns,
		CertViewRestrictionCount: uint32(len(restrictions)), CertViewRestrictions: restrictions, ID: first, Count: count,
	}
}
