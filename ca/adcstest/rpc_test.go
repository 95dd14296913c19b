package adcstest

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"
	"time"

	"github.com/oiweiwei/go-msrpc/dcerpc"
	"github.com/oiweiwei/go-msrpc/msrpc/dcom/csra"
	admin "github.com/oiweiwei/go-msrpc/msrpc/dcom/csra/icertadmind/v0"
	admin2 "github.com/oiweiwei/go-msrpc/msrpc/dcom/csra/icertadmind2/v0"
	request2 "github.com/oiweiwei/go-msrpc/msrpc/dcom/wcce/icertrequestd2/v0"
	icpr "github.com/oiweiwei/go-msrpc/msrpc/icpr/icertpassage/v0"

	"github.com/certconnector/certconnector/internal/testkeys"
)

func serveRPC(t *testing.T, c *CA, o RPCOptions) *RPC {
	t.Helper()
	r, err := c.ServeRPC(o)
	if err != nil {
		t.Fatalf("ServeRPC: %v", err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return r
}

func TestRequest2OverDCOM(t *testing.T) {
	ca := newCA(t, Options{})
	r := serveRPC(t, ca, RPCOptions{})
	c := newClient(t, r, "svc", dcerpc.WithSeal())
	ctx := c.context()
	requests, err := c.request(ctx)
	if err != nil {
		t.Fatalf("activating: %v", err)
	}
	csr := newCSR(t, testkeys.RSA2048(0))
	got, err := requests.Request2(ctx, c.submission("IntuneDevice", csr))
	if err != nil {
		t.Fatalf("Request2: %v", err)
	}
	cert, err := x509.ParseCertificate(got.EncodedCert.Buffer)
	if got.Disposition != DispositionIssued || err != nil || cert.CheckSignatureFrom(ca.Certificate()) != nil {
		t.Fatalf("disposition 0x%x, certificate: %v", got.Disposition, err)
	}
	refused, err := requests.Request2(ctx, c.submission("IntuneForbidden", csr))
	if err != nil || int32(refused.Disposition) != TemplateDenied || decodeUTF16(refused.DispositionMessage.Buffer, false) == "" {
		t.Errorf("refusal: disposition 0x%x, %v", refused.Disposition, err)
	}
	again, err := requests.Request2(ctx, &request2.Request2Request{This: c.this, Authority: ca.Name(), RequestID: got.RequestID, Request: blob(nil)})
	if err != nil || !bytes.Equal(again.EncodedCert.Buffer, cert.Raw) {
		t.Errorf("retrieving: %v", err)
	}
	property, err := requests.GetCAProperty(ctx, &request2.GetCAPropertyRequest{This: c.this, Authority: ca.Name(), PropertyID: 6, PropertyType: 4})
	if err != nil || decodeUTF16(property.PropertyValue.Buffer, false) != ca.Name() {
		t.Errorf("CANAME: %v", err)
	}
	if _, err := requests.Ping2(ctx, &request2.Ping2Request{This: c.this, Authority: ca.Name()}); err != nil {
		t.Errorf("Ping2: %v", err)
	}
	if seen := r.Callers(); len(seen) != 1 || seen[0] != (Caller{`CORP\svc`, "NTLM", levelPrivacy}) {
		t.Errorf("callers %v", seen)
	}
}

func TestLongRequestsGoInFragments(t *testing.T) {
	ca := newCA(t, Options{})
	c := newClient(t, serveRPC(t, ca, RPCOptions{}), "svc", dcerpc.WithSeal())
	ctx := c.context()
	requests, err := c.request(ctx)
	if err != nil {
		t.Fatalf("activating: %v", err)
	}
	var names []asn1.RawValue
	for range 2000 {
		names = append(names, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 2, Bytes: []byte("device-with-a-long-name.corp.test")})
	}
	value, err := asn1.Marshal(names)
	if err != nil {
		t.Fatal(err)
	}
	got, err := requests.Request2(ctx, c.submission("IntuneDevice", newCSR(t, testkeys.P256(0), pkix.Extension{Id: oidSAN, Value: value})))
	if err != nil || got.Disposition != DispositionIssued {
		t.Fatalf("disposition %v: %v", got, err)
	}
	if cert, err := x509.ParseCertificate(got.EncodedCert.Buffer); err != nil || len(cert.DNSNames) != 2000 {
		t.Errorf("certificate of 2000 names: %v", err)
	}
}

func TestPrivacyIsWanted(t *testing.T) {
	ca := newCA(t, Options{})
	r := serveRPC(t, ca, RPCOptions{})
	c := newClient(t, r, "svc", dcerpc.WithSign())
	ctx := c.context()
	requests, err := c.request(ctx)
	if err != nil {
		t.Fatalf("activating at packet integrity: %v", err)
	}
	if _, err = requests.Request2(ctx, c.submission("IntuneDevice", newCSR(t, testkeys.P256(0)))); err == nil {
		t.Error("a signed but readable request was served")
	}
	passage, err := c.passage(ctx, r.PassagePort())
	if err != nil {
		t.Fatalf("binding ICertPassage: %v", err)
	}
	in := &icpr.CertServerRequestRequest{
		Flags: requestPKCS10, Authority: ca.Name(), Attributes: blob(wireString("CertificateTemplate:IntuneDevice")), Request: blob(newCSR(t, testkeys.P256(0))),
	}
	if _, err = passage.CertServerRequest(ctx, in); err == nil {
		t.Error("a signed but readable request was served by ICertPassage")
	}
	if len(ca.Rows()) != 0 {
		t.Error("a row was made")
	}
}

func TestWrongPasswordIsKeptOut(t *testing.T) {
	ca := newCA(t, Options{})
	c := newClient(t, serveRPC(t, ca, RPCOptions{}), "nobody", dcerpc.WithSeal())
	if _, err := c.request(c.context()); err == nil {
		t.Error("an unknown account activated an object")
	}
}

func TestCertPassage(t *testing.T) {
	ca := newCA(t, Options{})
	r := serveRPC(t, ca, RPCOptions{NoDCOM: true})
	c := newClient(t, r, "svc", dcerpc.WithSeal())
	ctx := c.context()
	passage, err := c.passage(ctx, r.PassagePort())
	if err != nil {
		t.Fatalf("binding: %v", err)
	}
	in := &icpr.CertServerRequestRequest{
		Flags: requestPKCS10, Authority: ca.Name(), Attributes: blob(wireString("CertificateTemplate:IntuneManual")), Request: blob(newCSR(t, testkeys.P256(0))),
	}
	parked, err := passage.CertServerRequest(ctx, in)
	if err != nil || parked.Disposition != DispositionUnderSubmission {
		t.Fatalf("parking: %v, %v", parked, err)
	}
	wantCode(t, ca.Approve("officer", parked.RequestID), 0)
	got, err := passage.CertServerRequest(ctx, &icpr.CertServerRequestRequest{Authority: ca.Name(), RequestID: parked.RequestID, Attributes: blob(nil), Request: blob(nil)})
	if err != nil || got.Disposition != DispositionIssued {
		t.Errorf("retrieving: %v, %v", got, err)
	}
	in.Attributes = blob(encodeUTF16("CertificateTemplate:IntuneDevice"))
	if got, _ := passage.CertServerRequest(ctx, in); got == nil || int32(got.Return) != InvalidArgument {
		t.Errorf("attributes without a NUL: %v", got)
	}
	in.Authority = "Another CA"
	if got, _ := passage.CertServerRequest(ctx, in); got == nil || int32(got.Return) != InvalidArgument {
		t.Errorf("another CA's name: %v", got)
	}
	if _, err := c.request(ctx); err == nil {
		t.Error("an object was activated where DCOM is off")
	}
}

func TestAdministration(t *testing.T) {
	ca := newCA(t, Options{})
	r := serveRPC(t, ca, RPCOptions{})
	issued, cert := mustIssue(t, ca)
	serial := serialText(cert.SerialNumber)
	parked := submit(t, ca, "svc", "IntuneManual")

	low := newClient(t, r, "low", dcerpc.WithSeal())
	ctx := low.context()
	nobody, err := low.admin(ctx)
	if err != nil {
		t.Fatalf("activating: %v", err)
	}
	revoke := &admin.RevokeCertificateRequest{This: low.this, Authority: ca.Name(), SerialNumber: serial, Reason: 4, FileTime: filetimeOf(time.Now())}
	if got, _ := nobody.CertAdminD().RevokeCertificate(ctx, revoke); got == nil || got.Return != AccessDenied {
		t.Errorf("revoking without a right: %v", got)
	}
	state, err := nobody.CertAdminD().GetServerState(ctx, &admin.GetServerStateRequest{This: low.this, Authority: ca.Name()})
	if err != nil || state.State != 0 {
		t.Errorf("state %v: %v", state, err)
	}

	officer := newClient(t, r, "officer", dcerpc.WithSeal())
	ctx = officer.context()
	all, err := officer.admin(ctx)
	if err != nil {
		t.Fatalf("activating: %v", err)
	}
	if got, err := all.CertAdminD().RevokeCertificate(ctx, revoke); err != nil || got.Return != 0 {
		t.Errorf("revoking: %v, %v", got, err)
	}
	valid, err := all.CertAdminD().IsValidCertificate(ctx, &admin.IsValidCertificateRequest{This: officer.this, Authority: ca.Name(), SerialNumber: serial})
	if err != nil || valid.Disposition != int32(ValidityRevoked) || valid.RevocationReason != 4 {
		t.Errorf("validity %v: %v", valid, err)
	}
	approved, err := all.CertAdminD().ResubmitRequest(ctx, &admin.ResubmitRequestRequest{This: officer.this, Authority: ca.Name(), RequestID: parked.RequestID})
	if err != nil || approved.Disposition != DispositionIssued {
		t.Errorf("approving: %v, %v", approved, err)
	}
	if got, _ := all.CertAdminD().DenyRequest(ctx, &admin.DenyRequestRequest{This: officer.this, Authority: ca.Name(), RequestID: issued.RequestID}); got == nil || got.Return != BadStatus {
		t.Errorf("denying what is issued: %v", got)
	}
	if got, _ := all.PublishCRLs(ctx, &admin2.PublishCRLsRequest{This: officer.this, Authority: ca.Name(), FileTime: filetimeOf(time.Now().Add(time.Hour)), Flags: PublishBase}); got == nil || got.Return != AccessDenied {
		t.Errorf("publishing as an officer: %v", got)
	}
	wantCode(t, ca.PublishCRLs("admin", 0, PublishBase), 0)
	list, err := all.CertAdminD().GetCRL(ctx, &admin.GetCRLRequest{This: officer.this, Authority: ca.Name()})
	if err != nil || !bytes.Equal(list.CRL.Buffer, ca.CRL(false)) {
		t.Errorf("GetCRL: %v", err)
	}
	roles, err := all.GetMyRoles(ctx, &admin2.GetMyRolesRequest{This: officer.this, Authority: ca.Name()})
	if err != nil || uint32(roles.Roles) != RoleOfficer|RoleRead {
		t.Errorf("roles %v: %v", roles, err)
	}
}

func TestView(t *testing.T) {
	ca := newCA(t, Options{})
	r := serveRPC(t, ca, RPCOptions{})
	for range 5 {
		mustIssue(t, ca)
	}
	submit(t, ca, "svc", "IntuneManual")
	c := newClient(t, r, "reader", dcerpc.WithSeal())
	ctx := c.context()
	d2, err := c.admin(ctx)
	if err != nil {
		t.Fatalf("activating: %v", err)
	}
	a := d2.CertAdminD()
	columns, err := a.EnumViewColumn(ctx, &admin.EnumViewColumnRequest{This: c.this, Authority: ca.Name(), ColumnCount: 200})
	if err != nil || columns.ColumnOutCount != 81 {
		t.Fatalf("columns %v: %v", columns, err)
	}
	from := &csra.CertViewRestriction{ColumnIndex: 0x1000, SeekOperator: seekGreater, Value: le32(2), ValueLength: 4}
	opened, err := a.OpenView(ctx, c.openView([]uint32{0x1000, 0x1009, 0x2007}, 0, 3, from))
	if err != nil || opened.Fetched != 3 || le.Uint32(opened.ResultRows.Buffer) != 3 {
		t.Fatalf("opening: %v, %v", opened, err)
	}
	if again, _ := a.OpenView(ctx, c.openView([]uint32{0x1000}, 0, 1)); again == nil || again.Return != Unexpected {
		t.Errorf("a second view: %v", again)
	}
	rest, _ := a.EnumView(ctx, &admin.EnumViewRequest{This: c.this, Authority: ca.Name(), ID: 3, Count: 100})
	if rest == nil || rest.Fetched != 1 || rest.Return != SFalse {
		t.Fatalf("the rest: %v", rest)
	}
	closing := rest.ResultRows.Buffer[le.Uint32(rest.ResultRows.Buffer[8:]):]
	if len(closing) != 12 || le.Uint32(closing) != 4 || le.Uint32(closing[4:]) != ^uint32(4) {
		t.Errorf("closing row %x", closing)
	}
	if _, err := a.CloseView(ctx, &admin.CloseViewRequest{This: c.this, Authority: ca.Name()}); err != nil || r.OpenViews() != 0 {
		t.Errorf("closing: %v, %d views are open", err, r.OpenViews())
	}
	attributes, _ := a.EnumAttributesOrExtensions(ctx, &admin.EnumAttributesOrExtensionsRequest{This: c.this, Authority: ca.Name(), RowID: 1, Count: 10})
	if attributes == nil || attributes.Fetched != 1 {
		t.Errorf("attributes %v", attributes)
	}
}

func TestCorruptReplyDoesNotPass(t *testing.T) {
	ca := newCA(t, Options{})
	c := newClient(t, serveRPC(t, ca, RPCOptions{}), "svc", dcerpc.WithSeal())
	ctx := c.context()
	requests, err := c.request(ctx)
	if err != nil {
		t.Fatalf("activating: %v", err)
	}
	ca.Fail(CorruptReply, 1)
	if _, err := requests.Request2(ctx, c.submission("IntuneDevice", newCSR(t, testkeys.P256(0)))); err == nil {
		t.Error("a damaged reply was taken")
	}
}

func TestDropAndRestart(t *testing.T) {
	ca := newCA(t, Options{})
	r := serveRPC(t, ca, RPCOptions{})
	c := newClient(t, r, "svc", dcerpc.WithSeal())
	ctx := c.context()
	requests, err := c.request(ctx)
	if err != nil {
		t.Fatalf("activating: %v", err)
	}
	ca.Fail(DropAfterIssue, 1)
	if _, err := requests.Request2(ctx, c.submission("IntuneDevice", newCSR(t, testkeys.P256(0)))); err == nil {
		t.Error("the answer came")
	}
	if rows := ca.Rows(); len(rows) != 1 || rows[0].Certificate == nil {
		t.Error("nothing was issued")
	}
	if requests, err = c.request(ctx); err != nil {
		t.Fatalf("activating again: %v", err)
	}
	before := r.ObjectPort()
	if err := ca.Restart(); err != nil || r.ObjectPort() == before {
		t.Fatalf("Restart: %v, port %d after %d", err, r.ObjectPort(), before)
	}
	if _, err := requests.Request2(ctx, c.submission("IntuneDevice", newCSR(t, testkeys.P256(0)))); err == nil {
		t.Error("an object outlived the service")
	}
	fresh := newClient(t, r, "svc", dcerpc.WithSeal())
	ctx = fresh.context()
	if requests, err = fresh.request(ctx); err != nil {
		t.Fatalf("activating after the restart: %v", err)
	}
	if got, err := requests.Request2(ctx, fresh.submission("IntuneDevice", newCSR(t, testkeys.P256(0)))); err != nil || got.Disposition != DispositionIssued {
		t.Errorf("after the restart: %v", err)
	}
}

func TestStallEndsWithTheClient(t *testing.T) {
	ca := newCA(t, Options{})
	r := serveRPC(t, ca, RPCOptions{})
	c := newClient(t, r, "svc", dcerpc.WithSeal())
	ctx := c.context()
	requests, err := c.request(ctx)
	if err != nil {
		t.Fatalf("activating: %v", err)
	}
	ca.Fail(Stall, -1)
	failed := make(chan error, 1)
	go func() {
		_, err := requests.Request2(ctx, c.submission("IntuneDevice", newCSR(t, testkeys.P256(0))))
		failed <- err
	}()
	select {
	case err := <-failed:
		t.Fatalf("an answer came: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	if err := ca.Restart(); err != nil {
		t.Fatalf("Restart: %v", err)
	}
	if err := <-failed; err == nil {
		t.Error("a cut connection brought an answer")
	}
	if len(ca.Rows()) != 0 {
		t.Error("a stalled request was carried out")
	}
}
