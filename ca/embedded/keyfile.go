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

	"github.com/certconnector/certconnector/internal/durable"
	"github.com/certconnector/certconnector/internal/keys"
)

// Files that Create leaves in a CA's folder.
const (
	KeyFile   = "ca.key.pem" // PKCS #8, mode 0600
	ChainFile = "ca.crt.pem" // the CA certificate, then its issuers
)

// maxFile bounds what is read as a chain.
const maxFile = 1 << 20

// StoreKey writes a private key as PKCS #8 PEM, readable by its owner only,
// and syncs file and folder. It never replaces a file.
func StoreKey(path string, key crypto.Signer) error { return keys.StoreFile(path, key) }

// LoadKey reads a private key that lies in a PEM file as it is.
func LoadKey(path string) (crypto.Signer, error) { return keys.LoadFile(path) }

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
		return nil, fmt.Errorf("%q is no file of certificates", path)
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
		err = durable.SyncFolder(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("writing %q: %w", path, errors.Join(err, os.Remove(path)))
	}
	return nil
}
