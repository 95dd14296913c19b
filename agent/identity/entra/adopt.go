package entra

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
)

// Adopt copies a certificate that was made elsewhere and uploaded before into
// the folder, as a generation to go on from; so an installation whose
// configuration names certificate and key files is rotated like any other. One
// that is there already, retired or not, is left as it is.
func (s *Store) Adopt(ctx context.Context, c Credential) error {
	if c.Certificate == nil || c.Signer == nil {
		return errors.New("adopting an Entra certificate: certificate and key are needed")
	}
	switch pub, ok := c.Signer.Public().(*rsa.PublicKey); {
	case !ok:
		return errors.New("adopting an Entra certificate: Entra ID takes RSA keys")
	case !pub.Equal(c.Certificate.PublicKey):
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
	if err := s.Keys.Store(s.file(n, "key"), s.Where, c.Signer); err != nil {
		return fmt.Errorf("adopting an Entra certificate: %w", err)
	}
	s.at("entra.made.key")
	g := &generation{Credential: c, record: record{Generation: n, State: Made, Fingerprint: fingerprint, MadeAt: s.Clock().UTC()}}
	if err := s.write(g); err != nil {
		return fmt.Errorf("adopting an Entra certificate: %w", err)
	}
	s.list = append(s.list, g)
	return nil
}
