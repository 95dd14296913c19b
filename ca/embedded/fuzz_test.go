package embedded_test

import (
	"bytes"
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/catest"
	"github.com/certconnector/certconnector/ca/embedded"
	"github.com/certconnector/certconnector/internal/pkcs10"
	"github.com/certconnector/certconnector/internal/testkeys"
)

// FuzzIssue feeds requests whose signature nobody checked: one that reads
// becomes a certificate that crypto/x509 reads and that has its names and key,
// or a refusal.
func FuzzIssue(f *testing.F) {
	// testdata/fuzz has the odd names of catest, whole and with bytes that are
	// no UTF-8, PrintableString or IA5String.
	f.Add(catest.NewCSR(f, catest.CSROptions{}).Raw)
	key := testkeys.P256(1)
	now := time.Date(2031, 3, 1, 12, 0, 0, 0, time.UTC)
	root := rootOf(f, key, now.Add(-time.Hour), now.Add(1000*day))
	authority := mustOpen(f, embedded.Config{
		Key: key, Chain: []*x509.Certificate{root}, Register: forgetful{}, Clock: func() time.Time { return now },
	})
	f.Fuzz(func(t *testing.T, der []byte) {
		csr, err := pkcs10.Parse(der)
		if err != nil {
			return
		}
		got, err := authority.Issue(t.Context(), ca.Request{CSR: csr, Validity: csr.Validity})
		if err != nil {
			if _, ok := errors.AsType[*ca.Denied](err); !ok {
				t.Fatalf("Issue: %v, want *ca.Denied", err)
			}
			return
		}
		cert, err := x509.ParseCertificate(got.Certificate.Raw)
		if err != nil {
			t.Fatalf("the certificate does not read: %v", err)
		}
		if !bytes.Equal(cert.RawSubject, csr.RawSubject) || !bytes.Equal(cert.RawSubjectPublicKeyInfo, csr.RawSubjectPublicKeyInfo) || cert.IsCA {
			t.Error("the certificate is not what the request asks for")
		}
		if err := cert.CheckSignatureFrom(root); err != nil {
			t.Errorf("the signature does not verify: %v", err)
		}
	})
}
