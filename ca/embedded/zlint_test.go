package embedded_test

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"testing"
	"time"

	zx509 "github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3"
	"github.com/zmap/zlint/v3/lint"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/catest"
	"github.com/certconnector/certconnector/ca/embedded"
	"github.com/certconnector/certconnector/internal/testkeys"
)

// rfcLints leaves out the rules of the public web, which are not for private
// device certificates.
func rfcLints(t *testing.T) lint.Registry {
	t.Helper()
	r, err := lint.GlobalRegistry().Filter(lint.FilterOptions{IncludeSources: lint.SourceList{
		lint.RFC5280, lint.RFC3279, lint.RFC5480, lint.RFC5891, lint.RFC8813,
	}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Two rules that SCEP cannot keep; each is excepted only where it must fire.
const (
	// RFC 5280, section 4.2.1.12, reads as if clientAuth went with
	// digitalSignature and keyAgreement only. Intune's profiles ask for
	// keyEncipherment next to digitalSignature, and NDES issues both.
	enciphers = "e_key_usage_and_extended_key_usage_inconsistent"
	// RFC 3279 keeps a CA's RSA key from enciphering; RFC 8894, section 2.1.2,
	// wants just that of a CA without a registration authority.
	directCA = "e_rsa_allowed_ku_no_encipherment_ca"
)

// lintClean fails for every error and warning but one, if except is not "".
func lintClean(t *testing.T, what string, cert *x509.Certificate, rules lint.Registry, except string) {
	t.Helper()
	parsed, err := zx509.ParseCertificate(cert.Raw)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	ran := 0
	for name, result := range zlint.LintCertificateEx(parsed, rules).Results {
		switch {
		case name == except:
			if result.Status != lint.Error {
				t.Errorf("%s: %s is %v and need not be excepted", what, name, result.Status)
			}
		case result.Status >= lint.Warn:
			t.Errorf("%s: %s is %v: %s", what, name, result.Status, result.Details)
		case result.Status == lint.Pass:
			ran++
		}
	}
	if ran < 20 {
		t.Errorf("%s: only %d rules ran", what, ran)
	}
}

func TestLint(t *testing.T) {
	rules := rfcLints(t)
	for _, kind := range []embedded.KeyKind{embedded.RSA2048, embedded.P256, embedded.P384} {
		t.Run(string(kind), func(t *testing.T) {
			dir := caFolder(t, kind)
			authority := mustOpen(t, embedded.Config{
				Dir: dir, CRLURLs: []string{"http://pki.contoso.example/ca.crl"},
				OCSPURLs: []string{"http://pki.contoso.example/ocsp"}, IssuerURLs: []string{"http://pki.contoso.example/ca.crt"},
			})
			chain, err := authority.Chain(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			lintClean(t, "CA", chain[0], rules, "")
			for name, o := range map[string]catest.CSROptions{
				"leaf RSA":              {},
				"leaf P-256":            {Key: testkeys.P256(0)},
				"leaf with names":       {RawSAN: catest.OddSAN(t)},
				"leaf without subject":  {RawSubject: []byte{0x30, 0}, RawSAN: catest.OddSAN(t)},
				"leaf that signs":       {KeyUsage: x509.KeyUsageDigitalSignature},
				"leaf without wishes":   {KeyUsage: catest.NoKeyUsage},
				"leaf wanting too much": {KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature},
			} {
				got, err := authority.Issue(t.Context(), ca.Request{CSR: catest.NewCSR(t, o), Validity: 20 * 24 * time.Hour})
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				except := ""
				if got.Certificate.KeyUsage&x509.KeyUsageKeyEncipherment != 0 {
					except = enciphers
				}
				lintClean(t, name, got.Certificate, rules, except)
			}
			for _, purpose := range []embedded.RAPurpose{embedded.RASigning, embedded.RAEncryption, embedded.RACombined} {
				cert, err := authority.IssueRA(t.Context(), purpose, testkeys.RSA2048(2).Public(), pkix.Name{CommonName: "Contoso RA", Organization: []string{"Contoso"}})
				if err != nil {
					t.Fatal(err)
				}
				lintClean(t, "RA "+string(purpose), cert, rules, "")
			}
			for _, key := range []crypto.Signer{testkeys.P256(0), testkeys.RSA2048(1)} {
				cert, err := authority.IssueTLS(t.Context(), []string{"ndes.contoso.example", "192.0.2.7"}, key.Public())
				if err != nil {
					t.Fatal(err)
				}
				lintClean(t, "TLS", cert, rules, "")
			}
		})
	}
}

func TestLintDirectCA(t *testing.T) {
	dir := t.TempDir()
	o := embedded.Options{Subject: pkix.Name{CommonName: "Direct CA"}, KeyKind: embedded.RSA2048, Direct: true}
	cert, err := embedded.Create(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	if want := x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment; cert.KeyUsage&want != want {
		t.Errorf("key usage %b lacks what RFC 8894, section 2.1.2, asks for", cert.KeyUsage)
	}
	lintClean(t, "direct CA", cert, rfcLints(t), directCA)
	o.KeyKind = embedded.P256
	if _, err := embedded.Create(t.TempDir(), o); err == nil {
		t.Error("a CA on a curve was made for devices to encrypt to")
	}
}
