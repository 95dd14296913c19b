package pkcs10_test

import (
	"testing"

	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/certconnector/certconnector/internal/pkcs10"
)

// FuzzPKCS10 feeds foreign bytes to everything that looks into a request.
func FuzzPKCS10(f *testing.F) {
	f.Add(csr{}.build(f))
	f.Add(csr{attributes: [][]byte{
		attribute(pkcs10.OIDChallengePassword, der(cbasn1.PrintableString, []byte("x"))),
		attribute(pkcs10.OIDMicrosoftExtensions, seq(
			extension(pkcs10.OIDKeyUsage, []byte{3, 2, 5, 0xa0}),
			extension(pkcs10.OIDSubjectAltName, seq(der(0x82, []byte("a.example")), der(0x87, []byte{1, 2, 3, 4}))))),
		pair("ValidityPeriod", "2"), pair("ValidityPeriodUnits", "Years"),
	}}.build(f))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := pkcs10.Parse(b)
		if err != nil {
			return
		}
		if len(r.Raw) != len(b) || r.PublicKey == nil || r.KeyBits() == 0 {
			t.Error("a request was accepted that is not whole")
		}
		_ = r.CheckSignature()
		_ = r.SubjectString()
		_ = r.CommonName()
		_, _ = r.SubjectAltNames()
		_, _ = r.ApplicationPolicies()
		_ = pkcs10.WeakKey(r.PublicKey)
	})
}
