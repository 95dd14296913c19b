package embedded_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/catest"
	"github.com/certconnector/certconnector/ca/embedded"
	"github.com/certconnector/certconnector/internal/testkeys"
)

// forgetful is a register that costs nothing, so that a benchmark measures the
// CA alone.
type forgetful struct{ ca.Register }

func (forgetful) AddCertificate(context.Context, string, ca.RegisteredCertificate) error { return nil }

// signers are the CA keys of the budget.
func signers() map[string]crypto.Signer {
	return map[string]crypto.Signer{"rsa2048": testkeys.RSA2048(7), "p256": testkeys.P256(1)}
}

// rootOf makes a self-signed root for a fixed key.
func rootOf(t testing.TB, key crypto.Signer, notBefore, notAfter time.Time) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Fixed CA"}, NotBefore: notBefore, NotAfter: notAfter,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func benchCA(b *testing.B, key crypto.Signer) *embedded.CA {
	root := rootOf(b, key, time.Now().Add(-time.Hour), time.Now().Add(1000*time.Hour))
	return mustOpen(b, embedded.Config{Key: key, Chain: []*x509.Certificate{root}, Register: forgetful{}})
}

// BenchmarkIssue is the whole of Issue; the budget is the time of
// BenchmarkBareSign in the same run and 60 µs.
func BenchmarkIssue(b *testing.B) {
	for name, key := range signers() {
		b.Run(name, func(b *testing.B) {
			c := benchCA(b, key)
			req := ca.Request{CSR: catest.NewCSR(b, catest.CSROptions{RawSAN: catest.OddSAN(b)})}
			for b.Loop() {
				if _, err := c.Issue(b.Context(), req); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkBareSign is the signature that no CA can avoid.
func BenchmarkBareSign(b *testing.B) {
	for name, key := range signers() {
		b.Run(name, func(b *testing.B) {
			digest := make([]byte, crypto.SHA256.Size())
			for b.Loop() {
				if _, err := key.Sign(rand.Reader, digest, crypto.SHA256); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkStandardLibrary is x509.CreateCertificate for the same request, and
// the reading back: what the CA's own encoder saves.
func BenchmarkStandardLibrary(b *testing.B) {
	for name, key := range signers() {
		b.Run(name, func(b *testing.B) {
			root := rootOf(b, key, time.Now(), time.Now().Add(1000*time.Hour))
			csr := catest.NewCSR(b, catest.CSROptions{RawSAN: catest.OddSAN(b)})
			for b.Loop() {
				der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
					SerialNumber: big.NewInt(1), RawSubject: csr.RawSubject, NotBefore: time.Now(), NotAfter: time.Now(),
					KeyUsage: x509.KeyUsage(csr.KeyUsage), UnknownExtKeyUsage: csr.ExtKeyUsage, BasicConstraintsValid: true,
				}, root, csr.PublicKey, key)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := x509.ParseCertificate(der); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
