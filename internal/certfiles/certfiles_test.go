package certfiles_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	"github.com/certconnector/certconnector/internal/certfiles"
	"github.com/certconnector/certconnector/internal/testkeys"
)

// issue makes a certificate of key number i; by nil: self-signed.
func issue(t testing.TB, name string, i int, by *x509.Certificate, issuerKey int, notAfter time.Time) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: notAfter,
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if by == nil {
		by, issuerKey = template, i
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by, testkeys.RSA2048(i).Public(), testkeys.RSA2048(issuerKey))
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// Of two issuers of one name the one whose key signed counts, and of two with
// that key the one that lasts.
func TestChainFollowsSignatures(t *testing.T) {
	soon, late := time.Now().AddDate(0, 1, 0), time.Now().AddDate(1, 0, 0)
	root := issue(t, "Root", 0, nil, 0, late)
	stranger := issue(t, "Issuing", 3, root, 0, late)
	old, renewed := issue(t, "Issuing", 1, root, 0, soon), issue(t, "Issuing", 1, root, 0, late)
	leaf := issue(t, "leaf", 2, renewed, 1, late)
	chain := certfiles.Chain(leaf, []*x509.Certificate{root, stranger, old, leaf, renewed})
	if len(chain) != 3 || !chain[0].Equal(leaf) || !chain[1].Equal(renewed) || !chain[2].Equal(root) {
		t.Errorf("chain of %d", len(chain))
	}
	if alone := certfiles.Chain(leaf, []*x509.Certificate{stranger, root}); len(alone) != 1 {
		t.Errorf("a chain over a stranger: %d", len(alone))
	}
	if !certfiles.IsRoot(root) || certfiles.IsRoot(leaf) {
		t.Error("the root is not told from the leaf")
	}
	if got := certfiles.ForKey([]*x509.Certificate{root, old}, testkeys.RSA2048(1).Public()); got != old {
		t.Errorf("for the key: %v", got)
	}
	if got := certfiles.ForKey([]*x509.Certificate{root, old}, testkeys.RSA2048(5).Public()); got != nil {
		t.Errorf("for a key of nobody: %v", got.Subject)
	}
}

// Two CAs that certified each other, without a root, are each on the way once.
func TestChainOfCrossCertificatesEnds(t *testing.T) {
	late := time.Now().AddDate(1, 0, 0)
	rootA, rootB := issue(t, "A", 0, nil, 0, late), issue(t, "B", 1, nil, 1, late)
	a, b := issue(t, "A", 0, rootB, 1, late), issue(t, "B", 1, rootA, 0, late)
	leaf := issue(t, "leaf", 2, a, 0, late)
	chain := certfiles.Chain(leaf, []*x509.Certificate{b, leaf, a})
	if len(chain) != 3 || !chain[1].Equal(a) || !chain[2].Equal(b) {
		t.Errorf("chain of %d", len(chain))
	}
}

func TestParseRefuses(t *testing.T) {
	root := issue(t, "Root", 0, nil, 0, time.Now().AddDate(1, 0, 0))
	for name, b := range map[string][]byte{
		"nothing":        nil,
		"a page":         []byte("<html>Sign in</html>"),
		"a lone request": []byte("-----BEGIN CERTIFICATE REQUEST-----\nMAA=\n-----END CERTIFICATE REQUEST-----\n"),
		"half of one":    root.Raw[:len(root.Raw)/2],
		"too long":       make([]byte, 2<<20),
	} {
		if certs, err := certfiles.Parse(b); err == nil {
			t.Errorf("%s: %d certificates", name, len(certs))
		}
	}
	if certs, err := certfiles.Parse(append(certfiles.PEM(root, root), root.Raw[:0]...)); err != nil || len(certs) != 1 {
		t.Errorf("the same one twice: %d, %v", len(certs), err)
	}
}

func FuzzParse(f *testing.F) {
	root := issue(f, "Root", 0, nil, 0, time.Now().AddDate(1, 0, 0))
	f.Add(root.Raw)
	f.Add(certfiles.PEM(root))
	f.Add([]byte("-----BEGIN PKCS7-----\nMAA=\n-----END PKCS7-----\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		certs, err := certfiles.Parse(b)
		if (err == nil) != (len(certs) > 0) {
			t.Errorf("%d certificates, %v", len(certs), err)
		}
		for _, c := range certs {
			if chain := certfiles.Chain(c, certs); len(chain) == 0 || len(chain) > 34 {
				t.Errorf("a chain of %d", len(chain))
			}
		}
	})
}
