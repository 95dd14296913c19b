package scep

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
)

// minRABits is the smallest RSA key of an RA.
const minRABits = 2048

// Key usages by role. Devices choose among the certificates of GetCACert by
// keyUsage alone, so that a wrong one has them encrypt to the wrong key.
const (
	signs    = x509.KeyUsageDigitalSignature
	decrypts = x509.KeyUsageKeyEncipherment
)

// validate collects every mistake in the material.
func (ra *RA) validate() error {
	if ra.Shape == CombinedRA || ra.Shape == CADirect {
		if ra.Encryption.Certificate == nil && ra.Encryption.Key == nil {
			ra.Encryption = ra.Signing
		}
	}
	errs := []error{
		checkPair("signing pair", ra.Signing, false),
		checkPair("encryption pair", ra.Encryption, true),
		checkChain("CA chain", ra.Chain),
	}
	for i, p := range ra.Previous {
		errs = append(errs, checkPair(fmt.Sprintf("previous encryption pair %d", i+1), p, true))
	}
	for i, p := range ra.PreviousSigning {
		if p.Certificate != nil || p.Key != nil {
			errs = append(errs, checkPair(fmt.Sprintf("previous signing pair %d", i+1), p, false))
		}
	}
	if ra.Next != nil && len(ra.Next.Chain) == 0 {
		errs = append(errs, errors.New("next CA: no certificate"))
	}
	if err := errors.Join(errs...); err != nil {
		return err // what follows needs whole certificates
	}
	switch ra.Shape {
	case SplitRA:
		errs = append(errs, ra.checkUsage("signing", ra.Signing.Certificate, signs, decrypts),
			ra.checkUsage("encryption", ra.Encryption.Certificate, decrypts, signs))
	case CombinedRA:
		errs = append(errs, ra.checkSamePair(), ra.checkUsage("combined", ra.Signing.Certificate, signs|decrypts, 0))
	case CADirect:
		errs = append(errs, ra.checkSamePair(), ra.checkCA())
	default:
		errs = append(errs, fmt.Errorf("unknown %v", ra.Shape))
	}
	return errors.Join(errs...)
}

// checkPair checks that key and certificate fit, and that the key can do its work.
func checkPair(name string, p KeyPair, opens bool) error {
	if p.Certificate == nil || p.Key == nil {
		return fmt.Errorf("%s: certificate or key missing", name)
	}
	key, ok := p.Certificate.PublicKey.(*rsa.PublicKey)
	if !ok {
		return fmt.Errorf("%s: the key must be RSA, devices know nothing else", name)
	}
	if bits := key.N.BitLen(); bits < minRABits {
		return fmt.Errorf("%s: RSA key of %d bits, at least %d needed", name, bits, minRABits)
	}
	if !key.Equal(p.Key.Public()) {
		return fmt.Errorf("%s: the private key is not the certificate's", name)
	}
	if _, ok := p.Key.(crypto.Decrypter); opens && !ok {
		return fmt.Errorf("%s: the key cannot decrypt", name)
	}
	return nil
}

// checkChain checks that each certificate is issued by the next one.
func checkChain(name string, chain []*x509.Certificate) error {
	if len(chain) == 0 {
		return fmt.Errorf("%s: no CA certificate", name)
	}
	for i, c := range chain {
		if c == nil {
			return fmt.Errorf("%s: certificate %d missing", name, i+1)
		}
		for _, earlier := range chain[:i] {
			if earlier.Equal(c) {
				return fmt.Errorf("%s: certificate %d comes twice", name, i+1)
			}
		}
		if i == 0 {
			continue
		}
		if err := chain[i-1].CheckSignatureFrom(c); err != nil {
			return fmt.Errorf("%s: certificate %d is not the issuer of the one before, give issuing CA first and root last: %w", name, i+1, err)
		}
	}
	return nil
}

// checkUsage checks an RA certificate: issued by the CA, no CA itself, and of
// the key usage its role has.
func (ra *RA) checkUsage(role string, c *x509.Certificate, want, forbidden x509.KeyUsage) error {
	var errs []error
	if c.IsCA {
		errs = append(errs, fmt.Errorf("%s certificate: is a CA certificate", role))
	}
	if c.KeyUsage&want != want {
		errs = append(errs, fmt.Errorf("%s certificate: key usage %s missing", role, usageNames(want&^c.KeyUsage)))
	}
	if c.KeyUsage&forbidden != 0 {
		errs = append(errs, fmt.Errorf("%s certificate: key usage %s belongs to the other certificate; issue it anew or choose the combined shape",
			role, usageNames(forbidden)))
	}
	if err := c.CheckSignatureFrom(ra.Chain[0]); err != nil {
		errs = append(errs, fmt.Errorf("%s certificate: not issued by the CA, as devices require: %w", role, err))
	}
	return errors.Join(errs...)
}

func usageNames(u x509.KeyUsage) string {
	switch u {
	case signs:
		return "digitalSignature"
	case decrypts:
		return "keyEncipherment"
	}
	return "digitalSignature and keyEncipherment"
}

func (ra *RA) checkSamePair() error {
	if !ra.Signing.Certificate.Equal(ra.Encryption.Certificate) {
		return fmt.Errorf("%v: signing and encryption certificate differ", ra.Shape)
	}
	return nil
}

// checkCA checks the CA certificate of CADirect (RFC 8894, section 2.1.2).
func (ra *RA) checkCA() error {
	c := ra.Signing.Certificate
	if !c.Equal(ra.Chain[0]) || !c.IsCA {
		return errors.New("CA direct: the certificate is not the CA's")
	}
	if c.KeyUsage&(signs|decrypts) != signs|decrypts {
		return errors.New("CA direct: the CA certificate needs the key usages digitalSignature and keyEncipherment")
	}
	return nil
}

func selfIssued(c *x509.Certificate) bool { return bytes.Equal(c.RawIssuer, c.RawSubject) }
