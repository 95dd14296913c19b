// Package token makes and checks challenges that say themselves what they are
// good for: claims about subject, alternative names, usages and key, signed by
// who makes them and sealed for who checks them (CMS). Who holds such a
// challenge can get the one certificate that it describes and no other.
//
// An MDM server can make challenges with a key of its own and without asking
// us; docs/policy-token.md is the format. It has nothing in common with
// Intune's challenge, and neither is ever taken for the other.
package token

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/internal/cms"
	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/policymodule"
)

// Defaults and bounds of Config.
const (
	DefaultLifetime  = time.Hour
	MinLifetime      = time.Minute
	MaxLifetime      = 30 * 24 * time.Hour
	DefaultClockSkew = 2 * time.Minute
	MaxClockSkew     = 10 * time.Minute
	DefaultPerMinute = 60
)

// Recipient is an RSA certificate that challenges are sealed to, with its key.
type Recipient = cms.Recipient

// Signer is a party whose challenges are believed.
type Signer struct {
	// Name of the party, for logs and for telling its challenges from others'.
	// The certificates of one party share it while one replaces the other, so
	// that a challenge stays one challenge whichever key signed it.
	Name        string
	Certificate *x509.Certificate

	// Rights bound what its challenges may say; MaxOutstanding and PerMinute
	// mean nothing here, since others make them.
	Rights policymodule.Rights

	// Mint signs the challenges that are made here; nil: only others make them.
	Mint crypto.Signer
}

// Config says whose challenges an endpoint takes.
type Config struct {
	Endpoint   string      // name of the SCEP endpoint; required
	Recipients []Recipient // at least one; challenges made here are sealed to the first
	Signers    []Signer    // at least one; the first with Mint and a valid certificate makes challenges
	Sealer     *secret.Sealer

	MaxLifetime time.Duration // not_after - not_before; 1 min to 30 days; 0: 60 min
	ClockSkew   time.Duration // that a clock of a signer may be off; up to 10 min; 0: 2 min

	// Rights are those of the principals that have challenges made here, by
	// name. MaxOutstanding means nothing: nothing is kept of a challenge until
	// it is used.
	Rights map[string]policymodule.Rights

	// AllowRenewals grants requests that carry no challenge but are signed by
	// a valid certificate of ours.
	AllowRenewals bool

	Clock func() time.Time // nil: time.Now
	Log   *zap.Logger      // has one audit line for each challenge made here; nil: none
}

// Module is the challenges of one endpoint. It keeps nothing: that a challenge
// is used once is the journal's doing, by ChallengeID.
type Module struct {
	config Config
	log    *zap.Logger
	pace   *policymodule.Pace
}

var (
	_ policymodule.Module     = (*Module)(nil)
	_ policymodule.Challenger = (*Module)(nil)
)

// New returns a Module, or says all that is wrong with its configuration.
func New(config Config) (*Module, error) {
	if config.MaxLifetime == 0 {
		config.MaxLifetime = DefaultLifetime
	}
	if config.ClockSkew == 0 {
		config.ClockSkew = DefaultClockSkew
	}
	if config.Clock == nil {
		config.Clock = time.Now
	}
	if config.Log == nil {
		config.Log = zap.NewNop()
	}
	config.Recipients, config.Signers = slices.Clone(config.Recipients), slices.Clone(config.Signers)
	config.Rights = maps.Clone(config.Rights)
	if err := config.check(); err != nil {
		return nil, err
	}
	m := &Module{config: config, log: config.Log, pace: policymodule.NewPace(config.Clock)}
	m.warn()
	return m, nil
}

func (c *Config) check() error {
	var errs []error
	if c.Endpoint == "" || c.Sealer == nil {
		errs = append(errs, errors.New("signed challenges need an endpoint and the local key"))
	}
	if c.MaxLifetime < MinLifetime || c.MaxLifetime > MaxLifetime {
		errs = append(errs, fmt.Errorf("a lifetime of %s for signed challenges; want %s to %s", c.MaxLifetime, MinLifetime, MaxLifetime))
	}
	if c.ClockSkew < 0 || c.ClockSkew > MaxClockSkew {
		errs = append(errs, fmt.Errorf("a clock skew of %s; want up to %s", c.ClockSkew, MaxClockSkew))
	}
	if len(c.Recipients) == 0 {
		errs = append(errs, errors.New("signed challenges need a recipient: a certificate and key that they are sealed to"))
	}
	if len(c.Signers) == 0 {
		errs = append(errs, errors.New("signed challenges need a signer: a signing key here, or somebody who is trusted"))
	}
	for i, r := range c.Recipients {
		if err := checkRecipient(r); err != nil {
			errs = append(errs, fmt.Errorf("recipient %d: %w", i+1, err))
		}
	}
	for i, s := range c.Signers {
		if err := c.checkSigner(i, s); err != nil {
			errs = append(errs, fmt.Errorf("signer %d (%q): %w", i+1, s.Name, err))
		}
	}
	for name, r := range c.Rights {
		if name == "" || r.PerMinute < 0 {
			errs = append(errs, fmt.Errorf("principal %q has no name, or a negative per_minute", name))
		}
	}
	return errors.Join(errs...)
}

func checkRecipient(r Recipient) error {
	if r.Certificate == nil || r.Key == nil {
		return errors.New("needs a certificate and its key")
	}
	public, ok := r.Certificate.PublicKey.(*rsa.PublicKey)
	if !ok || public.N.BitLen() < 2048 || public.N.BitLen() > 8192 {
		return errors.New("challenges are sealed to RSA keys of 2048 to 8192 bits only")
	}
	if !public.Equal(r.Key.Public()) {
		return errors.New("the key does not belong to the certificate")
	}
	if u := r.Certificate.KeyUsage; u != 0 && u&x509.KeyUsageKeyEncipherment == 0 {
		return errors.New("the certificate's key usage lacks keyEncipherment")
	}
	return nil
}

func (c *Config) checkSigner(i int, s Signer) error {
	if s.Name == "" || s.Certificate == nil {
		return errors.New("needs a name and a certificate")
	}
	if err := cms.CheckSigningKey(s.Certificate.PublicKey); err != nil {
		return err
	}
	if u := s.Certificate.KeyUsage; u != 0 && u&x509.KeyUsageDigitalSignature == 0 {
		return errors.New("the certificate's key usage lacks digitalSignature")
	}
	if s.Certificate.IsCA { // as a chain in a file of signers would bring along
		return errors.New("the certificate is a CA's, whose key signs certificates; make one with basicConstraints CA:FALSE for challenges")
	}
	if s.Mint != nil && !samePublic(s.Certificate.PublicKey, s.Mint.Public()) {
		return errors.New("the key does not belong to the certificate")
	}
	for _, other := range c.Signers[:i] {
		if other.Certificate != nil && other.Certificate.Equal(s.Certificate) {
			return errors.New("the certificate is that of another signer")
		}
	}
	// A key that decrypts for strangers signs nothing, and the reverse.
	for _, r := range c.Recipients {
		if r.Certificate != nil && samePublic(s.Certificate.PublicKey, r.Certificate.PublicKey) {
			return errors.New("the key is also that of a recipient; signing and sealing need a key each")
		}
	}
	return nil
}

func samePublic(a, b crypto.PublicKey) bool {
	key, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && key.Equal(b)
}

// warn tells of signers whose challenges will be refused.
func (m *Module) warn() {
	now := m.config.Clock()
	for _, s := range m.config.Signers {
		if !validAt(s.Certificate, now) {
			m.log.Warn("certificate of a challenge signer is not valid now: its challenges are refused",
				zap.String("endpoint", m.config.Endpoint), zap.String("signer", s.Name),
				zap.Time("not_before", s.Certificate.NotBefore), zap.Time("not_after", s.Certificate.NotAfter))
		}
	}
}

func validAt(cert *x509.Certificate, now time.Time) bool {
	return !now.Before(cert.NotBefore) && !now.After(cert.NotAfter)
}

// Lifetime is how long a challenge is good unless a shorter life is wished
// for, and the longest that is accepted.
func (m *Module) Lifetime() time.Duration { return m.config.MaxLifetime }

// Notify has nobody to tell.
func (m *Module) Notify(context.Context, policymodule.Outcome) error { return nil }
