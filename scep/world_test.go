package scep_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/scep"
)

// Which fixed key plays which part.
const (
	caKey = iota
	signingKey
	encryptionKey
	deviceKey
	otherDeviceKey
	previousKey
	foreignKey
)

var (
	notBefore = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	notAfter  = time.Date(2036, 1, 1, 0, 0, 0, 0, time.UTC)
)

// world is a CA with its registration authority.
type world struct {
	root, ca, signing, encryption, previous *x509.Certificate
}

// certify issues a certificate as a CA or, without parent, self-signed.
func certify(t testing.TB, template, parent *x509.Certificate, key crypto.PublicKey, by *rsa.PrivateKey) *x509.Certificate {
	t.Helper()
	template.NotBefore, template.NotAfter = notBefore, notAfter
	if template.SerialNumber == nil {
		template.SerialNumber = big.NewInt(1)
	}
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key, by)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func caTemplate(cn string, extra x509.KeyUsage) *x509.Certificate {
	return &x509.Certificate{
		Subject: pkix.Name{CommonName: cn, Organization: []string{"Contoso, Ltd"}}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign | extra,
	}
}

func raTemplate(cn string, serial int64, usage x509.KeyUsage) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: cn}, KeyUsage: usage,
		SubjectKeyId: []byte{byte(serial), 2, 3, 4}, BasicConstraintsValid: true,
	}
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{}
	w.root = certify(t, caTemplate("Contoso Root", 0), nil, testkeys.RSA2048(foreignKey).Public(), testkeys.RSA2048(foreignKey))
	ca := caTemplate("Contoso Issuing CA", 0)
	ca.SerialNumber = big.NewInt(2)
	w.ca = certify(t, ca, w.root, testkeys.RSA2048(caKey).Public(), testkeys.RSA2048(foreignKey))
	issue := func(template *x509.Certificate, key int) *x509.Certificate {
		return certify(t, template, w.ca, testkeys.RSA2048(key).Public(), testkeys.RSA2048(caKey))
	}
	w.signing = issue(raTemplate("RA signing", 10, x509.KeyUsageDigitalSignature), signingKey)
	w.encryption = issue(raTemplate("RA encryption", 11, x509.KeyUsageKeyEncipherment), encryptionKey)
	w.previous = issue(raTemplate("RA encryption", 9, x509.KeyUsageKeyEncipherment), previousKey)
	return w
}

// material is the split RA of this world, before NewRA.
func (w *world) material() scep.RA {
	return scep.RA{
		Signing:     scep.KeyPair{Certificate: w.signing, Key: testkeys.RSA2048(signingKey)},
		Encryption:  scep.KeyPair{Certificate: w.encryption, Key: testkeys.RSA2048(encryptionKey)},
		Previous:    []scep.KeyPair{{Certificate: w.previous, Key: testkeys.RSA2048(previousKey)}},
		Shape:       scep.SplitRA,
		Chain:       []*x509.Certificate{w.ca, w.root},
		IncludeRoot: true,
	}
}

func (w *world) ra(t testing.TB) *scep.RA {
	t.Helper()
	return newRA(t, w.material())
}

func newRA(t testing.TB, material scep.RA) *scep.RA {
	t.Helper()
	ra, err := scep.NewRA(material)
	if err != nil {
		t.Fatal(err)
	}
	return ra
}

// everything is the most lenient choice of algorithms.
var everything = scep.Algorithms{LegacySHA1: true, Legacy3DES: true}

// exchange parses and opens a message that must be fine.
func exchange(t testing.TB, ra *scep.RA, body []byte, accept scep.Algorithms) (*scep.Message, *scep.Request) {
	t.Helper()
	m, err := scep.Parse(body, accept)
	if err != nil {
		t.Fatalf("Parse: %v", err)
	}
	req, err := m.Open(ra)
	if err != nil {
		t.Fatalf("Open: %v (%s)", err, refusal(t, err).Detail)
	}
	return m, req
}

func refusal(t testing.TB, err error) *scep.Refusal {
	t.Helper()
	r, ok := err.(*scep.Refusal)
	if !ok {
		t.Fatalf("error %v is no refusal", err)
	}
	return r
}
