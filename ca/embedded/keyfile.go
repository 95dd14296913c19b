package embedded

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/certconnector/certconnector/internal/secret"
)

// Files that Create leaves in a CA's folder.
const (
	KeyFile   = "ca.key.pem" // PKCS #8, mode 0600
	ChainFile = "ca.crt.pem" // the CA certificate, then its issuers
)

// maxFile bounds what is read as a key or chain.
const maxFile = 1 << 20

// StoreKey writes a private key as PKCS #8 PEM, readable by its owner only,
// and syncs file and folder. It never replaces a file.
func StoreKey(path string, key crypto.Signer) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("encoding the private key for %q: %w", path, err)
	}
	defer clear(der)
	b := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	defer clear(b)
	return writeNew(path, b, 0o600)
}

// LoadKey reads a private key in PEM: PKCS #8 as StoreKey writes it, or the
// older forms of openssl. On Unix a file that others may read is refused.
func LoadKey(path string) (crypto.Signer, error) {
	if err := secret.CheckPrivate(path); err != nil {
		return nil, err
	}
	b, err := readSmall(path)
	if err != nil {
		return nil, fmt.Errorf("reading the private key: %w", err)
	}
	defer clear(b)
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		key, err := parseKey(block)
		clear(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("private key %q: %w", path, err)
		}
		if key != nil {
			return key, nil
		}
	}
	return nil, fmt.Errorf("no private key in PEM form in %q", path)
}

// parseKey returns nil without an error for a block of another kind, as
// openssl's EC PARAMETERS.
func parseKey(block *pem.Block) (crypto.Signer, error) {
	var key any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "ENCRYPTED PRIVATE KEY":
		err = errors.New("encrypted keys are not supported; decrypt it with openssl pkey")
	default:
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a key of type %T cannot sign", key)
	}
	return signer, nil
}

// loadIdentity reads what Create wrote.
func loadIdentity(dir string) (crypto.Signer, []*x509.Certificate, error) {
	key, err := LoadKey(filepath.Join(dir, KeyFile))
	if err != nil {
		return nil, nil, err
	}
	chain, err := LoadChain(filepath.Join(dir, ChainFile))
	if err != nil {
		return nil, nil, err
	}
	return key, chain, nil
}

// LoadChain reads the certificates of a PEM file, in its order.
func LoadChain(path string) ([]*x509.Certificate, error) {
	b, err := readSmall(path)
	if err != nil {
		return nil, fmt.Errorf("reading certificates: %w", err)
	}
	var chain []*x509.Certificate
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate in %q: %w", path, err)
		}
		chain = append(chain, cert)
	}
	if len(chain) == 0 {
		return nil, fmt.Errorf("no certificate in PEM form in %q", path)
	}
	return chain, nil
}

// StoreChain writes certificates as PEM, in their order, and syncs file and
// folder. It never replaces a file.
func StoreChain(path string, chain ...*x509.Certificate) error {
	var b bytes.Buffer
	for _, cert := range chain {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
	}
	return writeNew(path, b.Bytes(), 0o644)
}

// readSmall reads a regular file of sensible size.
func readSmall(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxFile {
		return nil, fmt.Errorf("%q is no file of keys or certificates", path)
	}
	return os.ReadFile(path)
}

// writeNew writes a file that must not exist and syncs it and its folder. What
// a failed write left is removed.
func writeNew(path string, b []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return fmt.Errorf("creating %q: %w", path, err)
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("writing %q: %w", path, errors.Join(err, os.Remove(path)))
	}
	return nil
}
