package entra

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// Adopt copies a certificate that was made elsewhere and uploaded before into
// the folder, as a generation to go on from; so an installation whose
// configuration names certificate and key files is rotated like any other. One
// that is there already, retired or not, is left as it is.
func (s *Store) Adopt(ctx context.Context, c Credential) error {
	key, ok := c.Signer.(*rsa.PrivateKey)
	switch {
	case c.Certificate == nil || !ok:
		return errors.New("adopting an Entra certificate: an RSA key that can be copied is needed")
	case !key.PublicKey.Equal(c.Certificate.PublicKey):
		return errors.New("adopting an Entra certificate: key and certificate do not belong together")
	}
	end, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.reload(); err != nil {
		return err
	}
	fingerprint := Fingerprint(c.Certificate.Raw)
	for _, g := range s.list {
		if g.Fingerprint == fingerprint {
			return nil
		}
	}
	n, err := s.nextNumber()
	if err != nil {
		return fmt.Errorf("adopting an Entra certificate: %w", err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("encoding the key: %w", err)
	}
	defer clear(pkcs8)
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
	defer clear(keyPEM)
	g := &generation{Credential: c, record: record{Generation: n, State: Made, Fingerprint: fingerprint, MadeAt: s.Clock().UTC()}}
	if err := s.write(g, keyPEM); err != nil {
		return fmt.Errorf("adopting an Entra certificate: %w", err)
	}
	s.list = append(s.list, g)
	return nil
}
