package scepclient

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Capabilities are the keywords of GetCACaps, as sent.
type Capabilities []string

// Has tells whether a keyword is listed. SCEPStandard stands for AES,
// POSTPKIOperation and SHA-256 (RFC 8894, section 3.5.2).
func (c Capabilities) Has(keyword string) bool {
	listed := func(k string) bool {
		return slices.ContainsFunc(c, func(s string) bool { return strings.EqualFold(s, k) })
	}
	if listed(keyword) {
		return true
	}
	switch keyword {
	case "AES", "POSTPKIOperation", "SHA-256":
		return listed("SCEPStandard")
	}
	return false
}

// Service is what a client learned from GetCACaps and GetCACert.
type Service struct {
	Capabilities Capabilities
	Certificates []*x509.Certificate // in the order of the answer
	Recipient    *x509.Certificate   // requests are encrypted to it
	Issuer       *x509.Certificate   // the issuing CA
	Cipher       Cipher
	Digest       crypto.Hash
}

// ErrNotServed says that a platform gives up after GetCACaps or GetCACert: it
// never sends a PKIOperation to such a server.
var ErrNotServed = errors.New("the platform would not enrol here")

// negotiate chooses cipher and digest from the capabilities the way the
// platform does, weak fallbacks included.
func (s *Service) negotiate(q Quirks) error {
	for _, group := range q.NeedCapability {
		if !slices.ContainsFunc(group, s.Capabilities.Has) {
			return fmt.Errorf("%w: GetCACaps lists none of %s", ErrNotServed, strings.Join(group, ", "))
		}
	}
	switch {
	case q.Cipher != "":
		s.Cipher = q.Cipher
	case s.Capabilities.Has("AES") && q.AES != "":
		s.Cipher = q.AES
	case s.Capabilities.Has("AES"):
		s.Cipher = AES128
	case s.Capabilities.Has("DES3"):
		s.Cipher = TripleDES
	default:
		s.Cipher = SingleDES
	}
	switch {
	case q.Digest != 0:
		s.Digest = q.Digest
	case s.Capabilities.Has("SHA-512") && q.MaxDigest == crypto.SHA512:
		s.Digest = crypto.SHA512
	case s.Capabilities.Has("SHA-256"):
		s.Digest = crypto.SHA256
	case s.Capabilities.Has("SHA-1"):
		s.Digest = crypto.SHA1
	default:
		s.Digest = crypto.MD5
	}
	return nil
}

// choose finds the recipient and the issuing CA in the answer to GetCACert.
func (s *Service) choose(rule RAChoice) error {
	if len(s.Certificates) == 0 {
		return fmt.Errorf("%w: GetCACert returned no certificate", ErrNotServed)
	}
	var err error
	if rule == ChooseAsApple && len(s.Certificates) > 1 {
		s.Recipient, err = chooseAsApple(s.Certificates)
	} else {
		s.Recipient, err = chooseByUsage(s.Certificates)
	}
	if err != nil {
		return err
	}
	if _, ok := s.Recipient.PublicKey.(*rsa.PublicKey); !ok {
		return fmt.Errorf("%w: the key of %q is not RSA and cannot be encrypted to", ErrNotServed, s.Recipient.Subject)
	}
	s.Issuer = s.Recipient
	for _, c := range s.Certificates {
		if bytes.Equal(c.RawSubject, s.Recipient.RawIssuer) && s.Recipient.CheckSignatureFrom(c) == nil {
			s.Issuer = c
		}
	}
	return nil
}

// chooseByUsage is the rule of jscep and certmonger: the first end-entity
// certificate with keyEncipherment, then one with dataEncipherment, then a CA.
func chooseByUsage(set []*x509.Certificate) (*x509.Certificate, error) {
	for _, usage := range []x509.KeyUsage{x509.KeyUsageKeyEncipherment, x509.KeyUsageDataEncipherment} {
		for _, c := range set {
			if !c.IsCA && c.KeyUsage&usage != 0 {
				return c, nil
			}
		}
	}
	for _, c := range set {
		if c.IsCA {
			return c, nil
		}
	}
	return nil, fmt.Errorf("%w: no certificate of GetCACert has keyEncipherment and none is a CA's", ErrNotServed)
}

// chooseAsApple follows Apple's published client: certificates whose chain
// has more than one member are candidates, all their chains must end in the
// same certificate, and key usage tells the kinds apart. Without a combined
// RA or a pair of both split kinds it ends before any PKIOperation (-67731).
func chooseAsApple(set []*x509.Certificate) (*x509.Certificate, error) {
	const both = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment
	var last, combined, signing, encryption *x509.Certificate
	for _, c := range set {
		path := chain(c, set)
		if len(path) < 2 {
			continue
		}
		end := path[len(path)-1]
		if last != nil && !last.Equal(end) {
			return nil, fmt.Errorf("%w: the chains of GetCACert end in %q and in %q, Apple wants one and the same", ErrNotServed, last.Subject, end.Subject)
		}
		last = end
		switch c.KeyUsage & both {
		case both:
			combined = first(combined, c)
		case x509.KeyUsageKeyEncipherment:
			encryption = first(encryption, c)
		case x509.KeyUsageDigitalSignature:
			signing = first(signing, c)
		}
	}
	switch {
	case signing != nil && encryption != nil:
		return encryption, nil
	case combined != nil:
		return combined, nil
	}
	return nil, fmt.Errorf("%w: GetCACert has neither a combined RA certificate nor a pair of both kinds (Apple: key usage is incorrect, -67731)", ErrNotServed)
}

func first(have, c *x509.Certificate) *x509.Certificate {
	if have != nil {
		return have
	}
	return c
}

// chain follows issuers inside the set, c first.
func chain(c *x509.Certificate, set []*x509.Certificate) []*x509.Certificate {
	path := []*x509.Certificate{c}
	for len(path) <= len(set) {
		at := path[len(path)-1]
		if bytes.Equal(at.RawIssuer, at.RawSubject) {
			return path
		}
		i := slices.IndexFunc(set, func(p *x509.Certificate) bool {
			return bytes.Equal(p.RawSubject, at.RawIssuer) && at.CheckSignatureFrom(p) == nil
		})
		if i < 0 {
			return path
		}
		path = append(path, set[i])
	}
	return path
}
