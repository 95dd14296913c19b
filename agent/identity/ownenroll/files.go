package ownenroll

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/certconnector/certconnector/internal/durable"
	"github.com/certconnector/certconnector/internal/secret"
)

// key returns the new key of a role, which an earlier run may have made.
func (cfg Config) key(role Role) (*rsa.PrivateKey, error) {
	path := role.Key + newSuffix
	if !exists(path) {
		// A run that was cut off while it put files in their places may have put
		// the key there, and not the certificate.
		if cert, err := readCertificate(role.Certificate + newSuffix); err == nil && holds(role.Key, cert) {
			path = role.Key
		}
	}
	key, err := readKey(path)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if key, err = rsa.GenerateKey(rand.Reader, cfg.KeyBits); err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding a key: %w", err)
	}
	defer clear(der)
	content := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	defer clear(content)
	return key, durable.WriteFile(path, content, 0o600)
}

func readKey(path string) (*rsa.PrivateKey, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading a new key: %w", err)
	}
	defer clear(b)
	if err := secret.CheckPrivate(path); err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("%q holds no key in PEM form; remove it to begin anew", path)
	}
	defer clear(block.Bytes)
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	key, ok := parsed.(*rsa.PrivateKey)
	if err != nil || !ok {
		return nil, fmt.Errorf("%q holds no RSA key; remove it to begin anew", path)
	}
	return key, nil
}

// install puts a pair in its place. The old one stays beside it: messages that
// are under way were encrypted for it.
func install(role Role) error {
	for _, path := range []string{role.Key, role.Certificate} {
		if !exists(path + newSuffix) {
			continue // an earlier run came so far
		}
		if err := durable.Rename(path, path+oldSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("putting the old file aside: %w", err)
		}
		if err := durable.Rename(path+newSuffix, path); err != nil {
			return fmt.Errorf("putting the new file in its place: %w", err)
		}
	}
	return nil
}

// holds reports whether a file has the private key of a certificate.
func holds(path string, cert *x509.Certificate) bool {
	key, err := readKey(path)
	return err == nil && key.PublicKey.Equal(cert.PublicKey)
}

func writeCertificate(path string, cert *x509.Certificate) error {
	return durable.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}), 0o600)
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
