package device

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
)

// The files of a device's folder.
const (
	KeyFile         = "key.pem"
	CertificateFile = "cert.pem"
	ChainFile       = "chain.pem"
)

// Serial writes a serial number as the connector and the cloud do: upper-case
// hex of even length.
func Serial(n *big.Int) string {
	s := strings.ToUpper(n.Text(16))
	if len(s)%2 == 1 {
		s = "0" + s
	}
	return s
}

// Store writes what the device holds into a folder. Files that are there are
// replaced, each in one piece; the key goes first.
func (h *Holding) Store(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making the device's folder: %w", err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(h.Key)
	if err != nil {
		return fmt.Errorf("storing the device's key: %w", err)
	}
	var chain bytes.Buffer
	for _, c := range h.Chain {
		chain.Write(pemOf("CERTIFICATE", c.Raw))
	}
	for _, f := range []struct {
		name    string
		content []byte
		mode    os.FileMode
	}{
		{KeyFile, pemOf("PRIVATE KEY", key), 0o600},
		{CertificateFile, pemOf("CERTIFICATE", h.Certificate.Raw), 0o644},
		{ChainFile, chain.Bytes(), 0o644},
	} {
		path := filepath.Join(dir, f.name)
		if err := os.WriteFile(path+".part", f.content, f.mode); err != nil {
			return fmt.Errorf("storing what the device got: %w", err)
		}
		if err := os.Rename(path+".part", path); err != nil {
			return fmt.Errorf("storing what the device got: %w", err)
		}
	}
	return nil
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// Load reads key and certificate from a folder.
func Load(dir string) (*Holding, error) {
	block, err := readPEM(filepath.Join(dir, KeyFile))
	if err != nil {
		return nil, err
	}
	k, err := x509.ParsePKCS8PrivateKey(block)
	if err != nil {
		return nil, fmt.Errorf("reading the device's key: %w", err)
	}
	key, ok := k.(*rsa.PrivateKey)
	if !ok {
		return nil, errors.New("the device's key is not RSA")
	}
	if block, err = readPEM(filepath.Join(dir, CertificateFile)); err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(block)
	if err != nil {
		return nil, fmt.Errorf("reading the device's certificate: %w", err)
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, fmt.Errorf("key and certificate in %s do not belong together", dir)
	}
	return &Holding{Key: key, Certificate: cert}, nil
}

func readPEM(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading what the device has: %w", err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("%s is not PEM", path)
	}
	return block.Bytes, nil
}
