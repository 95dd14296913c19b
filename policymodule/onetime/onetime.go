// Package onetime makes and checks one-time passwords, as Microsoft's NDES
// does without a policy module: an MDM server reads a new password from the
// page mscep_admin for each device, and the device sends it as the challenge
// of its request. A password says nothing about the device; what bounds its
// use are the rights of the principal that had it made.
//
// Passwords survive a restart, but only as keyed digests: a Ledger remembers
// who had which made, and the journal's intents say which are spent. This
// package spends nothing itself, so a request that is refused costs its
// password nothing.
package onetime

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/policymodule"
)

// Defaults and bounds of Config.
const (
	DefaultLifetime       = 60 * time.Minute // NDES' PasswordValidity
	MinLifetime           = time.Minute
	MaxLifetime           = 24 * time.Hour
	DefaultBytes          = 16
	MinBytes              = 8 // NDES' PasswordLength
	MaxBytes              = 32
	DefaultMaxOutstanding = 1000 // NDES' PasswordMax is 5
	DefaultPerMinute      = 60
)

// Config says whose passwords an endpoint takes, and how many.
type Config struct {
	Endpoint string              // name of the SCEP endpoint; required
	Ledger   policymodule.Ledger // required
	Sealer   *secret.Sealer      // required

	// Rights are those of the principals at this endpoint, by name. A
	// password is worth what its principal may have when it is used, not when
	// it was made.
	Rights map[string]policymodule.Rights

	Lifetime       time.Duration // of a password, whole minutes; 1 min to 24 h; 0: 60 min
	Bytes          int           // random bytes of a password, shown as twice as many digits; 8 to 32; 0: 16
	MaxOutstanding int           // passwords of all principals that are neither spent nor expired; 0: 1000

	// AllowRenewals grants requests that carry no challenge but are signed by
	// a valid certificate of ours.
	AllowRenewals bool

	Clock func() time.Time // nil: time.Now
	Log   *zap.Logger      // has one audit line for each password; nil: none
}

// Module is the one-time passwords of one endpoint.
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
	setDefault(&config.Lifetime, DefaultLifetime)
	setDefault(&config.Bytes, DefaultBytes)
	setDefault(&config.MaxOutstanding, DefaultMaxOutstanding)
	if config.Clock == nil {
		config.Clock = time.Now
	}
	if config.Log == nil {
		config.Log = zap.NewNop()
	}
	config.Rights = maps.Clone(config.Rights)
	var errs []error
	if config.Endpoint == "" || config.Ledger == nil || config.Sealer == nil {
		errs = append(errs, errors.New("one-time passwords need an endpoint, a ledger and the local key"))
	}
	if err := checkLifetime(config.Lifetime); err != nil {
		errs = append(errs, err)
	}
	if config.Bytes < MinBytes || config.Bytes > MaxBytes {
		errs = append(errs, fmt.Errorf("a one-time password of %d bytes; want %d to %d", config.Bytes, MinBytes, MaxBytes))
	}
	if config.MaxOutstanding < 0 {
		errs = append(errs, errors.New("max_outstanding is negative"))
	}
	if len(config.Rights) == 0 {
		errs = append(errs, fmt.Errorf("no principal has a right at endpoint %q; name one under principals", config.Endpoint))
	}
	for name, r := range config.Rights {
		if name == "" || r.MaxOutstanding < 0 || r.PerMinute < 0 {
			errs = append(errs, fmt.Errorf("principal %q has no name, or a negative max_outstanding or per_minute", name))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return &Module{config: config, log: config.Log, pace: policymodule.NewPace(config.Clock)}, nil
}

func setDefault[T int | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// checkLifetime wants whole minutes because the page tells it in minutes.
func checkLifetime(d time.Duration) error {
	if d < MinLifetime || d > MaxLifetime || d%time.Minute != 0 {
		return fmt.Errorf("a lifetime of %s for one-time passwords; want whole minutes, %s to %s", d, MinLifetime, MaxLifetime)
	}
	return nil
}

// Lifetime is how long a password is good unless a shorter life is wished for.
func (m *Module) Lifetime() time.Duration { return m.config.Lifetime }

// GenerateChallenge makes one password and records it before it is returned:
// a crash between the two costs its place until it expires, and never a
// password that is not known later. It returns ErrNoRight for a principal
// without a right here and for any wish but a shorter lifetime, ErrTooFast
// (with a method RetryAfter), ErrLedgerFull, or that it could not record.
func (m *Module) GenerateChallenge(ctx context.Context, by policymodule.Principal, wish policymodule.ChallengeWish) (policymodule.MadeChallenge, error) {
	rights, ok := m.config.Rights[by.Name]
	if _, has := by.Rights[m.config.Endpoint]; !ok || !has {
		return policymodule.MadeChallenge{}, fmt.Errorf("%w: principal %q has none at endpoint %q", policymodule.ErrNoRight, by.Name, m.config.Endpoint)
	}
	lifetime, err := m.lifetime(wish)
	if err != nil {
		return policymodule.MadeChallenge{}, err
	}
	perMinute := rights.PerMinute
	setDefault(&perMinute, DefaultPerMinute)
	if err := m.pace.Take(by.Name, perMinute); err != nil {
		return policymodule.MadeChallenge{}, err
	}

	password := m.password()
	now := m.config.Clock()
	c := policymodule.Challenge{
		ID: m.id(password), Endpoint: m.config.Endpoint, Principal: by.Name, Made: now, Expires: now.Add(lifetime),
	}
	quota := policymodule.Quota{Endpoint: m.config.MaxOutstanding, Principal: rights.MaxOutstanding}
	if err := m.config.Ledger.AddChallenge(ctx, c, quota); err != nil {
		return policymodule.MadeChallenge{}, fmt.Errorf("recording a one-time password for %q: %w", by.Name, err)
	}
	made := policymodule.MadeChallenge{Challenge: password, ID: public(c.ID), Expires: c.Expires}
	m.log.Info("challenge made",
		zap.String("endpoint", c.Endpoint), zap.String("principal", c.Principal),
		zap.String("challenge_id", made.ID), zap.Time("expires", made.Expires))
	return made, nil
}

// lifetime reads a wish. A password carries no claims, so that nothing could
// hold a request to any other wish.
func (m *Module) lifetime(wish policymodule.ChallengeWish) (time.Duration, error) {
	if len(wish.SANs) > 0 || len(wish.KeyUsage) > 0 || len(wish.ExtKeyUsages) > 0 || wish.Subject != "" || wish.KeyType != "" ||
		wish.MinKeyBits != 0 || wish.Hash != "" || wish.Template != "" || wish.Validity != 0 {
		return 0, fmt.Errorf("%w: a one-time password carries no claims; only a lifetime may be wished for", policymodule.ErrNoRight)
	}
	if wish.Lifetime == 0 {
		return m.config.Lifetime, nil
	}
	if wish.Lifetime < MinLifetime || wish.Lifetime > m.config.Lifetime {
		return 0, fmt.Errorf("%w: a lifetime of %s; %s to %s may be wished for", policymodule.ErrNoRight, wish.Lifetime, MinLifetime, m.config.Lifetime)
	}
	return wish.Lifetime, nil
}

// password is random bytes as upper-case hexadecimal digits, as NDES shows
// them and as scripts that read its page expect.
func (m *Module) password() secret.Text {
	b := make([]byte, m.config.Bytes)
	rand.Read(b)
	return secret.Text(fmt.Sprintf("%X", b))
}

// id is the digest under which a password is remembered at this endpoint.
func (m *Module) id(password secret.Text) string {
	return m.config.Sealer.ChallengeID("onetime\x00"+m.config.Endpoint, password)
}

// public is what stands for a challenge in logs: the beginning of its digest,
// the same as in the registration authority's audit lines.
func public(id string) string { return hex.EncodeToString([]byte(id[:min(8, len(id))])) }

// Notify has nobody to tell: NDES tells an MDM server nothing either.
func (m *Module) Notify(context.Context, policymodule.Outcome) error { return nil }
