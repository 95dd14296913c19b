package enroll

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/internal/eventid"
	"github.com/certconnector/certconnector/internal/failpoint"
	"github.com/certconnector/certconnector/internal/pkcs10"
	"github.com/certconnector/certconnector/policymodule"
	"github.com/certconnector/certconnector/scep"
)

// reportWithin bounds the attempt to tell the cloud while a front end waits.
const reportWithin = 20 * time.Second

// errIssuedElsewhere is what a front end's entry gets where a CA is asked.
var errIssuedElsewhere = &ca.Denied{HResult: ca.HResultFail, Text: "the front end was interrupted while it reported its outcome"}

// ReportedName is the name under which the journal keeps what a front end
// reports for a tenant. It is no name that an endpoint can have.
func ReportedName(frontEnd, tenant string) string { return "crp/" + frontEnd + "/" + tenant }

// AddFrontEnd adds a front end that releases certificates by itself, as
// Microsoft's NDES does whatever its policy module answers. Its outcomes are
// recorded like our own and told by the outbox; a certificate that the cloud
// does not take in time is revoked at caName, for it cannot be withheld.
func (r *Registration) AddFrontEnd(frontEnd, tenant, caName string, m policymodule.Module) error {
	_, err := r.Add(EndpointConfig{
		Name: ReportedName(frontEnd, tenant), Tenant: tenant, Module: m, CA: issuedElsewhere{}, CAName: caName,
	})
	return err
}

// issuedElsewhere stands where an entry's CA is asked to issue: the front end
// asked it long ago.
type issuedElsewhere struct{}

func (issuedElsewhere) Issue(context.Context, ca.Request) (*ca.Issued, error) {
	return nil, errIssuedElsewhere
}

func (issuedElsewhere) Chain(context.Context) ([]*x509.Certificate, error) {
	return nil, errIssuedElsewhere
}

// Report records the outcome of a request that a front end had granted here,
// and makes one attempt to tell the cloud. told is false when the outcome is
// recorded and will be told later. An error that wraps ErrNotifyRefused says
// that the cloud refused for good: the certificate is being revoked. After any
// other error nothing may be recorded, and the front end must report again.
func (r *Registration) Report(ctx context.Context, frontEnd, tenant string, o policymodule.Outcome) (told bool, err error) {
	p, ok := r.endpoints[ReportedName(frontEnd, tenant)]
	if !ok {
		return false, fmt.Errorf("front end %q does not report for tenant %q", frontEnd, tenant)
	}
	csr, err := pkcs10.Parse(o.CSR)
	if err != nil {
		return false, fmt.Errorf("reading the reported request: %w", err)
	}
	in := p.reported(o, csr)
	if o.Certificate == nil {
		in.Refused = &journal.Failure{Rule: string(RuleCADenied), FailInfo: int(badRequest), HResult: o.HResult, Text: o.Description}
		e, _, err := r.cfg.Journal.Begin(ctx, in)
		if err != nil {
			return false, fmt.Errorf("recording the reported failure: %w", err)
		}
		r.cfg.Teller.Wake()
		r.auditEntry("front end reported a failure", verdictGranted, e, evidence{csr: csr}, intuneEvent(in, eventid.IssueFailed))
		return false, nil
	}
	e, err := r.recordReported(ctx, p, in, o.Certificate)
	if err != nil {
		return false, err
	}
	return r.tellReported(ctx, e)
}

// reported is the intent of a request that was decided and carried out
// elsewhere. Lazy: it reaches the disk together with its outcome.
func (p *Endpoint) reported(o policymodule.Outcome, csr *pkcs10.Request) journal.Intent {
	now := p.r.now()
	return journal.Intent{
		Endpoint: p.Name, Tenant: p.Tenant, TransactionID: o.TransactionID,
		SignerKey: csr.KeyDigest(), SignerID: csr.KeyDigest(), CSRDigest: csr.Digest(), CSRKey: csr.KeyDigest(), Names: csr.NameDigest(),
		CA: p.CAName, Subject: csr.SubjectString(), SealedCSR: p.r.cfg.Sealer.Seal(csrLabel, csr.Raw), Notify: true,
		Since: now.Add(-p.ReplayWindow), Now: now, Lease: lease, GiveUp: now.Add(p.WithholdFor),
		Lazy: o.Certificate != nil, Submit: o.Certificate != nil,
	}
}

// recordReported records a certificate and the notification owed for it. A
// report that was cut off is taken up where it ended.
func (r *Registration) recordReported(ctx context.Context, p *Endpoint, in journal.Intent, cert *x509.Certificate) (journal.Entry, error) {
	e, owned, err := r.cfg.Journal.Begin(ctx, in)
	if err != nil {
		return e, fmt.Errorf("recording the reported request: %w", err)
	}
	if owned == nil && (e.State == journal.Submitted || e.State == journal.Unknown) {
		c, err := r.cfg.Journal.ClaimEntry(ctx, e.ID, in.Now, lease)
		if err != nil {
			return e, fmt.Errorf("taking up an earlier report: %w", err)
		}
		e, owned = c.Entry, c.Owned
	}
	if owned == nil {
		return e, nil
	}
	failpoint.Hit("enroll.reported.begun")
	e, err = r.cfg.Journal.Advance(context.WithoutCancel(ctx), owned, journal.Step{
		To: journal.Issued, Now: in.Now, Certificate: cert.Raw, Serial: serialText(cert), Owe: []journal.DebtKind{journal.OweSuccess},
		GiveUp: in.GiveUp, NextAt: in.GiveUp, OweAt: in.Now.Add(reportWithin),
	})
	if err != nil {
		return e, fmt.Errorf("recording the reported certificate: %w", err)
	}
	r.auditEntry("front end reported a certificate", verdictGranted, e, evidence{}, intuneEvent(in, eventid.Issued))
	failpoint.Hit("enroll.reported.recorded")
	return e, nil
}

// tellReported makes one attempt at the cloud.
func (r *Registration) tellReported(ctx context.Context, e journal.Entry) (told bool, err error) {
	if !e.State.Final() {
		call, cancel := context.WithTimeout(context.WithoutCancel(ctx), reportWithin)
		defer cancel()
		now, err := r.cfg.Teller.Tell(call, e.ID)
		switch {
		case errors.Is(err, journal.ErrLost): // the outbox is at it
		case err != nil:
			r.log.Warn("a reported certificate is recorded and could not be told yet", zap.Int64("entry", e.ID), zap.Error(err))
		default:
			e = now
		}
	}
	switch e.State {
	case journal.Released:
		return true, nil
	case journal.Failed, journal.Abandoned:
		return false, fmt.Errorf("%w: the certificate is being revoked", policymodule.ErrNotifyRefused)
	}
	return false, nil
}

// Reject records that a certificate which a front end released must be
// revoked: a second one for one verdict, or one for another key than the
// request's. Nobody is told of it but the CA and the log.
func (r *Registration) Reject(ctx context.Context, frontEnd, tenant string, o policymodule.Outcome) error {
	p, ok := r.endpoints[ReportedName(frontEnd, tenant)]
	if !ok {
		return fmt.Errorf("front end %q does not report for tenant %q", frontEnd, tenant)
	}
	csr, err := pkcs10.Parse(o.CSR)
	if err != nil {
		return fmt.Errorf("reading the reported request: %w", err)
	}
	in := p.reported(o, csr)
	// Its own entry: the transaction's own one may hold the certificate that is
	// right.
	in.TransactionID += " (rejected " + serialText(o.Certificate) + ")"
	in.Notify, in.SealedCSR = false, nil
	_, owned, err := r.cfg.Journal.Begin(ctx, in)
	if err != nil {
		return fmt.Errorf("recording the rejected certificate: %w", err)
	}
	if owned == nil {
		return nil // recorded before
	}
	e, err := r.cfg.Journal.Advance(context.WithoutCancel(ctx), owned, journal.Step{
		To: journal.Failed, Now: in.Now, Certificate: o.Certificate.Raw, Serial: serialText(o.Certificate), Owe: []journal.DebtKind{journal.OweRevocation},
		Failure: &journal.Failure{
			Rule: string(RuleIssued), FailInfo: int(badRequest), HResult: ca.HResultUnexpected,
			Text: "the front end released a certificate that it should not have",
		},
	})
	if err != nil {
		return fmt.Errorf("recording the rejected certificate: %w", err)
	}
	r.auditEntry("front end released a certificate that it should not have; it is revoked", verdictRefused, e, evidence{csr: csr})
	r.cfg.Teller.Wake()
	return nil
}

// CheckCSR applies the rules to a request that is carried out elsewhere, by a
// front end that knows none of them. vouched says that a party compares the
// names with what it expects.
func (r Rules) CheckCSR(csr *pkcs10.Request, vouched bool) *policymodule.Decision {
	return r.check(&scep.Request{CSR: csr}, vouched)
}
