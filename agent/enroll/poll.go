package enroll

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/policymodule"
	"github.com/certconnector/certconnector/scep"
)

// hastenAfter is how old the last news of an entry must be before a waiting
// device makes us try again ahead of the schedule.
const hastenAfter = 10 * time.Second

// poll answers a CertPoll: the newest entry of this transaction and signer
// key. The issuer in the message is not compared, since Apple sends the RA's.
func (p *Endpoint) poll(ctx context.Context, req *scep.Request) (*scep.Result, error) {
	e, err := p.r.cfg.Journal.Newest(ctx, p.Name, req.TransactionID, req.Signer.KeyDigest())
	switch {
	case errors.Is(err, journal.ErrNotFound):
		d := policymodule.Refuse(RuleNoRequest, policymodule.BadCertID, "no request of this transaction and key")
		p.remember(ctx, req.TransactionID, "", d)
		return refusedResult(string(d.Rule), scep.BadCertID, d.Detail), nil
	case err != nil:
		return nil, fmt.Errorf("looking for the polled request: %w", err)
	}
	return p.answer(ctx, e, nil)
}

// hasten tries again at once what an entry waits for, since a device waits for
// it now: Apple's gives up after four exchanges.
func (r *Registration) hasten(ctx context.Context, e journal.Entry) {
	if r.now().Sub(e.UpdatedAt) < hastenAfter || r.life.Err() != nil {
		return
	}
	switch e.State {
	case journal.Verified, journal.Unknown, journal.Parked:
		r.Nudge(ctx, e.ID)
	case journal.Withheld:
		r.working.Go(func() {
			// An outbox that is at it already, or a failed attempt, is logged there.
			_, _ = r.cfg.Teller.Tell(r.workLife, e.ID)
		})
	}
}

// getCert answers a GetCert by a holder of a certificate of this CA.
func (p *Endpoint) getCert(ctx context.Context, req *scep.Request) (*scep.Result, error) {
	checker, ok := ca.Ability[ca.Checker](p.CA)
	if !ok {
		return scep.Refuse(scep.BadCertID, "this CA keeps no certificates"), nil
	}
	if _, not, err := p.ours(ctx, req.Signer); err != nil || not != "" {
		return scep.Refuse(scep.BadCertID, not), err
	}
	status, err := checker.Check(ctx, req.Serial)
	switch {
	case errors.Is(err, ca.ErrNotFound), err == nil && status.Certificate == nil:
		return scep.Refuse(scep.BadCertID, "no such certificate"), nil
	case err != nil:
		return nil, fmt.Errorf("reading the certificate: %w", err)
	}
	return &scep.Result{Status: scep.Success, Certificate: status.Certificate.Raw}, nil
}

// getCRL answers a GetCRL with the CA's current list.
func (p *Endpoint) getCRL(ctx context.Context, req *scep.Request) (*scep.Result, error) {
	publisher, ok := ca.Ability[ca.Publisher](p.CA)
	if !ok {
		return scep.Refuse(scep.BadCertID, "this CA publishes no CRL here"), nil
	}
	if _, not, err := p.ours(ctx, req.Signer); err != nil || not != "" {
		return scep.Refuse(scep.BadCertID, not), err
	}
	crl, err := publisher.CRL(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the CRL: %w", err)
	}
	return &scep.Result{Status: scep.Success, CRL: crl}, nil
}
