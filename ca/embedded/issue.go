package embedded

import (
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"time"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/internal/pkcs10"
)

// Issue makes a certificate for a CSR whose signature the caller has checked,
// or parks the request if the profile wants a person's approval. A request
// that is parked already keeps its ID.
func (c *CA) Issue(ctx context.Context, req ca.Request) (*ca.Issued, error) {
	p, err := c.profile(req.Template)
	if err != nil {
		return nil, err
	}
	// What would be denied is denied now, not after a person has approved it.
	d, err := c.draftFor(p, req)
	if err != nil {
		return nil, err
	}
	if p.Approval == Manual {
		return nil, c.park(ctx, req)
	}
	row, cert, err := c.sign(ctx, d)
	if err != nil {
		return nil, err
	}
	if err := c.register.AddCertificate(ctx, c.name, row); err != nil {
		return nil, unrecorded(err)
	}
	return &ca.Issued{Certificate: cert}, nil
}

// unrecorded tells what a failed write of a signed certificate means. The
// certificate has not left; but if its row may be there, only Find can say
// whether it exists.
func unrecorded(err error) error {
	if errors.Is(err, ca.ErrUnavailable) {
		return fmt.Errorf("recording the certificate: %w", err)
	}
	return fmt.Errorf("%w: recording the certificate: %v", ca.ErrOutcomeUnknown, err)
}

// profile finds a profile by the template's name.
func (c *CA) profile(name string) (*profile, error) {
	if name == "" {
		return c.standard, nil
	}
	if p := c.profiles[profileKey(name)]; p != nil {
		return p, nil
	}
	return nil, &ca.Denied{HResult: ca.HResultUnknownTemplate, Text: fmt.Sprintf("this CA has no profile %q", name)}
}

// denied is a refusal by the profile.
func denied(format string, args ...any) error {
	return &ca.Denied{HResult: ca.HResultTemplateDenied, Text: fmt.Sprintf(format, args...)}
}

// draftFor reads request and profile into what will be signed.
func (c *CA) draftFor(p *profile, req ca.Request) (draft, error) {
	csr := req.CSR
	if csr == nil {
		return draft{}, denied("the request has no CSR")
	}
	d := draft{subject: csr.RawSubject, spki: csr.RawSubjectPublicKeyInfo, san: csr.RawSAN, csrDigest: csr.Digest()}
	if len(csr.Subject) == 0 && len(csr.RawSAN) == 0 {
		return draft{}, denied("the request names nobody: subject and subjectAltName are empty")
	}
	usable, err := p.usable(csr)
	if err != nil {
		return draft{}, err
	}
	if d.keyUsage, err = p.keyUsage(x509.KeyUsage(csr.KeyUsage), usable); err != nil {
		return draft{}, err
	}
	if d.extKeyUsage, err = p.extKeyUsage(csr.ExtKeyUsage); err != nil {
		return draft{}, err
	}
	if d.extra, err = p.extra(csr.Extensions); err != nil {
		return draft{}, err
	}
	d.issuedAt = c.clock()
	d.notBefore, d.notAfter, err = c.life(d.issuedAt, p.wish(req.Validity), p.cap(req.MaxValidity), p.BackDate)
	return d, err
}

// usable returns the key usages that a kind of key can have: RFC 3279 for RSA,
// RFC 8813 for elliptic curves, which encipher nothing.
func (p *profile) usable(csr *pkcs10.Request) (x509.KeyUsage, error) {
	switch k := csr.PublicKey.(type) {
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < p.MinRSABits {
			return 0, denied("the RSA key has %d bits, profile %q wants %d", bits, p.Name, p.MinRSABits)
		}
		return x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageDataEncipherment, nil
	case *ecdsa.PublicKey:
		return x509.KeyUsageDigitalSignature | x509.KeyUsageKeyAgreement, nil
	}
	return 0, denied("a key of type %T is not certified", csr.PublicKey)
}

// keyUsage returns requested ∩ profile ∩ usable.
func (p *profile) keyUsage(requested, usable x509.KeyUsage) (x509.KeyUsage, error) {
	if requested == 0 {
		requested = p.KeyUsages
	}
	granted := requested & p.KeyUsages & usable
	if granted == 0 {
		return 0, denied("profile %q allows none of the key usages that are asked for and fit the key", p.Name)
	}
	return granted, nil
}

// extKeyUsage returns requested ∩ profile, each once, in the request's order.
func (p *profile) extKeyUsage(requested []asn1.ObjectIdentifier) ([]asn1.ObjectIdentifier, error) {
	if len(requested) == 0 {
		return p.DefaultExtKeyUsages, nil
	}
	var granted []asn1.ObjectIdentifier
	for _, oid := range requested {
		if containsOID(p.ExtKeyUsages, oid) && !containsOID(granted, oid) {
			granted = append(granted, oid)
		}
	}
	if granted == nil {
		return nil, denied("profile %q allows none of the extended key usages that are asked for", p.Name)
	}
	return granted, nil
}

// extra returns the requested extensions that the profile copies as they are.
func (p *profile) extra(requested []pkix.Extension) ([]pkix.Extension, error) {
	var granted []pkix.Extension
	for _, e := range requested {
		if !containsOID(p.Extensions, e.Id) {
			continue
		}
		for _, g := range granted {
			if g.Id.Equal(e.Id) {
				return nil, denied("the request has extension %v twice", e.Id)
			}
		}
		granted = append(granted, e)
	}
	return granted, nil
}

// wish is the validity that the request asks for, or the profile's default.
func (p *profile) wish(requested time.Duration) time.Duration {
	if requested <= 0 {
		return p.DefaultValidity
	}
	return requested
}

// cap is the longest life that profile and policy decision both allow.
func (p *profile) cap(decided time.Duration) time.Duration {
	if decided <= 0 {
		return p.MaxValidity
	}
	return min(p.MaxValidity, decided)
}

// life computes the validity. The wish counts from now; the cap counts from
// NotBefore, so that no reading of the certificate exceeds it. Neither end
// lies outside the CA's own life.
func (c *CA) life(now time.Time, wish, limit, backDate time.Duration) (notBefore, notAfter time.Time, err error) {
	now = now.UTC().Truncate(time.Second)
	if now.Before(c.cert.NotBefore) || !now.Before(c.cert.NotAfter) {
		return notBefore, notAfter, fmt.Errorf("%w: its own certificate is valid from %s to %s only; renew it or check the clock",
			ca.ErrUnavailable, c.cert.NotBefore.Format(time.DateTime), c.cert.NotAfter.Format(time.DateTime))
	}
	notBefore = now.Add(-min(backDate, limit/2)).Truncate(time.Second)
	if notBefore.Before(c.cert.NotBefore) {
		notBefore = c.cert.NotBefore
	}
	notAfter = earliest(now.Add(wish), notBefore.Add(limit), c.cert.NotAfter).Truncate(time.Second)
	if !notAfter.After(notBefore) {
		return notBefore, notAfter, denied("a validity of %v is too short", min(wish, limit))
	}
	return notBefore, notAfter, nil
}

func earliest(first time.Time, more ...time.Time) time.Time {
	for _, t := range more {
		if t.Before(first) {
			first = t
		}
	}
	return first
}
