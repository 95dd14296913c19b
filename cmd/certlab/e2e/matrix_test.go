//go:build e2e

package e2e

import (
	"cmp"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/intune"
	"github.com/certconnector/certconnector/intune/intunetest"
	"github.com/certconnector/certconnector/scep"
	"github.com/certconnector/certconnector/scep/scepclient"
)

const (
	clientAuth = "1.3.6.1.5.5.7.3.2"
	signs      = int(x509.KeyUsageDigitalSignature)
	enciphers  = int(x509.KeyUsageKeyEncipherment)
)

var (
	oidEmail        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}
	oidSerialNumber = asn1.ObjectIdentifier{2, 5, 4, 5}
	oidOrganization = asn1.ObjectIdentifier{2, 5, 4, 10}
	oidCommonName   = asn1.ObjectIdentifier{2, 5, 4, 3}
)

// The device of the matrix, and what its profile's variables become.
const (
	matrixDevice = "de71ce00-0000-4000-8000-000000000001"
	matrixEmail  = "user1@contoso.example"
	matrixUPN    = "user1@contoso.example"
	matrixIMEI   = "356938035643801"
	matrixSerial = "SN000001"
)

// profile is the matrix's usual profile, changed by a row.
func profile(change func(*intunetest.Profile)) intunetest.Profile {
	p := intunetest.Profile{
		Name: "matrix", Platform: "windows", Subject: "CN={{DeviceId}}", KeyUsage: signs | enciphers,
		EKU: []string{clientAuth}, KeySize: 2048, Hash: "SHA-256", Validity: 365, ValidityUnit: "Days",
	}
	change(&p)
	return p
}

// row is a line of the reference test matrix that ends with a certificate, or
// with a refusal.
type row struct {
	rule   string
	change func(*intunetest.Profile)
	path   string // empty: the usual endpoint
	key    *rsa.PrivateKey
	check  func(*testing.T, *x509.Certificate) // nil: refused
	refuse scep.FailInfo
}

func subjectIs(want ...pkix.AttributeTypeAndValue) func(*testing.T, *x509.Certificate) {
	return func(t *testing.T, cert *x509.Certificate) {
		t.Helper()
		same := func(a, b pkix.AttributeTypeAndValue) bool { return a.Type.Equal(b.Type) && a.Value == b.Value }
		if !slices.EqualFunc(cert.Subject.Names, want, same) {
			t.Errorf("subject is %v, want %v", cert.Subject.Names, want)
		}
	}
}

func attribute(id asn1.ObjectIdentifier, value string) pkix.AttributeTypeAndValue {
	return pkix.AttributeTypeAndValue{Type: id, Value: value}
}

func sanIs(emails, upns []string) func(*testing.T, *x509.Certificate) {
	return func(t *testing.T, cert *x509.Certificate) {
		t.Helper()
		if !slices.Equal(cert.EmailAddresses, emails) {
			t.Errorf("mail addresses %v, want %v", cert.EmailAddresses, emails)
		}
		if got := principalNames(t, cert); !slices.Equal(got, upns) {
			t.Errorf("user principal names %v, want %v", got, upns)
		}
	}
}

// principalNames reads the otherNames of Microsoft's UPN type.
func principalNames(t *testing.T, cert *x509.Certificate) []string {
	t.Helper()
	var names []string
	for _, e := range cert.Extensions {
		if !e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 17}) {
			continue
		}
		var all []asn1.RawValue
		if _, err := asn1.Unmarshal(e.Value, &all); err != nil {
			t.Fatal(err)
		}
		for _, n := range all {
			var other struct {
				Type  asn1.ObjectIdentifier
				Value asn1.RawValue // [0] EXPLICIT
			}
			var text asn1.RawValue
			if n.Class == asn1.ClassContextSpecific && n.Tag == 0 {
				if _, err := asn1.UnmarshalWithParams(n.FullBytes, &other, "tag:0"); err != nil {
					t.Fatal(err)
				}
				if _, err := asn1.Unmarshal(other.Value.Bytes, &text); err != nil {
					t.Fatal(err)
				}
				names = append(names, string(text.Bytes))
			}
		}
	}
	return names
}

func usageIs(want int) func(*testing.T, *x509.Certificate) {
	return func(t *testing.T, cert *x509.Certificate) {
		t.Helper()
		if int(cert.KeyUsage) != want {
			t.Errorf("key usage %b, want %b", cert.KeyUsage, want)
		}
	}
}

func ekuIs(want string) func(*testing.T, *x509.Certificate) {
	return func(t *testing.T, cert *x509.Certificate) {
		t.Helper()
		for _, e := range cert.Extensions {
			if e.Id.String() != "2.5.29.37" {
				continue
			}
			var oids []asn1.ObjectIdentifier
			if _, err := asn1.Unmarshal(e.Value, &oids); err != nil || len(oids) != 1 || oids[0].String() != want {
				t.Errorf("extended key usages %v (%v), want %s", oids, err, want)
			}
			return
		}
		t.Error("no extended key usage")
	}
}

func anyCertificate(*testing.T, *x509.Certificate) {}

func bits2048(t *testing.T, cert *x509.Certificate) {
	t.Helper()
	if n := cert.PublicKey.(*rsa.PublicKey).N.BitLen(); n != 2048 {
		t.Errorf("key of %d bits", n)
	}
}

func sha256Signed(t *testing.T, cert *x509.Certificate) {
	t.Helper()
	if cert.SignatureAlgorithm != x509.SHA256WithRSA {
		t.Errorf("signed with %v", cert.SignatureAlgorithm)
	}
}

func matrixRows() []row {
	type p = intunetest.Profile
	return []row{
		{rule: "02 subject: common name", change: func(p *p) { p.Subject = "CN={{UserName}}" },
			check: subjectIs(attribute(oidCommonName, "user1"))},
		{rule: "03 subject: common name with email", change: func(p *p) { p.Subject = "CN={{UserName}},E={{EmailAddress}}" },
			check: subjectIs(attribute(oidCommonName, "user1"), attribute(oidEmail, matrixEmail))},
		{rule: "04 subject: common name as email", change: func(p *p) { p.Subject = "CN={{EmailAddress}}" },
			check: subjectIs(attribute(oidCommonName, matrixEmail))},
		{rule: "05 subject: IMEI", change: func(p *p) { p.Subject = "CN={{IMEINumber}}" },
			check: subjectIs(attribute(oidCommonName, matrixIMEI))},
		{rule: "06 subject: serial number", change: func(p *p) { p.Subject = "CN={{DeviceId}},SERIALNUMBER={{SerialNumber}}" },
			check: subjectIs(attribute(oidCommonName, matrixDevice), attribute(oidSerialNumber, matrixSerial))},
		{rule: "07 subject: custom", change: func(p *p) { p.Subject = "CN=Fleet {{SerialNumber}},O=Contoso\\, Ltd." },
			check: subjectIs(attribute(oidCommonName, "Fleet "+matrixSerial), attribute(oidOrganization, "Contoso, Ltd."))},
		{rule: "08 SAN: email", change: func(p *p) { p.SAN = intunetest.Names{Email: []string{"{{EmailAddress}}"}} },
			check: sanIs([]string{matrixEmail}, nil)},
		{rule: "09 SAN: UPN", change: func(p *p) { p.SAN = intunetest.Names{UPN: []string{"{{UserPrincipalName}}"}} },
			check: sanIs(nil, []string{matrixUPN})},
		{rule: "10 SAN: email and UPN", change: func(p *p) {
			p.SAN = intunetest.Names{Email: []string{"{{EmailAddress}}"}, UPN: []string{"{{UserPrincipalName}}"}}
		}, check: sanIs([]string{matrixEmail}, []string{matrixUPN})},
		{rule: "11 key usage: digital signature", change: func(p *p) { p.KeyUsage = signs }, check: usageIs(signs)},
		{rule: "12 key usage: key encipherment", change: func(p *p) { p.KeyUsage = enciphers }, check: usageIs(enciphers)},
		{rule: "13 key usage: both", change: func(*p) {}, check: usageIs(signs | enciphers)},
		{rule: "14 key size 1024 is refused", change: func(p *p) { p.KeySize = 1024 }, key: testkeys.RSA1024(), refuse: scep.BadAlg},
		{rule: "15 key size 2048", change: func(*p) {}, check: bits2048},
		// Whatever is wrong inside the envelope has one failInfo.
		{rule: "16 SHA-1 is refused by default", change: func(p *p) { p.Hash = "SHA-1" }, refuse: scep.BadMessageCheck},
		{rule: "16 SHA-1 where legacy_sha1 is on", change: func(p *p) { p.Hash = "SHA-1" }, path: legacyPath, check: anyCertificate},
		{rule: "17 SHA-2", change: func(*p) {}, check: sha256Signed},
		{rule: "18 SHA-1 and SHA-2", change: func(p *p) { p.Hash = "SHA-256" }, path: legacyPath, check: sha256Signed},
		{rule: "19 EKU: client authentication", change: func(*p) {}, check: ekuIs(clientAuth)},
		{rule: "20 EKU: IPsec tunnel", change: func(p *p) { p.EKU = []string{ipsecTunnel} }, check: ekuIs(ipsecTunnel)},
	}
}

// TestMatrix is the vendor's integration matrix (intune-resource-access,
// TestMatrix.csv), its numbers in the rows' names.
func TestMatrix(t *testing.T) {
	w := newWorld(t)
	w.start()
	t.Run("01 validity period of the profile", func(t *testing.T) { w.validity(t) })
	for i, r := range matrixRows() {
		t.Run(r.rule, func(t *testing.T) { w.matrixRow(t, i, r) })
	}
	t.Run("21 renewal", func(t *testing.T) { w.matrixRenewal(t) })
	for _, f := range failures() {
		t.Run(f.rule, func(t *testing.T) { w.matrixFailure(t, f) })
	}
	w.told()
}

func (w *world) setProfile(t *testing.T, p intunetest.Profile) intunetest.Challenge {
	t.Helper()
	if err := w.cloud.AddProfile(intunetest.ContosoID, p); err != nil {
		t.Fatal(err)
	}
	return w.challenge(intunetest.Ask{Profile: p.Name, Device: matrixDevice})
}

// validity enrols with the profile's wish in Microsoft's name/value pair, the
// usual way and with Android's exchanged values.
func (w *world) validity(t *testing.T) {
	defer w.during(t)()
	for platform, days := range map[string]int{"windows": 90, "android": 30} {
		ch := w.setProfile(t, profile(func(p *intunetest.Profile) { p.Validity, p.KeyUsage = days, 0 }))
		csr := scepclient.CSR{
			Subject: pkix.Name{CommonName: matrixDevice}, Challenge: secretText(ch.Challenge),
			ExtKeyUsage: []asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 2}}, Validity: time.Duration(days) * 24 * time.Hour,
		}
		key := testkeys.RSA2048(0)
		r, err := w.device(platform, intunePath).Enroll(t.Context(), scepclient.EnrollRequest{Key: key, CSR: csr})
		if err != nil {
			t.Fatal(err)
		}
		cert := w.mustIssue(r, key)
		want := time.Now().Add(csr.Validity) // days of 24 hours, also where clocks are put forward
		if d := cert.NotAfter.Sub(want).Abs(); d > time.Hour {
			t.Errorf("%s: ends at %v, want about %v", platform, cert.NotAfter, want)
		}
	}
}

func (w *world) matrixRow(t *testing.T, i int, r row) {
	defer w.during(t)()
	if r.path == "" {
		r.path = intunePath
	}
	if r.key == nil {
		r.key = testkeys.RSA2048(i % 8)
	}
	ch := w.setProfile(t, profile(r.change))
	reply, err := w.device("windows", r.path).Enroll(t.Context(), scepclient.EnrollRequest{Key: r.key, DER: w.csr(ch, r.key)})
	if err != nil {
		t.Fatal(err)
	}
	if r.check == nil {
		mustRefuse(t, reply, r.refuse)
		return
	}
	r.check(t, w.mustIssue(reply, r.key))
}

// matrixRenewal renews with a new challenge, a new key and the old
// certificate, as devices do at their renewal threshold.
func (w *world) matrixRenewal(t *testing.T) {
	defer w.during(t)()
	for i, platform := range []string{"windows", "ios", "macos", "android", "linux"} {
		p := profile(func(p *intunetest.Profile) { p.Validity = 2 })
		oldKey, newKey := testkeys.RSA2048(i), testkeys.RSA2048(i+1)
		d := w.device(platform, intunePath)
		first, err := d.Enroll(t.Context(), scepclient.EnrollRequest{Key: oldKey, DER: w.csr(w.setProfile(t, p), oldKey)})
		if err != nil {
			t.Fatal(err)
		}
		old := w.mustIssue(first, oldKey)
		renewal := scepclient.EnrollRequest{
			Key: newKey, DER: w.csr(w.setProfile(t, p), newKey), Renew: &scepclient.Identity{Certificate: old.Raw, Key: oldKey},
		}
		second, err := d.Enroll(t.Context(), renewal)
		if err != nil {
			t.Fatal(err)
		}
		if renewed := w.mustIssue(second, newKey); renewed.SerialNumber.Cmp(old.SerialNumber) == 0 {
			t.Errorf("%s: the renewal is the old certificate", platform)
		}
	}
}

// failure is a row of the matrix that must end without a certificate.
type failure struct {
	rule    string
	flaw    intunetest.Flaw
	at      intunetest.Endpoint
	fault   intunetest.Fault
	want    string // FAILURE, PENDING or 503
	path    string // empty: the usual endpoint
	fresh   bool   // the connector is started anew: it has no token yet
	touched bool   // the CA may have been asked
}

func failures() []failure {
	return []failure{
		{rule: "22 challenge authentication failure", flaw: intunetest.Forged, want: "FAILURE"},
		{rule: "22 challenge of another signer", flaw: intunetest.OtherSigner, want: "FAILURE"},
		{rule: "22 challenge that cannot be decrypted", flaw: intunetest.OtherKey, want: "FAILURE"},
		{rule: "23 HTTP 500 on validate", at: intunetest.Validate, fault: intunetest.Fault{Status: 500}, want: "503"},
		{rule: "23 numeric code on validate", at: intunetest.Validate, fault: intunetest.Fault{NumericCode: true}, want: "503 or FAILURE"},
		{rule: "23 lower-case success on validate", at: intunetest.Validate, fault: intunetest.Fault{LowerCase: true}, want: "503 or FAILURE"},
		{rule: "23 missing code on validate", at: intunetest.Validate, fault: intunetest.Fault{MissingCode: true}, want: "503 or FAILURE"},
		{rule: "24 HTTP 500 on success notification", at: intunetest.Success, fault: intunetest.Fault{Status: 500}, want: "PENDING", path: soonPath, touched: true},
		{rule: "24 missing code on success notification", at: intunetest.Success, fault: intunetest.Fault{MissingCode: true}, want: "PENDING or FAILURE", path: soonPath, touched: true},
		{rule: "25 invalid credentials at Entra", at: intunetest.Token, fault: intunetest.Fault{AADSTS: 7000215}, want: "503", fresh: true},
	}
}

func (w *world) matrixFailure(t *testing.T, f failure) {
	defer w.during(t)()
	if err := w.cloud.AddProfile(intunetest.ContosoID, profile(func(*intunetest.Profile) {})); err != nil {
		t.Fatal(err)
	}
	ch := w.challenge(intunetest.Ask{Profile: "matrix", Device: matrixDevice, Flaw: f.flaw})
	if f.at != "" {
		w.cloud.Fail(f.at, intunetest.Always, f.fault)
		defer w.cloud.Heal()
	}
	if f.fresh {
		w.stop()
		if w.back != nil { // it holds the token
			w.back.kill()
			w.back.start(built.release)
		}
		w.start()
	}
	before := len(w.certificates())
	key := testkeys.RSA2048(2)
	d := w.device("ios", cmp.Or(f.path, intunePath))
	tx, err := d.Prepare(t.Context(), scepclient.EnrollRequest{Key: key, DER: w.csr(ch, key)})
	if err != nil {
		t.Fatal(err)
	}
	r, err := d.Send(t.Context(), tx.Message)
	got := "503"
	switch {
	case err == nil:
		got = r.Status.String()
	case r == nil || r.HTTPStatus != 503:
		t.Fatal(err)
	}
	if !slices.Contains(strings.Split(f.want, " or "), got) {
		t.Errorf("the device got %s, want %s", got, f.want)
	}
	if n := len(w.certificates()); !f.touched && n != before {
		t.Errorf("the CA issued %d certificates", n-before)
	}
}

// told compares what devices have with what the cloud took: nothing was
// delivered of which the cloud does not know.
func (w *world) told() {
	w.t.Helper()
	known := map[string]bool{}
	for _, n := range w.cloud.Notifications() {
		if n.Success {
			known[n.SerialNumber] = true
		}
	}
	for _, r := range w.requests("--state", "released") {
		if asks := !slices.Contains([]string{"static", "approval", "old", "full", "fenced", "onetime", "token", "twin"}, r.Endpoint); asks && !known[r.Serial] {
			w.t.Errorf("request %s was released and the cloud does not know serial %s", r.ID, r.Serial)
		}
	}
	for _, tr := range w.cloud.Transactions() {
		if tr.Successes > 0 && tr.Verdict != string(intune.Success) {
			w.t.Errorf("transaction %s was reported as a success after the verdict %s", tr.TransactionID, tr.Verdict)
		}
	}
}
