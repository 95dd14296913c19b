package token

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/internal/cms"
	"github.com/certconnector/certconnector/internal/pkcs10"
	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/policymodule"
)

// GenerateChallenge makes one challenge. It returns ErrNoRight for a principal
// without a right here and for a wish beyond its rights, or beyond those of
// the key that signs here; ErrBadWish for one that cannot be read; ErrTooFast
// with a method RetryAfter. Nothing is kept of a challenge.
func (m *Module) GenerateChallenge(_ context.Context, by policymodule.Principal, wish policymodule.ChallengeWish) (policymodule.MadeChallenge, error) {
	rights, ok := m.config.Rights[by.Name]
	if _, has := by.Rights[m.config.Endpoint]; !ok || !has {
		return policymodule.MadeChallenge{}, fmt.Errorf("%w: principal %q has none at endpoint %q", policymodule.ErrNoRight, by.Name, m.config.Endpoint)
	}
	now := m.config.Clock().UTC().Truncate(time.Second)
	signer := m.minter(now)
	if signer == nil {
		return policymodule.MadeChallenge{}, fmt.Errorf("%w: endpoint %q has no signing key with a certificate that is valid now", policymodule.ErrNoRight, m.config.Endpoint)
	}
	if len(wish.ExtKeyUsages) == 0 {
		// Who checks the challenge knows the rights of its signer, not of the
		// principal: what the principal may not have is said in the claims.
		wish.ExtKeyUsages = rights.ExtKeyUsages
	}
	doc, err := m.document(wish, now)
	if err != nil {
		return policymodule.MadeChallenge{}, err
	}
	body, c, err := claimed(doc)
	if err != nil {
		return policymodule.MadeChallenge{}, err
	}
	for _, r := range []policymodule.Rights{rights, signer.Rights} {
		if err := within(r, c, c.extKeyUsage); err != nil {
			return policymodule.MadeChallenge{}, fmt.Errorf("%w: %v", policymodule.ErrNoRight, err)
		}
	}
	perMinute := rights.PerMinute
	if perMinute == 0 {
		perMinute = DefaultPerMinute
	}
	if err := m.pace.Take(by.Name, perMinute); err != nil {
		return policymodule.MadeChallenge{}, err
	}
	challenge, err := m.mint(body, signer, now)
	if err != nil {
		return policymodule.MadeChallenge{}, err
	}
	made := policymodule.MadeChallenge{Challenge: challenge, ID: public(m.id(signer.Name, c.id)), Expires: c.notAfter}
	m.log.Info("challenge made",
		zap.String("endpoint", m.config.Endpoint), zap.String("principal", by.Name), zap.String("challenge_id", made.ID),
		zap.Time("expires", made.Expires), zap.String("subject", pkcs10.FormatName(c.subject)))
	return made, nil
}

// public is what stands for a challenge in logs: the beginning of its digest,
// the same as in the registration authority's audit lines.
func public(id string) string { return hex.EncodeToString([]byte(id[:min(8, len(id))])) }

// minter is who signs challenges here, nil when nobody may now.
func (m *Module) minter(now time.Time) *Signer {
	for i, s := range m.config.Signers {
		if s.Mint != nil && validAt(s.Certificate, now) {
			return &m.config.Signers[i]
		}
	}
	return nil
}

// document turns a wish into claims.
func (m *Module) document(wish policymodule.ChallengeWish, now time.Time) (*document, error) {
	lifetime := wish.Lifetime
	if lifetime == 0 {
		lifetime = m.config.MaxLifetime
	}
	lifetime = lifetime.Truncate(time.Second)
	if lifetime <= 0 || lifetime > m.config.MaxLifetime {
		return nil, fmt.Errorf("%w: a lifetime of %s; up to %s may be wished for", policymodule.ErrNoRight, wish.Lifetime, m.config.MaxLifetime)
	}
	subject, err := pkcs10.ParseNameText(wish.Subject)
	if err != nil {
		return nil, fmt.Errorf("%w: subject: %v", policymodule.ErrBadWish, err)
	}
	id := make([]byte, idSize)
	rand.Read(id)
	d := &document{
		ID: base64.RawURLEncoding.EncodeToString(id), Endpoint: m.config.Endpoint,
		NotBefore: now.Format(timeLayout), NotAfter: now.Add(lifetime).Format(timeLayout),
		Subject: writeSubject(subject), KeyUsage: wish.KeyUsage,
	}
	for _, text := range wish.SANs {
		name, err := readSANText(text)
		if err != nil {
			return nil, fmt.Errorf("%w: %v", policymodule.ErrBadWish, err)
		}
		d.SAN = append(d.SAN, name)
	}
	for _, oid := range wish.ExtKeyUsages {
		d.ExtKeyUsage = append(d.ExtKeyUsage, oid.String())
	}
	if wish.KeyType != "" || wish.MinKeyBits != 0 {
		d.Key = &keyClaim{Type: wish.KeyType, MinBits: wish.MinKeyBits}
	}
	if wish.Hash != "" {
		d.Hash = &wish.Hash
	}
	if wish.Template != "" {
		d.Template = &wish.Template
	}
	if wish.Validity != 0 {
		seconds := int64(wish.Validity / time.Second)
		d.MaxValidity = &seconds
	}
	return d, nil
}

// readSANText reads one name as "dns:phone7.corp.example".
func readSANText(text string) (n sanClaim, err error) {
	kind, value, ok := strings.Cut(text, ":")
	if !ok || value == "" {
		return n, errors.New("a subjectAltName is written as dns:…, email:…, upn:…, uri:… or ip:…")
	}
	switch strings.ToLower(kind) {
	case "dns":
		n.DNS = value
	case "email":
		n.Email = value
	case "upn":
		n.UPN = value
	case "uri":
		n.URI = value
	case "ip":
		n.IP = value
		if addr, err := netip.ParseAddr(value); err == nil {
			n.IP = addr.String() // the one form that claims may have
		}
	default:
		return n, fmt.Errorf("a subjectAltName of kind %q is not known; want dns, email, upn, uri or ip", kind)
	}
	return n, nil
}

// claimed encodes claims and reads them as whoever checks the challenge will:
// what could not be used is not made.
func claimed(d *document) ([]byte, *claims, error) {
	body, err := d.encode()
	if err != nil {
		return nil, nil, err
	}
	c, err := parseClaims(body)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %v", policymodule.ErrBadWish, err)
	}
	return body, c, nil
}

// mint signs and seals.
func (m *Module) mint(body []byte, by *Signer, now time.Time) (secret.Text, error) {
	signed, err := cms.Sign(body, by.Certificate, by.Mint, now)
	if err != nil {
		return "", fmt.Errorf("signing a challenge: %w", err)
	}
	sealed, err := cms.Seal(signed, []*x509.Certificate{m.config.Recipients[0].Certificate})
	if err != nil {
		return "", fmt.Errorf("sealing a challenge: %w", err)
	}
	text := base64.StdEncoding.EncodeToString(sealed)
	if len(text) > maxChallenge {
		return "", fmt.Errorf("%w: the challenge would be longer than 8 KiB; ask for fewer or shorter names", policymodule.ErrBadWish)
	}
	return secret.Text(text), nil
}
