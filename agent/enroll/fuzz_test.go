package enroll

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"testing"

	"github.com/certconnector/certconnector/internal/pkcs10"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/policymodule"
	"github.com/certconnector/certconnector/scep"
)

// FuzzRules feeds requests of strangers to the rules, and wants of what they
// let pass what no certificate may lack.
func FuzzRules(f *testing.F) {
	for _, ext := range []pkix.Extension{
		{Id: oidSID, Value: []byte("\x30\x40\xa0\x3e\x06\x0a\x2b\x06\x01\x04\x01\x82\x37\x19\x02\x01\xa0\x30\x04\x2eS-1-5-21-1111111111-2222222222-3333333333-1001")},
		{Id: oidSAN, Value: append([]byte("\x30\x36\x86\x34"), "tag:microsoft.com,2022-09-14:sid:S-1-5-21-1-2-3-1001"...)},
		{Id: pkcs10.OIDApplicationPolicies, Value: []byte("\x30\x0e\x30\x0c\x06\x0a\x2b\x06\x01\x04\x01\x82\x37\x14\x02\x01")},
	} {
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{ExtraExtensions: []pkix.Extension{ext}}, testkeys.RSA2048(0))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(der, true, true)
		f.Add(der, false, false)
	}
	f.Fuzz(func(t *testing.T, der []byte, vouched, strip bool) {
		csr, err := pkcs10.Parse(der)
		if err != nil {
			return
		}
		_ = altNames(csr)
		if (Rules{StripSID: strip, LegacySHA1: true}).check(&scep.Request{CSR: csr}, vouched) != nil {
			return
		}
		names, err := csr.SubjectAltNames()
		if err != nil {
			t.Fatal("a subjectAltName that cannot be read was let pass")
		}
		sids := policymodule.SIDs(names)
		if tags := bytes.Count(bytes.ToLower(csr.RawSAN), sidURI); tags != len(sids) || tags > 1 || tags == 1 && !vouched {
			t.Errorf("%d security identifiers were let pass, %d of them in URIs, vouched: %v", tags, len(sids), vouched)
		}
		if _, asked := requestedSID(csr); asked && !strip {
			t.Error("a security identifier extension was let pass")
		}
		policies, err := csr.ApplicationPolicies()
		if err != nil {
			t.Error("application policies that cannot be read were let pass")
		}
		for _, usage := range append(policies, csr.ExtKeyUsage...) {
			if neverIssued(usage) {
				t.Errorf("usage %v was let pass", usage)
			}
		}
	})
}
