// Package static lets one shared secret decide. It is unsafe: the secret is
// on every device, it vouches for no name, and who knows it gets a certificate
// with any name that the endpoint's own rules let pass. It exists for
// laboratories and for devices that know nothing else, and is fenced in: it
// wants to be allowed by name, and a secret that cannot be guessed.
package static

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/policymodule"
)

// Rules of this module.
const (
	RuleMissing policymodule.Reason = "static_challenge_missing"
	RuleWrong   policymodule.Reason = "static_challenge_wrong"
	RuleRenewal policymodule.Reason = "static_renewal_refused"
)

// Config is the secret, and what it may be used for.
type Config struct {
	Challenge secret.Text

	// AllowStaticChallenge must be true. It says that somebody has read what
	// the package comment says.
	AllowStaticChallenge bool

	// RefuseRenewals refuses requests that carry no challenge but are signed by
	// a valid certificate of ours. They are granted otherwise: whoever has the
	// key of such a certificate was granted one before.
	RefuseRenewals bool

	Log *zap.Logger // nil: no warning is given
}

// Module compares challenges with one secret.
type Module struct {
	digest         [sha256.Size]byte
	refuseRenewals bool
}

var _ policymodule.Module = (*Module)(nil)

// New returns a Module, or says what the secret lacks. It warns in the log.
func New(config Config) (*Module, error) {
	if !config.AllowStaticChallenge {
		return nil, errors.New("a static challenge must be allowed with allow_static_challenge: one secret for all devices is unsafe")
	}
	if err := Check(config.Challenge); err != nil {
		return nil, err
	}
	if config.Log != nil {
		config.Log.Warn("static challenge in use: whoever knows it gets certificates; restrict names with the endpoint's allow list")
	}
	return &Module{digest: sha256.Sum256([]byte(config.Challenge.Reveal())), refuseRenewals: config.RefuseRenewals}, nil
}

// Check says what a secret lacks. It cannot tell a random secret from a
// sentence: have one made.
func Check(challenge secret.Text) error {
	if err := secret.CheckStrength(challenge); err != nil {
		return fmt.Errorf("the static challenge %w", err)
	}
	return nil
}

// Verify compares the challenge in constant time. A renewal has none.
func (m *Module) Verify(_ context.Context, req policymodule.Request) (policymodule.Decision, error) {
	if req.CSR == nil || req.CSR.ChallengePassword == "" {
		switch {
		case req.Renewal == nil || req.CSR == nil:
			return policymodule.Refuse(RuleMissing, policymodule.BadRequest, "the request has no challenge"), nil
		case m.refuseRenewals:
			return policymodule.Refuse(RuleRenewal, policymodule.BadRequest, "renewals without a challenge are not allowed here"), nil
		}
		return policymodule.Decision{Granted: true}, nil
	}
	// Digests have one length, so that not even the secret's length shows.
	given := sha256.Sum256([]byte(req.CSR.ChallengePassword.Reveal()))
	if subtle.ConstantTimeCompare(given[:], m.digest[:]) != 1 {
		return policymodule.Refuse(RuleWrong, policymodule.BadRequest, "the challenge is wrong"), nil
	}
	return policymodule.Decision{Granted: true}, nil
}

// Notify has nobody to tell.
func (m *Module) Notify(context.Context, policymodule.Outcome) error { return nil }
