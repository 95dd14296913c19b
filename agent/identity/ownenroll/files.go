package ownenroll

import (
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/certconnector/certconnector/internal/durable"
	"github.com/certconnector/certconnector/internal/keys"
	"github.com/certconnector/certconnector/internal/secret"
)

// key returns the new key of a role, which an earlier run may have made. That
// of a device is there before.
func (cfg Config) key(role Role) (crypto.Signer, error) {
	if keys.IsURI(role.Key) {
		return cfg.Keys.Load(role.Key)
	}
	path := role.Key + newSuffix
	if !exists(path) {
		// A run that was cut off while it put files in their places may have put
		// the key there, and not the certificate.
		if cert, err := readCertificate(role.Certificate + newSuffix); err == nil && cfg.holds(role.Key, cert) {
			path = role.Key
		}
	}
	key, err := cfg.readKey(path)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	where := role.Where
	if where == "" {
		where = keys.PlaceOfRef(role.Key)
	}
	if key, err = cfg.Keys.Create(path, where, keys.RSAKind(cfg.KeyBits)); err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	return key, nil
}

func (cfg Config) readKey(path string) (crypto.Signer, error) {
	key, err := cfg.Keys.Load(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err == nil {
		if _, ok := key.Public().(*rsa.PublicKey); ok {
			return key, nil
		}
		err = fmt.Errorf("%q holds no RSA key", path)
	}
	return nil, fmt.Errorf("reading a new key: %w; remove it to begin anew", err)
}

// handOver gives what waits to the account that will read it, before anything
// is replaced.
func (cfg Config) handOver(role Role) error {
	account := secret.AccountOf(role.Key, cfg.StateDir)
	for _, path := range []string{role.Key, role.Certificate} {
		if keys.IsURI(path) || !exists(path+newSuffix) {
			continue
		}
		if err := account.Give(path + newSuffix); err != nil {
			return err
		}
	}
	return nil
}

// install puts a pair in its place. The old one stays beside it: messages that
// are under way were encrypted for it.
func install(role Role) error {
	for _, path := range []string{role.Key, role.Certificate} {
		if keys.IsURI(path) {
			continue // the key stays where it is
		}
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
func (cfg Config) holds(path string, cert *x509.Certificate) bool {
	key, err := cfg.readKey(path)
	return err == nil && key.Public().(*rsa.PublicKey).Equal(cert.PublicKey)
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
