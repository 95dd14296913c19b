// Package raenroll gets the registration authority's certificates from the CA
// in front of which we stand, where that is a Microsoft CA: devices trust the
// RA only if its certificates come from the CA that issues theirs. The same
// steps renew them.
//
// Nothing is replaced until both certificates are there and have been checked:
// new keys, and the IDs of requests that a person at the CA must approve, wait
// beside the old files, so that the command may be run again.
package raenroll

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/internal/pkcs10"
	"github.com/certconnector/certconnector/internal/secret"
)

// Role is what a certificate of the RA is for.
type Role struct {
	Name        string // signing, encryption or combined; for people
	Certificate string // where the PEM file belongs, with its key
	Key         string
	Template    string // common name of the certificate template
	KeyUsage    x509.KeyUsage
}

// Config says what to enrol, and where.
type Config struct {
	CA      ca.Authority
	Chain   []*x509.Certificate // of the CA, as it is configured
	Subject pkix.Name           // of the certificates; the role's name is added to the common name
	Roles   []Role
	KeyBits int // 0: 2048

	Clock func() time.Time // nil: time.Now
}

// Result is how far a run came.
type Result struct {
	Installed []Installed `json:"installed"` // empty while one is parked
	Parked    []Parked    `json:"parked"`
}

// Installed is a certificate that is in its place now.
type Installed struct {
	Role     string    `json:"role"`
	File     string    `json:"file"`
	Subject  string    `json:"subject"`
	NotAfter time.Time `json:"not_after"`
}

// Parked is a request that a person at the CA must approve.
type Parked struct {
	Role      string `json:"role"`
	RequestID string `json:"request_id"`
}

// suffixes of what waits beside a role's files.
const (
	newSuffix     = ".new"
	pendingSuffix = ".pending"
	oldSuffix     = ".old"
)

// Run takes every role as far as it goes, and puts the certificates in their
// places once all are there.
func Run(ctx context.Context, cfg Config) (Result, error) {
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.KeyBits == 0 {
		cfg.KeyBits = 2048
	}
	var result Result
	certificates := make([]*x509.Certificate, len(cfg.Roles))
	for i, role := range cfg.Roles {
		cert, err := cfg.enrol(ctx, role)
		var parked *ca.Pending
		switch {
		case errors.As(err, &parked):
			result.Parked = append(result.Parked, Parked{Role: role.Name, RequestID: parked.RequestID})
		case err != nil:
			return result, fmt.Errorf("%s certificate: %w", role.Name, err)
		}
		certificates[i] = cert
	}
	if len(result.Parked) > 0 {
		return result, nil
	}
	for i, role := range cfg.Roles {
		if err := cfg.install(role, certificates[i]); err != nil {
			return result, fmt.Errorf("%s certificate: %w", role.Name, err)
		}
		result.Installed = append(result.Installed, Installed{
			Role: role.Name, File: role.Certificate, Subject: certificates[i].Subject.String(), NotAfter: certificates[i].NotAfter,
		})
	}
	return result, nil
}

// enrol returns a role's new certificate: one that waits since an earlier run,
// one that was approved meanwhile, or a new one.
func (cfg Config) enrol(ctx context.Context, role Role) (*x509.Certificate, error) {
	key, err := cfg.key(role)
	if err != nil {
		return nil, err
	}
	if cert, err := readCertificate(role.Certificate + newSuffix); err == nil && cfg.check(role, cert, key) == nil {
		return cert, nil
	}
	issued, err := cfg.ask(ctx, role, key)
	if err != nil {
		return nil, err
	}
	if err := cfg.check(role, issued.Certificate, key); err != nil {
		return nil, err
	}
	if err := write(role.Certificate+newSuffix, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: issued.Certificate.Raw})); err != nil {
		return nil, err
	}
	return issued.Certificate, remove(role.Certificate + pendingSuffix)
}

// ask collects a request that was parked, or submits one. The request's ID is
// on disk before anybody is told of it.
func (cfg Config) ask(ctx context.Context, role Role, key *rsa.PrivateKey) (*ca.Issued, error) {
	id, err := os.ReadFile(role.Certificate + pendingSuffix)
	switch {
	case err == nil:
		collector, ok := ca.Ability[ca.Collector](cfg.CA)
		if !ok {
			return nil, errors.New("a request is parked, and this bridge cannot collect it")
		}
		issued, err := collector.Collect(ctx, strings.TrimSpace(string(id)))
		var denied *ca.Denied
		if errors.As(err, &denied) || errors.Is(err, ca.ErrNotFound) {
			err = errors.Join(err, remove(role.Certificate+pendingSuffix)) // the next run begins anew
		}
		return issued, err
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("reading the ID of a parked request: %w", err)
	}
	csr, err := cfg.request(role, key)
	if err != nil {
		return nil, err
	}
	issued, err := cfg.CA.Issue(ctx, ca.Request{CSR: csr, Template: role.Template})
	var parked *ca.Pending
	if errors.As(err, &parked) {
		if err := write(role.Certificate+pendingSuffix, []byte(parked.RequestID+"\n")); err != nil {
			return nil, err
		}
	}
	return issued, err
}

// key returns the new key of a role, which an earlier run may have made.
func (cfg Config) key(role Role) (*rsa.PrivateKey, error) {
	path := role.Key + newSuffix
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		// A run that was cut off while it put files in their places may have put
		// the key there, and not the certificate.
		if cert, failed := readCertificate(role.Certificate + newSuffix); failed == nil && holds(role.Key, cert) {
			path = role.Key
			b, err = os.ReadFile(path)
		}
	}
	if err == nil {
		if err := secret.CheckPrivate(path); err != nil {
			return nil, err
		}
		block, _ := pem.Decode(b)
		if block == nil {
			return nil, fmt.Errorf("%q holds no key in PEM form; remove it to begin anew", path)
		}
		parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		key, ok := parsed.(*rsa.PrivateKey)
		if err != nil || !ok {
			return nil, fmt.Errorf("%q holds no RSA key; remove it to begin anew", path)
		}
		return key, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading a new key: %w", err)
	}
	key, err := rsa.GenerateKey(rand.Reader, cfg.KeyBits)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding a key: %w", err)
	}
	return key, write(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// request asks for the names and the usage of a role.
func (cfg Config) request(role Role, key crypto.Signer) (*pkcs10.Request, error) {
	subject := cfg.Subject
	subject.CommonName = strings.TrimSpace(subject.CommonName + " RA " + role.Name)
	usage, err := asn1.Marshal(keyUsageBits(role.KeyUsage))
	if err != nil {
		return nil, fmt.Errorf("encoding the key usage: %w", err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject:         subject,
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 15}, Critical: true, Value: usage}},
	}, key)
	if err != nil {
		return nil, fmt.Errorf("making the request: %w", err)
	}
	return pkcs10.Parse(der)
}

// keyUsageBits is the BIT STRING of RFC 5280, section 4.2.1.3, for the usages
// that an RA has: they are in its first three bits.
func keyUsageBits(usage x509.KeyUsage) asn1.BitString {
	var b byte
	length := 1
	if usage&x509.KeyUsageDigitalSignature != 0 {
		b |= 0x80
	}
	if usage&x509.KeyUsageKeyEncipherment != 0 {
		b |= 0x20
		length = 3
	}
	return asn1.BitString{Bytes: []byte{b}, BitLength: length}
}

// check wants a certificate that devices will take from the RA.
func (cfg Config) check(role Role, cert *x509.Certificate, key *rsa.PrivateKey) error {
	pub, ok := cert.PublicKey.(*rsa.PublicKey)
	switch {
	case !ok || !pub.Equal(&key.PublicKey):
		return errors.New("the CA returned a certificate for another key")
	case cert.IsCA:
		return errors.New("the CA returned a CA certificate; name another template")
	case cert.KeyUsage != 0 && cert.KeyUsage&role.KeyUsage != role.KeyUsage:
		return fmt.Errorf("the certificate lacks the key usage of the %s role; template %q must allow it (Extensions, Key Usage)", role.Name, role.Template)
	case !cert.NotAfter.After(cfg.Clock()):
		return errors.New("the certificate has expired")
	}
	for _, issuer := range cfg.Chain {
		if cert.CheckSignatureFrom(issuer) == nil {
			return nil
		}
	}
	return errors.New("the certificate was not signed by the CA that is configured (chain)")
}

// install puts a pair in its place. The old one stays beside it: messages that
// are under way were encrypted for it.
func (cfg Config) install(role Role, cert *x509.Certificate) error {
	for _, path := range []string{role.Key, role.Certificate} {
		if _, err := os.Stat(path + newSuffix); errors.Is(err, fs.ErrNotExist) {
			continue // an earlier run came so far
		}
		if err := os.Rename(path, path+oldSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("putting the old file aside: %w", err)
		}
		if err := os.Rename(path+newSuffix, path); err != nil {
			return fmt.Errorf("putting the new file in its place: %w", err)
		}
	}
	return nil
}

// holds reports whether a file has the private key of a certificate.
func holds(path string, cert *x509.Certificate) bool {
	b, err := os.ReadFile(path)
	if err != nil {
		return false
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return false
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	key, ok := parsed.(*rsa.PrivateKey)
	return err == nil && ok && key.PublicKey.Equal(cert.PublicKey)
}

func readCertificate(path string) (*x509.Certificate, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("%q holds no certificate in PEM form", path)
	}
	return x509.ParseCertificate(block.Bytes)
}

// write makes a file that only its owner can read, and that survives a power
// failure whole or not at all.
func write(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".ra-*")
	if err != nil {
		return fmt.Errorf("writing %q: %w", path, err)
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("writing %q: %w", path, err), remove(f.Name()))
	}
	return nil
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing %q: %w", path, err)
	}
	return nil
}
