package embedded_test

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/embedded"
	"github.com/certconnector/certconnector/internal/testkeys"
)

func TestIssueRA(t *testing.T) {
	for purpose, want := range map[embedded.RAPurpose]x509.KeyUsage{
		embedded.RASigning:    x509.KeyUsageDigitalSignature,
		embedded.RAEncryption: x509.KeyUsageKeyEncipherment,
		embedded.RACombined:   x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
	} {
		t.Run(string(purpose), func(t *testing.T) {
			at := startOf2031()
			authority, _ := fixedCA(t, at)
			key := testkeys.RSA2048(2)
			cert, err := authority.IssueRA(t.Context(), purpose, key.Public(), pkix.Name{CommonName: "RA"})
			if err != nil {
				t.Fatal(err)
			}
			if cert.KeyUsage != want || !extensionOf(cert, asn1.ObjectIdentifier{2, 5, 29, 15}).Critical {
				t.Errorf("key usage %b, want exactly %b and critical", cert.KeyUsage, want)
			}
			agent := []asn1.ObjectIdentifier{{1, 3, 6, 1, 4, 1, 311, 20, 2, 1}}
			if ext := extKeyUsages(t, cert); !slices.EqualFunc(ext, agent, asn1.ObjectIdentifier.Equal) {
				t.Errorf("extended key usages %v", ext)
			}
			if life := cert.NotAfter.Sub(cert.NotBefore); cert.IsCA || life != 2*365*day {
				t.Errorf("CA %t, life %v", cert.IsCA, life)
			}
			if status, err := authority.Check(t.Context(), cert.SerialNumber); err != nil || !status.Certificate.Equal(cert) {
				t.Errorf("not in the register: %v", err)
			}
			at.at = at.at.Add(3600 * day)
			if late, err := authority.IssueRA(t.Context(), purpose, key.Public(), pkix.Name{CommonName: "RA"}); err != nil || late.NotAfter.Sub(at.at) > 50*day {
				t.Errorf("a certificate that outlives its CA, or %v", err)
			}
		})
	}
}

func TestIssueRARefuses(t *testing.T) {
	authority, reg := fixedCA(t, startOf2031())
	name := pkix.Name{CommonName: "RA"}
	for _, c := range []struct {
		name    string
		purpose embedded.RAPurpose
		key     crypto.PublicKey
		subject pkix.Name
	}{
		{"key on a curve, to which devices cannot encrypt", embedded.RAEncryption, testkeys.P256(0).Public(), name},
		{"weak key", embedded.RASigning, testkeys.RSA1024().Public(), name},
		{"unknown purpose", "both", testkeys.RSA2048(2).Public(), name},
		{"no subject", embedded.RASigning, testkeys.RSA2048(2).Public(), pkix.Name{}},
	} {
		if _, err := authority.IssueRA(t.Context(), c.purpose, c.key, c.subject); err == nil {
			t.Errorf("%s: issued", c.name)
		}
	}
	if n := reg.Certificates("lab"); n != 0 {
		t.Errorf("%d certificates in the register", n)
	}
}

func TestIssueTLS(t *testing.T) {
	at := startOf2031()
	authority, _ := fixedCA(t, at)
	chain, err := authority.Chain(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(chain[0])
	for _, key := range []crypto.Signer{testkeys.P256(0), testkeys.RSA2048(1)} {
		cert, err := authority.IssueTLS(t.Context(), []string{"ndes.contoso.example", "*.contoso.example", "192.0.2.7", "2001:db8::7"}, key.Public())
		if err != nil {
			t.Fatal(err)
		}
		for _, host := range []string{"ndes.contoso.example", "other.contoso.example", "192.0.2.7", "2001:db8::7"} {
			if _, err := cert.Verify(x509.VerifyOptions{DNSName: host, Roots: roots, CurrentTime: at.at}); err != nil {
				t.Errorf("%s: %v", host, err)
			}
		}
		if life := cert.NotAfter.Sub(cert.NotBefore); life > 397*day {
			t.Errorf("life %v", life)
		}
	}
	for _, bad := range [][]string{nil, {""}, {"ndes..example"}, {"ndes.example."}, {"a b"}, {"zoë.example"}, {"-a.example"}, {"ok.example", "*"}} {
		if _, err := authority.IssueTLS(t.Context(), bad, testkeys.P256(0).Public()); err == nil {
			t.Errorf("issued for %q", bad)
		}
	}
}

func TestOwnCertificateThatWasNotRecorded(t *testing.T) {
	authority, reg := fixedCA(t, startOf2031())
	reg.Break("AddCertificate", errDisk, false)
	if _, err := authority.IssueTLS(t.Context(), []string{"a.example"}, testkeys.P256(0).Public()); !errors.Is(err, ca.ErrOutcomeUnknown) {
		t.Errorf("IssueTLS: %v, want ErrOutcomeUnknown", err)
	}
}

func TestOwnCertificateOfAnExpiredCA(t *testing.T) {
	at := startOf2031()
	authority, _ := fixedCA(t, at)
	at.at = at.at.Add(3651 * day)
	if _, err := authority.IssueTLS(t.Context(), []string{"a.example"}, testkeys.P256(0).Public()); !errors.Is(err, ca.ErrUnavailable) {
		t.Errorf("IssueTLS: %v, want ErrUnavailable", err)
	}
	at.at = at.at.Add(-3652*day - 2*time.Hour)
	if _, err := authority.IssueTLS(t.Context(), []string{"a.example"}, testkeys.P256(0).Public()); !errors.Is(err, ca.ErrUnavailable) {
		t.Errorf("before the CA's life: %v, want ErrUnavailable", err)
	}
}
