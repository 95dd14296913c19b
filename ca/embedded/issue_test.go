package embedded_test

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/catest"
	"github.com/certconnector/certconnector/ca/embedded"
	"github.com/certconnector/certconnector/internal/testkeys"
)

const day = 24 * time.Hour

// clock is a clock that a test moves.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

// fixedCA opens a CA with a fixed P-256 key and a root of ten years.
func fixedCA(t testing.TB, at *clock, profiles ...embedded.Profile) (*embedded.CA, *catest.Register) {
	t.Helper()
	reg := catest.NewRegister()
	key := testkeys.P256(1)
	root := rootOf(t, key, at.at.Add(-time.Hour), at.at.Add(3650*day))
	return mustOpen(t, embedded.Config{
		Key: key, Chain: []*x509.Certificate{root}, Profiles: profiles, Register: reg, Clock: at.now,
	}), reg
}

func startOf2031() *clock { return &clock{time.Date(2031, 3, 1, 12, 0, 0, 123456789, time.UTC)} }

func wantDenied(t *testing.T, err error, code int32) {
	t.Helper()
	if denied, ok := errors.AsType[*ca.Denied](err); !ok || denied.HResult != code {
		t.Errorf("got error %v, want a refusal with 0x%08X", err, uint32(code))
	}
}

func TestValidity(t *testing.T) {
	for _, c := range []struct {
		name                    string
		profile                 embedded.Profile
		wish, decided           time.Duration
		wantNotAfter, wantStart time.Duration // from now
	}{
		{"no wish gets the default, back-dated by five minutes", embedded.Profile{}, 0, 0, 365 * day, -5 * time.Minute},
		{"wish counts from now", embedded.Profile{}, 30 * day, 0, 30 * day, -5 * time.Minute},
		{"profile caps the wish, back-dating included", embedded.Profile{MaxValidity: 10 * day}, 30 * day, 0, 10*day - 5*time.Minute, -5 * time.Minute},
		{"decision caps the default", embedded.Profile{}, 0, 2 * day, 2*day - 5*time.Minute, -5 * time.Minute},
		{"decision does not lift the profile's cap", embedded.Profile{MaxValidity: 10 * day}, 30 * day, 60 * day, 10*day - 5*time.Minute, -5 * time.Minute},
		{"short life is back-dated by half of it at most", embedded.Profile{}, 0, 6 * time.Minute, 3 * time.Minute, -3 * time.Minute},
		{"negative back date is none", embedded.Profile{BackDate: -1}, day, 0, day, 0},
		{"NotBefore is never before the CA's", embedded.Profile{BackDate: 12 * time.Hour}, day, 0, day, -time.Hour},
		{"NotAfter is never after the CA's", embedded.Profile{MaxValidity: 9000 * day}, 9000 * day, 0, 3650 * day, -5 * time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := startOf2031()
			c.profile.Name = "device"
			authority, _ := fixedCA(t, at, c.profile)
			got, err := authority.Issue(t.Context(), ca.Request{
				CSR: catest.NewCSR(t, catest.CSROptions{}), Validity: c.wish, MaxValidity: c.decided,
			})
			if err != nil {
				t.Fatal(err)
			}
			start := at.at.Truncate(time.Second)
			if want := start.Add(c.wantNotAfter); !got.Certificate.NotAfter.Equal(want) {
				t.Errorf("NotAfter %v, want %v", got.Certificate.NotAfter, want)
			}
			if want := start.Add(c.wantStart); !got.Certificate.NotBefore.Equal(want) {
				t.Errorf("NotBefore %v, want %v", got.Certificate.NotBefore, want)
			}
		})
	}
}

func TestYearsPass(t *testing.T) {
	at := startOf2031()
	authority, _ := fixedCA(t, at)
	chain, err := authority.Chain(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	end := chain[0].NotAfter
	for ; at.at.Before(end); at.at = at.at.Add(200 * day) {
		got, err := authority.Issue(t.Context(), ca.Request{CSR: catest.NewCSR(t, catest.CSROptions{})})
		if err != nil {
			t.Fatalf("at %v: %v", at.at, err)
		}
		if got.Certificate.NotAfter.After(end) || !got.Certificate.NotAfter.After(at.at.Truncate(time.Second)) {
			t.Errorf("at %v: certificate ends %v, the CA %v", at.at, got.Certificate.NotAfter, end)
		}
	}
	at.at = end
	_, err = authority.Issue(t.Context(), ca.Request{CSR: catest.NewCSR(t, catest.CSROptions{})})
	if !errors.Is(err, ca.ErrUnavailable) {
		t.Errorf("an expired CA answers %v, want ErrUnavailable", err)
	}
}

func TestLifeBeyond2050(t *testing.T) {
	at := &clock{time.Date(2049, 6, 1, 0, 0, 0, 0, time.UTC)}
	authority, _ := fixedCA(t, at)
	got, err := authority.Issue(t.Context(), ca.Request{CSR: catest.NewCSR(t, catest.CSROptions{})})
	if err != nil || got.Certificate.NotAfter.Year() != 2050 {
		t.Errorf("got %v, %v; want a certificate that ends in 2050", got, err)
	}
}

func TestReturnedCertificateIsItsBytes(t *testing.T) {
	authority, _ := fixedCA(t, startOf2031())
	got, err := authority.Issue(t.Context(), ca.Request{CSR: catest.NewCSR(t, catest.CSROptions{RawSAN: catest.OddSAN(t)})})
	if err != nil {
		t.Fatal(err)
	}
	again, err := x509.ParseCertificate(got.Certificate.Raw)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(again, got.Certificate) {
		t.Error("the certificate is not what its bytes say")
	}
}

func TestUsages(t *testing.T) {
	const sign, encipher, agree = x509.KeyUsageDigitalSignature, x509.KeyUsageKeyEncipherment, x509.KeyUsageKeyAgreement
	client, server, mail := embedded.OIDClientAuth, embedded.OIDServerAuth, embedded.OIDEmailProtection
	both := embedded.Profile{Name: "both", ExtKeyUsages: []asn1.ObjectIdentifier{mail, client}}
	for _, c := range []struct {
		name    string
		profile embedded.Profile
		csr     catest.CSROptions
		usage   x509.KeyUsage
		ext     []asn1.ObjectIdentifier
		denied  bool
	}{
		{"only what is asked for", embedded.Profile{}, catest.CSROptions{KeyUsage: sign}, sign, nil, false},
		{"all of the profile if none is asked for", embedded.Profile{}, catest.CSROptions{KeyUsage: catest.NoKeyUsage}, sign | encipher, nil, false},
		{"bits beyond the profile are left out", embedded.Profile{KeyUsages: sign}, catest.CSROptions{KeyUsage: sign | encipher}, sign, nil, false},
		{"nonRepudiation alone is denied", embedded.Profile{}, catest.CSROptions{KeyUsage: x509.KeyUsageContentCommitment}, 0, nil, true},
		{"curve does not encipher", embedded.Profile{}, catest.CSROptions{Key: testkeys.P256(0)}, sign, nil, false},
		{"curve may agree if the profile allows", embedded.Profile{KeyUsages: sign | agree}, catest.CSROptions{Key: testkeys.P256(0), KeyUsage: catest.NoKeyUsage}, sign | agree, nil, false},
		{"RSA does not agree", embedded.Profile{KeyUsages: sign | agree}, catest.CSROptions{KeyUsage: sign | agree}, sign, nil, false},
		{"weak key is denied", embedded.Profile{}, catest.CSROptions{Key: testkeys.RSA1024()}, 0, nil, true},
		{"clientAuth by default", both, catest.CSROptions{ExtKeyUsage: []asn1.ObjectIdentifier{}}, sign | encipher, nil, false},
		{"extended usages in the request's order, each once", both, catest.CSROptions{ExtKeyUsage: []asn1.ObjectIdentifier{server, client, mail, client}}, sign | encipher, []asn1.ObjectIdentifier{client, mail}, false},
		{"extended usages beyond the profile are denied", both, catest.CSROptions{ExtKeyUsage: []asn1.ObjectIdentifier{server}}, 0, nil, true},
		{"first of the profile if clientAuth is not in it", embedded.Profile{ExtKeyUsages: []asn1.ObjectIdentifier{mail, server}}, catest.CSROptions{ExtKeyUsage: []asn1.ObjectIdentifier{}}, sign | encipher, []asn1.ObjectIdentifier{mail}, false},
		{"anyExtendedKeyUsage is not a wild card", both, catest.CSROptions{ExtKeyUsage: []asn1.ObjectIdentifier{embedded.OIDAnyExtKeyUsage}}, 0, nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.profile.Name = "device"
			authority, reg := fixedCA(t, startOf2031(), c.profile)
			got, err := authority.Issue(t.Context(), ca.Request{CSR: catest.NewCSR(t, c.csr)})
			if c.denied {
				wantDenied(t, err, ca.HResultTemplateDenied)
				if n := reg.Certificates("lab"); n != 0 {
					t.Errorf("%d certificates in the register", n)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.Certificate.KeyUsage != c.usage {
				t.Errorf("key usage %b, want %b", got.Certificate.KeyUsage, c.usage)
			}
			if c.ext == nil {
				c.ext = []asn1.ObjectIdentifier{client}
			}
			if ext := extKeyUsages(t, got.Certificate); !slices.EqualFunc(ext, c.ext, asn1.ObjectIdentifier.Equal) {
				t.Errorf("extended key usages %v, want %v", ext, c.ext)
			}
		})
	}
}

func extensionOf(cert *x509.Certificate, oid asn1.ObjectIdentifier) *pkix.Extension {
	for i, e := range cert.Extensions {
		if e.Id.Equal(oid) {
			return &cert.Extensions[i]
		}
	}
	return nil
}

func extKeyUsages(t *testing.T, cert *x509.Certificate) (list []asn1.ObjectIdentifier) {
	t.Helper()
	e := extensionOf(cert, asn1.ObjectIdentifier{2, 5, 29, 37})
	if e == nil {
		t.Fatal("no extended key usage")
	}
	if _, err := asn1.Unmarshal(e.Value, &list); err != nil {
		t.Fatal(err)
	}
	return list
}

// sidExtension is the SID security extension of KB5014754 for
// S-1-5-21-1111111111-2222222222-3333333333-1001.
const sidExtension = "3040a03e060a2b060104018237190201a030042e532d312d352d32312d313131313131313131312d323232323232323232322d333333333333333333332d31303031"

func TestRequestedExtensionsStayBehind(t *testing.T) {
	sid, err := hex.DecodeString(sidExtension)
	if err != nil {
		t.Fatal(err)
	}
	sidOID := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 25, 2}
	own := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}
	other := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 2}
	authority, _ := fixedCA(t, startOf2031(), embedded.Profile{Name: "device", Extensions: []asn1.ObjectIdentifier{own}})
	got, err := authority.Issue(t.Context(), ca.Request{CSR: catest.NewCSR(t, catest.CSROptions{Extra: []pkix.Extension{
		{Id: sidOID, Value: sid}, {Id: own, Value: []byte{4, 1, 'x'}}, {Id: other, Value: []byte{5, 0}},
	}})})
	if err != nil {
		t.Fatal(err)
	}
	if extensionOf(got.Certificate, sidOID) != nil || extensionOf(got.Certificate, other) != nil {
		t.Error("an extension that the profile does not list was copied")
	}
	if e := extensionOf(got.Certificate, own); e == nil || !bytes.Equal(e.Value, []byte{4, 1, 'x'}) {
		t.Errorf("the extension that the profile lists is %v", e)
	}
}

func TestNobody(t *testing.T) {
	authority, _ := fixedCA(t, startOf2031())
	empty := []byte{0x30, 0x00}
	_, err := authority.Issue(t.Context(), ca.Request{CSR: catest.NewCSR(t, catest.CSROptions{RawSubject: empty})})
	wantDenied(t, err, ca.HResultTemplateDenied)

	got, err := authority.Issue(t.Context(), ca.Request{CSR: catest.NewCSR(t, catest.CSROptions{RawSubject: empty, RawSAN: catest.OddSAN(t)})})
	if err != nil {
		t.Fatal(err)
	}
	if e := extensionOf(got.Certificate, asn1.ObjectIdentifier{2, 5, 29, 17}); e == nil || !e.Critical {
		t.Error("subjectAltName is the only name and not critical")
	}
}

func TestAddresses(t *testing.T) {
	key := testkeys.P256(1)
	root := rootOf(t, key, time.Now().Add(-time.Hour), time.Now().Add(day))
	authority := mustOpen(t, embedded.Config{
		Key: key, Chain: []*x509.Certificate{root},
		CRLURLs: []string{"http://pki.example/ca.crl"}, OCSPURLs: []string{"http://pki.example/ocsp"}, IssuerURLs: []string{"http://pki.example/ca.crt"},
	})
	got, err := authority.Issue(t.Context(), ca.Request{CSR: catest.NewCSR(t, catest.CSROptions{})})
	if err != nil {
		t.Fatal(err)
	}
	cert := got.Certificate
	for _, c := range []struct {
		what string
		got  []string
		want string
	}{
		{"distribution point", cert.CRLDistributionPoints, "http://pki.example/ca.crl"},
		{"OCSP responder", cert.OCSPServer, "http://pki.example/ocsp"},
		{"issuer", cert.IssuingCertificateURL, "http://pki.example/ca.crt"},
	} {
		if !slices.Equal(c.got, []string{c.want}) {
			t.Errorf("%s %v, want %s", c.what, c.got, c.want)
		}
	}
}

func TestProfileMistakes(t *testing.T) {
	for _, c := range []struct {
		name string
		bad  []embedded.Profile
	}{
		{"no name", []embedded.Profile{{}}},
		{"two of one name, whatever the case", []embedded.Profile{{Name: "a"}, {Name: "A"}}},
		{"keyCertSign", []embedded.Profile{{Name: "a", KeyUsages: x509.KeyUsageCertSign}}},
		{"nonRepudiation", []embedded.Profile{{Name: "a", KeyUsages: x509.KeyUsageContentCommitment}}},
		{"anyExtendedKeyUsage", []embedded.Profile{{Name: "a", ExtKeyUsages: []asn1.ObjectIdentifier{embedded.OIDAnyExtKeyUsage}}}},
		{"enrolment agent", []embedded.Profile{{Name: "a", ExtKeyUsages: []asn1.ObjectIdentifier{embedded.OIDCertificateRequestAgent}}}},
		{"default usage that is not allowed", []embedded.Profile{{Name: "a", DefaultExtKeyUsages: []asn1.ObjectIdentifier{embedded.OIDServerAuth}}}},
		{"copying the SID", []embedded.Profile{{Name: "a", Extensions: []asn1.ObjectIdentifier{{1, 3, 6, 1, 4, 1, 311, 25, 2}}}}},
		{"copying basicConstraints", []embedded.Profile{{Name: "a", Extensions: []asn1.ObjectIdentifier{{2, 5, 29, 19}}}}},
		{"default longer than the maximum", []embedded.Profile{{Name: "a", DefaultValidity: 2 * day, MaxValidity: day}}},
		{"unknown approval", []embedded.Profile{{Name: "a", Approval: "maybe"}}},
		{"weak keys", []embedded.Profile{{Name: "a", MinRSABits: 1024}}},
		{"back-dated by a week", []embedded.Profile{{Name: "a", BackDate: 7 * day}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			key := testkeys.P256(1)
			root := rootOf(t, key, time.Now().Add(-time.Hour), time.Now().Add(day))
			_, err := embedded.Open(embedded.Config{
				Name: "lab", Key: key, Chain: []*x509.Certificate{root}, Register: catest.NewRegister(),
				Sealer: newSealer(t), Profiles: append(c.bad, embedded.Profile{Name: "good"}),
			})
			if err == nil {
				t.Error("the profile was taken")
			}
		})
	}
}

func TestOpenMistakes(t *testing.T) {
	key, now := testkeys.P256(1), time.Now()
	root := rootOf(t, key, now.Add(-time.Hour), now.Add(day))
	authority := mustOpen(t, embedded.Config{Key: key, Chain: []*x509.Certificate{root}})
	leaf, err := authority.IssueTLS(t.Context(), []string{"a.example"}, testkeys.P256(0).Public())
	if err != nil {
		t.Fatal(err)
	}
	good := embedded.Config{Name: "lab", Key: key, Chain: []*x509.Certificate{root}, Register: catest.NewRegister()}
	for name, spoil := range map[string]func(*embedded.Config){
		"no name":                               func(c *embedded.Config) { c.Name = "" },
		"no register":                           func(c *embedded.Config) { c.Register = nil },
		"no key":                                func(c *embedded.Config) { c.Key = nil },
		"no certificate":                        func(c *embedded.Config) { c.Chain = nil },
		"key and folder":                        func(c *embedded.Config) { c.Dir = t.TempDir() },
		"another's key":                         func(c *embedded.Config) { c.Key = testkeys.RSA2048(0) },
		"certificate of a server":               func(c *embedded.Config) { c.Key, c.Chain = testkeys.P256(0), []*x509.Certificate{leaf, root} },
		"chain that is none":                    func(c *embedded.Config) { c.Chain = []*x509.Certificate{root, leaf} },
		"revocation list of a second":           func(c *embedded.Config) { c.CRLValidity = time.Second },
		"address without a scheme":              func(c *embedded.Config) { c.CRLURLs = []string{"pki.example/ca.crl"} },
		"address that is not ASCII":             func(c *embedded.Config) { c.OCSPURLs = []string{"http://zoë.example/"} },
		"approval by a person without a sealer": func(c *embedded.Config) { c.Profiles = []embedded.Profile{careful()} },
	} {
		cfg := good
		spoil(&cfg)
		if _, err := embedded.Open(cfg); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
	if _, err := embedded.Open(good); err != nil {
		t.Errorf("without a mistake: %v", err)
	}
}
