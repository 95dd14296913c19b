package embedded

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Options describe a CA to create.
type Options struct {
	Subject  pkix.Name     // its name; a common name is required
	KeyKind  KeyKind       // "": rsa3072
	Validity time.Duration // life of the root; 0: ten years
	// Direct adds keyEncipherment, for an endpoint that answers with the CA
	// certificate alone (RFC 8894, section 2.1.2). It exposes the CA's key to
	// whatever devices send; a registration authority's key is the better
	// choice.
	Direct bool
	Clock  func() time.Time // nil: time.Now
}

const (
	defaultRootValidity = 10 * 365 * 24 * time.Hour
	// rootBackDate lets devices whose clock is slow use a new root.
	rootBackDate = time.Hour
)

// Create makes a key and a self-signed root in dir, which is made if need be.
// It never replaces a file: a CA whose key is lost cannot be had back. Both
// files are on disk when it returns.
func Create(dir string, o Options) (*x509.Certificate, error) {
	if o.Subject.CommonName == "" {
		return nil, errors.New("creating a CA: it needs a common name")
	}
	if o.KeyKind == "" {
		o.KeyKind = RSA3072
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("creating the CA's folder: %w", err)
	}
	for _, name := range []string{KeyFile, ChainFile} {
		if _, err := os.Lstat(filepath.Join(dir, name)); !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("%q is there already: open this CA, or choose another folder", filepath.Join(dir, name))
		}
	}
	key, err := GenerateKey(o.KeyKind)
	if err != nil {
		return nil, fmt.Errorf("making the CA key: %w", err)
	}
	template, err := rootTemplate(o)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("signing the CA certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("reading the new CA certificate: %w", err)
	}
	if err := StoreKey(filepath.Join(dir, KeyFile), key); err != nil {
		return nil, err
	}
	if err := StoreChain(filepath.Join(dir, ChainFile), cert); err != nil {
		// Nothing was signed with the key for anybody; the next try may start anew.
		return nil, errors.Join(err, os.Remove(filepath.Join(dir, KeyFile)))
	}
	return cert, nil
}

// rootTemplate is a root that issues end-entity certificates only.
// digitalSignature is for clients that want it of whoever signs a reply, and
// for OCSP.
func rootTemplate(o Options) (*x509.Certificate, error) {
	now, validity := time.Now, o.Validity
	if o.Clock != nil {
		now = o.Clock
	}
	if validity == 0 {
		validity = defaultRootValidity
	}
	if validity < 24*time.Hour {
		return nil, fmt.Errorf("creating a CA: a life of %v is too short", validity)
	}
	usage := x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature
	if o.Direct {
		if o.KeyKind == P256 || o.KeyKind == P384 {
			return nil, errors.New("creating a CA: only an RSA key can decrypt what devices send")
		}
		usage |= x509.KeyUsageKeyEncipherment
	}
	t := now().UTC().Truncate(time.Second)
	return &x509.Certificate{
		SerialNumber: newSerial(), Subject: o.Subject,
		NotBefore: t.Add(-rootBackDate), NotAfter: t.Add(validity),
		KeyUsage: usage, BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
	}, nil
}
