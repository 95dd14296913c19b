//go:build e2e

package e2e

import (
	"crypto/x509"
	"testing"

	zx509 "github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3"
	zlintrules "github.com/zmap/zlint/v3/lint"

	"github.com/certconnector/certconnector/internal/secret"
)

// exceptions are rules that certificates of Intune's profiles cannot keep:
// RFC 5280, section 4.2.1.12, reads as if clientAuth and ipsecTunnel went with
// digitalSignature and keyAgreement only, and profiles ask for keyEncipherment.
// And rules about names come from the device, where the cloud vouched for them.
var exceptions = map[string]bool{
	"e_key_usage_and_extended_key_usage_inconsistent": true,
}

// lint checks a certificate with zlint, without the rules of the public web.
func lint(t *testing.T, cert *x509.Certificate) {
	t.Helper()
	rules, err := zlintrules.GlobalRegistry().Filter(zlintrules.FilterOptions{IncludeSources: zlintrules.SourceList{
		zlintrules.RFC5280, zlintrules.RFC3279, zlintrules.RFC5480, zlintrules.RFC5891, zlintrules.RFC8813,
	}})
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := zx509.ParseCertificate(cert.Raw)
	if err != nil {
		t.Fatal(err)
	}
	passed := 0
	for name, result := range zlint.LintCertificateEx(parsed, rules).Results {
		switch {
		case result.Status == zlintrules.Pass:
			passed++
		case result.Status >= zlintrules.Warn && !exceptions[name]:
			t.Errorf("zlint: %s is %v: %s", name, result.Status, result.Details)
		}
	}
	if passed < 20 {
		t.Errorf("zlint: only %d rules passed", passed)
	}
}

func secretText(s string) secret.Text { return secret.Text(s) }
