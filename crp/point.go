// Package crp is the Certificate Registration Point: the policy module that
// lets Intune decide. It forwards each request with its challenge to the
// tenant's validation service, translates the verdict into a failInfo, and
// reports what became of the request. It never looks into a challenge: only
// the cloud can.
package crp

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/intune"
	"github.com/certconnector/certconnector/policymodule"
)

// Cloud is the part of intune.Client that decides and is told.
type Cloud interface {
	Validate(ctx context.Context, r intune.ValidateRequest) error
	NotifySuccess(ctx context.Context, n intune.SuccessNotification) error
	NotifyFailure(ctx context.Context, n intune.FailureNotification) error
}

// Config says whom to ask, and for which tenant.
type Config struct {
	Tenant string         // the tenant's name: a challenge counts once in it
	Cloud  Cloud          // usually an intune.Client
	Sealer *secret.Sealer // digests challenges

	Clock func() time.Time // nil: time.Now
	Log   *zap.Logger      // nil: nothing is logged
}

// Point is the registration point of one tenant. It is safe for concurrent
// use.
type Point struct {
	config  Config
	memory  *memory
	refused atomic.Pointer[intune.AuthError] // why our credential was not taken the last time; nil: it was
}

var _ policymodule.Module = (*Point)(nil)

// maxChallenge is more than any challenge that a request of 2 MiB should
// carry; Intune's have a few KB.
const maxChallenge = 64 << 10

// New returns the registration point of a tenant.
func New(config Config) (*Point, error) {
	switch {
	case config.Tenant == "":
		return nil, errors.New("registration point: the tenant's name is missing")
	case config.Cloud == nil:
		return nil, errors.New("registration point: there is no client to ask Intune with")
	case config.Sealer == nil:
		return nil, errors.New("registration point: there is no sealer to digest challenges with")
	}
	if config.Clock == nil {
		config.Clock = time.Now
	}
	if config.Log == nil {
		config.Log = zap.NewNop()
	}
	return &Point{config: config, memory: newMemory(config.Clock)}, nil
}

// Verify asks Intune whether a request may have a certificate. A request
// without a challenge is refused without asking, and so is the renewal of a
// certificate: whether the device may still have one is for Intune to say.
func (p *Point) Verify(ctx context.Context, req policymodule.Request) (policymodule.Decision, error) {
	if req.CSR == nil || req.CSR.ChallengePassword == "" {
		return policymodule.Refuse(RuleChallengeMissing, policymodule.BadRequest, "the request has no challenge"), nil
	}
	if len(req.CSR.ChallengePassword) > maxChallenge {
		return policymodule.Refuse(RuleChallengeTooLong, policymodule.BadRequest, "the challenge is too long"), nil
	}
	k := key{transaction: req.TransactionID, csr: req.CSR.Digest()}
	if d, ok := p.memory.recall(k); ok {
		return d, nil
	}
	err := p.config.Cloud.Validate(ctx, intune.ValidateRequest{
		TransactionID: p.transaction(req.TransactionID), CSR: req.CSR.Raw,
	})
	p.observe(err)
	refused, ok := errors.AsType[*intune.ScepError](err)
	switch {
	case ok:
		d := refusal(refused)
		// An unclassified failure may be over by the next attempt.
		if refused.Code != intune.Unknown {
			p.memory.keep(k, d, refusalLife)
		}
		return d, nil
	case err != nil:
		return policymodule.Decision{}, fmt.Errorf("asking Intune: %w", err)
	}
	d := grant(p.config.Sealer.ChallengeID(p.config.Tenant, req.CSR.ChallengePassword))
	p.memory.keep(k, d, grantLife)
	return d, nil
}

// Recall returns the grant that a recorded verdict stands for. Intune's grants
// differ in nothing but the challenge.
func (p *Point) Recall(v policymodule.Verdict) policymodule.Decision { return grant(v.ChallengeID) }

func grant(challengeID string) policymodule.Decision {
	return policymodule.Decision{Granted: true, ChallengeID: challengeID, Notify: true, VouchedNames: true}
}

// Notify reports what became of a request. An error that wraps
// policymodule.ErrNotifyRefused is Intune's last word; any other is not.
func (p *Point) Notify(ctx context.Context, o policymodule.Outcome) error {
	p.memory.forget(o.TransactionID, o.CSR)
	id := p.transaction(o.TransactionID)
	var err error
	if o.Certificate != nil {
		err = p.config.Cloud.NotifySuccess(ctx, intune.SuccessNotification{
			TransactionID: id, CSR: o.CSR, Certificate: o.Certificate, IssuingCA: o.IssuingCA,
		})
	} else {
		n := intune.FailureNotification{TransactionID: id, CSR: o.CSR, HResult: o.HResult, Description: o.Description}
		if n.Description == "" {
			n.Description = "No certificate was issued."
		}
		err = p.config.Cloud.NotifyFailure(ctx, n)
	}
	p.observe(err)
	switch {
	case err == nil:
		return nil
	case intune.Final(err):
		return fmt.Errorf("%w: %w", policymodule.ErrNotifyRefused, err)
	}
	return fmt.Errorf("telling Intune: %w", err)
}

// Ready says why Intune does not listen to us: the last time our credential
// was refused. nil: nothing is known against it.
func (p *Point) Ready() error {
	if err := p.refused.Load(); err != nil {
		return fmt.Errorf("tenant %s of Intune: %w", p.config.Tenant, err)
	}
	return nil
}

// observe remembers whether our credential was taken. An answer of any kind
// says that it was; a connection that failed says nothing.
func (p *Point) observe(err error) {
	if refused, ok := errors.AsType[*intune.AuthError](err); ok && !refused.Retryable {
		p.refused.Store(refused)
		return
	}
	if _, ok := errors.AsType[*intune.ScepError](err); ok || err == nil {
		p.refused.Store(nil)
	}
}

// transaction returns the transaction ID that Intune knows a request by.
func (p *Point) transaction(id string) string {
	mapped := TransactionID(id)
	if mapped != id {
		p.config.Log.Debug("transaction ID is not printable, Intune knows it by another name",
			zap.Binary("transaction_id", []byte(id)), zap.String("intune_transaction_id", mapped))
	}
	return mapped
}
