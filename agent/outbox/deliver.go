package outbox

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/internal/admission"
	"github.com/certconnector/certconnector/internal/failpoint"
	"github.com/certconnector/certconnector/policymodule"
)

// ending is how one attempt ended: with an outcome, or to be tried later.
type ending struct {
	outcome    journal.DebtOutcome
	failure    *journal.Failure // of a success notification that was not taken
	later      error            // why to try again
	asked      bool             // the neighbour was asked: the ending tells something about it
	retryAfter time.Duration    // how long it wants to be left alone
}

// tryLater reads how long the neighbour wants to be left alone.
func tryLater(err error) ending {
	end := ending{asked: true, later: err}
	var asks interface{ RetryAfter() time.Duration }
	if errors.As(err, &asks) {
		end.retryAfter = asks.RetryAfter()
	}
	return end
}

// withheldTooLong is why certificates are abandoned.
var withheldTooLong = journal.Failure{
	Rule: journal.RuleWithheld, FailInfo: int(policymodule.BadRequest), HResult: ca.HResultFail,
	Text: "the notification was not accepted within withhold_for",
}

// tellSuccess tells the module that a certificate was issued. Until that is
// taken the device does not get it.
func (o *Outbox) tellSuccess(ctx context.Context, d journal.Debt) ending {
	e := d.Entry
	if !o.now().Before(e.GiveUp) {
		why := withheldTooLong
		return ending{outcome: journal.GivenUp, failure: &why}
	}
	outcome, err := o.outcome(e)
	if err != nil {
		return ending{later: err}
	}
	if outcome.Certificate, err = x509.ParseCertificate(e.Certificate); err != nil {
		return ending{later: fmt.Errorf("reading the recorded certificate: %w", err)}
	}
	err = o.notify(ctx, outcome)
	failpoint.Hit("enroll.6.told")
	switch {
	case err == nil:
		return ending{asked: true, outcome: journal.Taken}
	case errors.Is(err, policymodule.ErrNotifyRefused):
		o.Log.Error("the cloud refused a success notification for good; the certificate is revoked",
			zap.Int64("entry", e.ID), zap.String("endpoint", e.Endpoint), zap.String("serial", e.Serial), zap.Error(err))
		return ending{asked: true, outcome: journal.RefusedForGood, failure: &journal.Failure{
			Rule: journal.RuleNotifyRefused, FailInfo: int(policymodule.BadRequest), HResult: ca.HResultFail,
			Text: "the success notification was refused",
		}}
	}
	return tryLater(err)
}

// tellFailure tells the module that there will be no certificate, at best effort.
func (o *Outbox) tellFailure(ctx context.Context, d journal.Debt) ending {
	if o.now().Sub(d.Since) > o.FailureLife {
		o.Log.Warn("a failure notification was given up", zap.Int64("entry", d.Entry.ID), zap.Int("attempts", d.Attempts))
		return ending{outcome: journal.GivenUp}
	}
	outcome, err := o.outcome(d.Entry)
	if err != nil {
		return ending{later: err}
	}
	if f := d.Entry.Failure; f != nil {
		outcome.HResult, outcome.Description = f.HResult, f.Text
	}
	err = o.notify(ctx, outcome)
	switch {
	case err == nil:
		return ending{asked: true, outcome: journal.Taken}
	case errors.Is(err, policymodule.ErrNotifyRefused):
		o.Log.Warn("a failure notification was refused", zap.Int64("entry", d.Entry.ID), zap.Error(err))
		return ending{asked: true, outcome: journal.RefusedForGood}
	}
	return tryLater(err)
}

// outcome opens what the notification must repeat.
func (o *Outbox) outcome(e journal.Entry) (policymodule.Outcome, error) {
	csr, err := o.Sealer.Open("csr", e.SealedCSR)
	if err != nil {
		return policymodule.Outcome{}, fmt.Errorf("opening the recorded CSR (was the local key replaced?): %w", err)
	}
	return policymodule.Outcome{Endpoint: e.Endpoint, TransactionID: e.TransactionID, CSR: csr, IssuingCA: e.CA}, nil
}

func (o *Outbox) notify(ctx context.Context, outcome policymodule.Outcome) error {
	module, ok := o.Modules[outcome.Endpoint]
	if !ok {
		return fmt.Errorf("endpoint %q is not configured any more; put it back so that its notifications can be delivered", outcome.Endpoint)
	}
	return module.Notify(ctx, outcome)
}

// revoke revokes a certificate that must not or will not be used.
func (o *Outbox) revoke(ctx context.Context, d journal.Debt) ending {
	revoker, ok := ca.Ability[ca.Revoker](o.CAs[d.Entry.CA])
	if !ok {
		return ending{later: fmt.Errorf("CA %q is not configured or cannot revoke: revoke serial %s there by hand", d.Entry.CA, d.Entry.Serial), asked: true, retryAfter: mostRetryAfter}
	}
	cert, err := x509.ParseCertificate(d.Entry.Certificate)
	if err != nil {
		return ending{later: fmt.Errorf("reading the recorded certificate: %w", err)}
	}
	ctx = admission.Background(ctx)
	leave, err := ca.Turn(ctx, o.CAs[d.Entry.CA])
	if err != nil {
		return ending{later: fmt.Errorf("waiting for a turn at CA %q: %w", d.Entry.CA, err)} // the CA itself was not asked
	}
	defer leave()
	switch err := revoker.Revoke(ctx, cert.SerialNumber, ca.CessationOfOperation); {
	case err == nil:
		return ending{asked: true, outcome: journal.Taken}
	case errors.Is(err, ca.ErrNotFound):
		o.Log.Error("the CA does not know a certificate that it issued; look at its database",
			zap.String("ca", d.Entry.CA), zap.String("serial", d.Entry.Serial))
		return ending{asked: true, outcome: journal.RefusedForGood}
	default:
		return tryLater(fmt.Errorf("revoking at CA %q: %w", d.Entry.CA, err))
	}
}
