package adcstest

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/internal/testkeys"
)

func newCA(t testing.TB, o Options) *CA {
	t.Helper()
	c, err := New(o)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	return c
}

func newCSR(t testing.TB, key crypto.Signer, extensions ...pkix.Extension) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "device-1"}, DNSNames: []string{"device-1.corp.test"}, ExtraExtensions: extensions,
	}, key)
	if err != nil {
		t.Fatalf("making a request: %v", err)
	}
	return der
}

func submit(t testing.TB, c *CA, account, template string) Outcome {
	t.Helper()
	return c.Submit(t.Context(), account, "CertificateTemplate:"+template, newCSR(t, testkeys.P256(0)))
}

func mustIssue(t testing.TB, c *CA) (Outcome, *x509.Certificate) {
	t.Helper()
	o := submit(t, c, "svc", "IntuneDevice")
	cert, err := x509.ParseCertificate(o.Certificate)
	if o.Disposition != DispositionIssued || err != nil {
		t.Fatalf("disposition %d, 0x%08x %s: %v", o.Disposition, uint32(o.HResult), o.Message, err)
	}
	return o, cert
}

func wantCode(t testing.TB, got, want int32) {
	t.Helper()
	if got != want {
		t.Errorf("got 0x%08x, want 0x%08x", uint32(got), uint32(want))
	}
}

func TestIssue(t *testing.T) {
	for _, useRSA := range []bool{false, true} {
		c := newCA(t, Options{RSA: useRSA})
		o, cert := mustIssue(t, c)
		if err := cert.CheckSignatureFrom(c.Certificate()); err != nil {
			t.Errorf("not issued by the CA: %v", err)
		}
		if err := c.Certificate().CheckSignatureFrom(c.Root()); err != nil {
			t.Errorf("the CA is not below its root: %v", err)
		}
		if o.RequestID != 1 || cert.Subject.CommonName != "device-1" || !slices.Equal(cert.DNSNames, []string{"device-1.corp.test"}) {
			t.Errorf("request %d, subject %v, names %v", o.RequestID, cert.Subject, cert.DNSNames)
		}
		if !bytes.Contains(o.Chain, c.Root().Raw) || !bytes.Contains(o.Chain, cert.Raw) {
			t.Error("the chain lacks the certificate or the root")
		}
		again := c.Retrieve("enroll", 0, serialText(cert.SerialNumber))
		if !bytes.Equal(again.Certificate, cert.Raw) {
			t.Error("retrieved another certificate by its serial number")
		}
	}
}

func TestRefusals(t *testing.T) {
	conflict, err := asn1.Marshal(templateInfo{ID: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 21, 8, 1000001, 2000002, 3000003, 4000004, 5000005, 1, 103}, Major: 1})
	if err != nil {
		t.Fatal(err)
	}
	tampered := newCSR(t, testkeys.P256(0))
	tampered[len(tampered)-1] ^= 1
	for _, c := range []struct {
		name, account, attributes string
		csr                       []byte
		want                      int32
	}{
		{"unknown account has no right on the CA", "nobody", "CertificateTemplate:IntuneDevice", nil, EnrollDenied},
		{"account without Request Certificates", `CORP\low`, "CertificateTemplate:IntuneDevice", nil, EnrollDenied},
		{"account without Enroll on the template", "svc@CORP.TEST", "CertificateTemplate:Machine", nil, TemplateDenied},
		{"template that denies", "svc", "certificate template: IntuneForbidden", nil, TemplateDenied},
		{"unknown template", "svc", "CertificateTemplate:Nothing", nil, UnknownTemplate},
		{"display name is no template", "svc", "CertificateTemplate:Intune Device", nil, UnknownTemplate},
		{"no template", "svc", "", nil, NoTemplate},
		{"attribute and extension differ", "svc", "CertificateTemplate:IntuneDevice", newCSR(t, testkeys.P256(0), pkix.Extension{Id: oidTemplateInfo, Value: conflict}), TemplateConflict},
		{"key shorter than the template's", "svc", "CertificateTemplate:IntuneDevice", newCSR(t, testkeys.RSA1024()), KeyLength},
		{"no request at all", "svc", "CertificateTemplate:IntuneDevice", []byte("nonsense"), BadASN1},
		{"signature does not fit", "svc", "CertificateTemplate:IntuneDevice", tampered, BadSignature},
	} {
		t.Run(c.name, func(t *testing.T) {
			ca := newCA(t, Options{})
			if c.csr == nil {
				c.csr = newCSR(t, testkeys.P256(0))
			}
			o := ca.Submit(t.Context(), c.account, c.attributes, c.csr)
			wantCode(t, o.HResult, c.want)
			if o.Certificate != nil || o.Message == "" || o.Disposition == DispositionIssued {
				t.Errorf("certificate %t, disposition %d, message %q", o.Certificate != nil, o.Disposition, o.Message)
			}
		})
	}
}

func TestPending(t *testing.T) {
	c := newCA(t, Options{})
	o := submit(t, c, "svc", "IntuneManual")
	if o.Disposition != DispositionUnderSubmission || !slices.Equal(c.Pending(), []uint32{o.RequestID}) {
		t.Fatalf("disposition %d, pending %v", o.Disposition, c.Pending())
	}
	wantCode(t, c.Approve("enroll", o.RequestID), AccessDenied)
	wantCode(t, c.Approve("officer", 77), PropertyEmpty)
	wantCode(t, c.Approve("officer", o.RequestID), 0)
	wantCode(t, c.Deny("officer", o.RequestID), BadStatus)
	if got := c.Retrieve("svc", o.RequestID, ""); got.Disposition != DispositionIssued || got.Certificate == nil {
		t.Errorf("after approval: disposition %d", got.Disposition)
	}
	denied := submit(t, c, "svc", "IntuneManual")
	wantCode(t, c.Deny("officer", denied.RequestID), 0)
	got := c.Retrieve("svc", denied.RequestID, "")
	wantCode(t, got.HResult, AdminDenied)
	if got.Disposition != DispositionDenied {
		t.Errorf("after denial: disposition %d", got.Disposition)
	}
	wantCode(t, c.Retrieve("svc", 99, "").HResult, PropertyEmpty)
	if err := c.Restart(); err != nil {
		t.Fatalf("Restart: %v", err)
	}
	if got := c.Retrieve("svc", o.RequestID, ""); got.Certificate == nil {
		t.Error("a restart lost a certificate")
	}
}

func TestValidityAttributes(t *testing.T) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	year := now.Add(365 * 24 * time.Hour)
	for _, c := range []struct {
		name, attributes string
		flag             bool
		want             time.Time
	}{
		{"without the flag attributes are ignored", "ValidityPeriod:Days\nValidityPeriodUnits:3", false, year},
		{"period shortens", "ValidityPeriod:Days\nValidityPeriodUnits:3", true, now.AddDate(0, 0, 3)},
		{"period does not lengthen", "ValidityPeriod:Years\nValidityPeriodUnits:3", true, year},
		{"end date shortens", "ExpirationDate:Fri, 06 Mar 2026 05:06:07 GMT", true, now.AddDate(0, 0, 2)},
		{"unreadable period is ignored", "ValidityPeriod:Fortnights\nValidityPeriodUnits:3", true, year},
	} {
		t.Run(c.name, func(t *testing.T) {
			ca := newCA(t, Options{EndDateFlag: c.flag, Clock: func() time.Time { return now }})
			o := ca.Submit(t.Context(), "svc", "CertificateTemplate:IntuneDevice\r\n"+c.attributes, newCSR(t, testkeys.P256(0)))
			cert, err := x509.ParseCertificate(o.Certificate)
			if err != nil || !cert.NotAfter.Equal(c.want) {
				t.Fatalf("ends %v, want %v (%v)", cert.NotAfter, c.want, err)
			}
		})
	}
}

func TestNamesComeFromRequestOrDirectory(t *testing.T) {
	c := newCA(t, Options{})
	sid := pkix.Extension{Id: oidSID, Value: []byte{0x30, 0}}
	csr := newCSR(t, testkeys.P256(0), sid)
	has := func(cert *x509.Certificate) bool {
		return slices.ContainsFunc(cert.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oidSID) })
	}
	for template, supplied := range map[string]bool{"IntuneDevice": true, "User": false} {
		cert, err := x509.ParseCertificate(c.Submit(t.Context(), "svc", "CertificateTemplate:"+template, csr).Certificate)
		if err != nil {
			t.Fatalf("%s: %v", template, err)
		}
		if has(cert) != supplied || (cert.Subject.CommonName == "device-1") != supplied || (len(cert.DNSNames) > 0) != supplied {
			t.Errorf("%s: SID extension %t, subject %v, names %v", template, has(cert), cert.Subject, cert.DNSNames)
		}
	}
}

func TestRevocation(t *testing.T) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	c := newCA(t, Options{Clock: func() time.Time { return now }})
	_, cert := mustIssue(t, c)
	serial := serialText(cert.SerialNumber)
	state := func(validity, reason uint32) {
		t.Helper()
		if v, r := c.IsValid(serial); v != validity || r != reason {
			t.Errorf("validity %d for reason %d, want %d for %d", v, r, validity, reason)
		}
	}
	state(ValidityValid, 0)
	wantCode(t, c.Revoke("enroll", serial, 4, now), AccessDenied)
	wantCode(t, c.Revoke("officer", "12ab", 4, now), InvalidArgument)
	wantCode(t, c.Revoke("officer", strings.ToUpper(serial), 4, now), InvalidArgument)
	wantCode(t, c.Revoke("officer", serial, 9, now), InvalidArgument)
	wantCode(t, c.Revoke("officer", serial, ReasonRelease, now), InvalidData)
	wantCode(t, c.Revoke("officer", serial, ReasonHold, now), 0)
	state(ValidityRevoked, ReasonHold)
	wantCode(t, c.PublishCRLs("officer", 0, PublishBase), AccessDenied)
	wantCode(t, c.PublishCRLs("admin", 0, PublishBase), 0)
	wantEntry(t, c, false, cert, int(ReasonHold))
	wantCode(t, c.Revoke("officer", serial, ReasonRelease, now), 0)
	state(ValidityValid, 0)
	wantCode(t, c.PublishCRLs("admin", 0, PublishDelta), 0)
	wantEntry(t, c, true, cert, int(ReasonRemoveFromCRL))
	wantCode(t, c.Revoke("officer", serial, 4, now), 0)
	wantCode(t, c.Revoke("officer", serial, 1, now), 0)
	wantCode(t, c.Revoke("officer", serial, ReasonHold, now), InvalidData)
	state(ValidityRevoked, 1)
	wantCode(t, c.PublishCRLs("admin", time.Hour, PublishBase|PublishDelta), 0)
	wantEntry(t, c, false, cert, 1)
	wantEntry(t, c, true, cert, 1)
	wantCode(t, c.Revoke("officer", serial, 1, now.Add(time.Hour)), 0)
	state(ValidityValid, 0)
}

func wantEntry(t *testing.T, c *CA, delta bool, cert *x509.Certificate, reason int) {
	t.Helper()
	list, err := x509.ParseRevocationList(c.CRL(delta))
	if err != nil || list.CheckSignatureFrom(c.Certificate()) != nil {
		t.Fatalf("the list does not read or is not signed by the CA: %v", err)
	}
	isDelta := slices.ContainsFunc(list.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oidDeltaIndicator) && e.Critical })
	if isDelta != delta || len(list.RevokedCertificateEntries) != 1 {
		t.Fatalf("delta %t, want %t; %d entries", isDelta, delta, len(list.RevokedCertificateEntries))
	}
	if e := list.RevokedCertificateEntries[0]; e.SerialNumber.Cmp(cert.SerialNumber) != 0 || e.ReasonCode != reason {
		t.Errorf("entry %X for reason %d, want %X for %d", e.SerialNumber, e.ReasonCode, cert.SerialNumber, reason)
	}
}

func TestOfficerRestrictionsAndRoleSeparation(t *testing.T) {
	c := newCA(t, Options{RoleSeparation: true, Accounts: append(DefaultAccounts(),
		Account{Name: "narrow", Officer: true, OfficerTemplates: []string{"User"}},
		Account{Name: "both", Officer: true, Administrator: true})})
	_, cert := mustIssue(t, c)
	wantCode(t, c.Revoke("narrow", serialText(cert.SerialNumber), 4, time.Time{}), RestrictedOfficer)
	wantCode(t, c.Revoke("both", serialText(cert.SerialNumber), 4, time.Time{}), RoleConflict)
	if got := c.Roles("both"); got != RoleOfficer|RoleAdministrator|RoleRead {
		t.Errorf("roles 0x%x", got)
	}
}

func TestSerialNumbersHaveEvenDigits(t *testing.T) {
	c := newCA(t, Options{})
	odd := 0
	for range 32 {
		_, cert := mustIssue(t, c)
		if len(cert.SerialNumber.Text(16))%2 != 0 {
			odd++
		}
	}
	for _, r := range c.Rows() {
		if len(r.Serial)%2 != 0 || r.Serial != strings.ToLower(r.Serial) {
			t.Errorf("serial number %q", r.Serial)
		}
	}
	if odd == 0 || odd == 32 {
		t.Errorf("%d of 32 serial numbers need a leading zero, want some", odd)
	}
}

func TestProperties(t *testing.T) {
	c := newCA(t, Options{Name: "Corp/Issuing Ü"})
	text := func(s string) []byte { return wireString(s) }
	for id, want := range map[uint32][]byte{
		6: text("Corp/Issuing Ü"), 7: text("Corp!002fIssuing !00dc"), 11: le32(1), 12: c.Certificate().Raw,
		22: text("ca01.corp.test"), 23: le32(0), 24: le32(0), 17: c.CRL(false),
	} {
		got, hr := c.Property(id, NewestIndex, 0)
		if hr != 0 || !bytes.Equal(got, want) {
			t.Errorf("property %d: %x (0x%08x), want %x", id, got, uint32(hr), want)
		}
	}
	kind, _ := c.Property(10, 0, typeLong)
	if len(kind) != 40 || binary.LittleEndian.Uint32(kind[4:]) != 1 {
		t.Errorf("CAINFO %x", kind)
	}
	list, _ := c.Property(29, 0, typeString)
	if lines := strings.Split(decodeUTF16(list, false), "\n"); len(lines) != 2*len(c.Templates())+1 || lines[0] != "IntuneDevice" || lines[1] != c.Templates()[0].OID {
		t.Errorf("templates %q", lines)
	}
	for _, row := range []struct {
		name            string
		id, index, kind uint32
		want            int32
	}{
		{"empty", 18, 0, 0, PropertyEmpty}, {"unknown", 99, 0, 0, InvalidArgument},
		{"wrong type", 6, 0, typeLong, InvalidArgument}, {"no such index", 12, 5, 0, InvalidArgument},
	} {
		if _, hr := c.Property(row.id, row.index, row.kind); hr != row.want {
			t.Errorf("%s: 0x%08x, want 0x%08x", row.name, uint32(hr), uint32(row.want))
		}
	}
}

func TestFaultsCountAndHeal(t *testing.T) {
	c := newCA(t, Options{})
	_, first := mustIssue(t, c)
	c.Fail(WrongCertificate, 1)
	o := c.Submit(t.Context(), "svc", "CertificateTemplate:IntuneDevice", newCSR(t, testkeys.P256(1)))
	if !bytes.Equal(o.Certificate, first.Raw) {
		t.Error("the right certificate came")
	}
	if got := c.Retrieve("svc", o.RequestID, ""); bytes.Equal(got.Certificate, first.Raw) {
		t.Error("the fault came twice")
	}
	c.Fail(Suspended, -1)
	for range 3 {
		wantCode(t, submit(t, c, "svc", "IntuneDevice").HResult, ServerSuspended)
	}
	c.Fail(Stall, 1)
	done := make(chan struct{})
	go func() { c.stall(t.Context()); close(done) }()
	for {
		c.mu.Lock()
		waiting := c.faults[Stall] == 0
		c.mu.Unlock()
		if waiting {
			break
		}
	}
	c.Heal()
	<-done
	mustIssue(t, c)
}

func TestDatabaseRow(t *testing.T) {
	c := newCA(t, Options{})
	csr := newCSR(t, testkeys.P256(0))
	attributes := "CertificateTemplate:IntuneDevice\nConnectorTag:abcd"
	o := c.Submit(t.Context(), `CORP\svc`, attributes, csr)
	r := c.Rows()[0]
	if !bytes.Equal(r.Request, csr) || r.Attributes != attributes || r.Caller != `CORP\svc` || r.Disposition != DispositionIssued {
		t.Errorf("row of %s with attributes %q, disposition %d", r.Caller, r.Attributes, r.Disposition)
	}
	ids := map[string]uint32{}
	for _, col := range schema(false) {
		ids[col.name] = col.id
	}
	for name, want := range map[string]uint32{
		"Request.RequestID": 0x1000, "Request.RawRequest": 0x1001, "Request.RequestAttributes": 0x1005, "Request.StatusCode": 0x1008,
		"Request.Disposition": 0x1009, "Request.SubmittedWhen": 0x100b, "Request.CallerName": 0x1011,
		"RawCertificate": 0x2001, "CertificateTemplate": 0x2003, "SerialNumber": 0x2007, "RawPublicKey": 0x200c,
	} {
		if ids[name] != want {
			t.Errorf("column %s is 0x%x, want 0x%x", name, ids[name], want)
		}
	}
	if len(ids) != 81 {
		t.Errorf("%d columns, want 81", len(ids))
	}
	if !bytes.Equal(c.value(c.rows[0], "RawCertificate"), o.Certificate) || !bytes.Equal(c.value(c.rows[0], "Request.Disposition"), le32(20)) {
		t.Error("RawCertificate or Disposition does not fit the outcome")
	}
}
