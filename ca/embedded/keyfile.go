package embedded

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"
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
	b, err := durable.ReadFile(path, maxFile)
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
	return durable.Create(path, b.Bytes(), 0o644)
}
