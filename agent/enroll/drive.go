package enroll

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/internal/admission"
	"github.com/certconnector/certconnector/internal/eventid"
	"github.com/certconnector/certconnector/internal/failpoint"
	"github.com/certconnector/certconnector/internal/pkcs10"
)

// errStop says that somebody else owns the entry now.
var errStop = errors.New("entry is driven elsewhere")

// work is one entry on its way, in the hands of one goroutine.
type work struct {
	*Registration
	p     *Endpoint
	entry journal.Entry
	owned *journal.Owned
	csr   *pkcs10.Request
	from  evidence
	fresh bool             // begun by this process just now: whatever was submitted, the CA was not asked yet
	came  admission.Ticket // how the request that began it is marked; zero for what was taken up again
}

// start drives an entry that was begun just now, and goes on when its request
// ends.
func (r *Registration) start(p *Endpoint, c journal.Claimed, from evidence, came admission.Ticket) {
	w := &work{Registration: r, p: p, entry: c.Entry, owned: c.Owned, csr: from.csr, from: from, fresh: true, came: came}
	r.working.Go(func() { w.drive(r.workLife) })
}

// drive takes an entry as far as it goes now: steps 4 to 6. What it cannot
// finish it leaves in the journal with the time to try again.
func (w *work) drive(ctx context.Context) {
	err := w.guarded(ctx)
	if err != nil && !errors.Is(err, errStop) && !errors.Is(err, journal.ErrLost) {
		// The entry stays as it is recorded; the settle worker takes it up
		// when the lease ends.
		w.log.Error("work on a request was interrupted", zap.Int64("entry", w.entry.ID),
			zap.Stringer("state", w.entry.State), zap.Error(err))
	}
	w.hub.publish(w.entry)
}

// guarded takes one step; a panic, in a bridge or over what a device sent, ends
// this step and not the service. Without it a restart would meet the entry, and
// the panic, again.
func (w *work) guarded(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return w.step(w.marked(ctx))
}

func (w *work) step(ctx context.Context) error {
	if err := w.openCSR(); err != nil {
		return err
	}
	switch w.entry.State {
	case journal.Verified:
		if w.tooLate() {
			return w.giveUpUnissued(ctx)
		}
		return w.submit(ctx)
	case journal.Submitted, journal.Unknown:
		if w.fresh {
			return w.ask(ctx)
		}
		return w.find(ctx)
	case journal.Parked:
		return w.collect(ctx)
	case journal.Issued, journal.Withheld:
		return w.untilTold(ctx)
	}
	return nil
}

func (w *work) openCSR() error {
	if w.csr != nil {
		return nil
	}
	der, err := w.cfg.Sealer.Open(csrLabel, w.entry.SealedCSR)
	if err != nil {
		return fmt.Errorf("opening the recorded CSR (was the local key replaced?): %w", err)
	}
	w.csr, err = pkcs10.Parse(der)
	w.from.csr = w.csr
	return err
}

func (w *work) tooLate() bool { return !w.now().Before(w.entry.GiveUp) }

// advance records a step of this entry.
func (w *work) advance(ctx context.Context, s journal.Step) error {
	s.Now = w.now()
	e, err := w.cfg.Journal.Advance(ctx, w.owned, s)
	if err != nil {
		return fmt.Errorf("recording state %s: %w", s.To, err)
	}
	w.entry = e
	return nil
}

// submit is step 4: Issue, recorded as submitted before the CA is called.
func (w *work) submit(ctx context.Context) error {
	now := w.now()
	if err := w.advance(ctx, journal.Step{
		To: journal.Submitted, NextAt: now.Add(lease), SubmittedAt: now, Lazy: w.p.SameStore, Resubmitted: w.entry.Resubmitted,
	}); err != nil {
		return err
	}
	return w.ask(ctx)
}

// ask calls the CA for an entry that is recorded as submitted.
func (w *work) ask(ctx context.Context) error {
	failpoint.Hit("enroll.4.submitted")
	call, cancel := context.WithTimeout(ctx, w.cfg.SubmitWithin)
	defer cancel()
	began := time.Now()
	issued, err := w.p.CA.Issue(call, ca.Request{
		CSR: w.csr, Template: w.entry.Template, Validity: w.csr.Validity, MaxValidity: w.entry.MaxValidity,
	})
	w.p.observe(StageIssue, issueResult(err), began)
	failpoint.Hit("enroll.4.issued")
	return w.outcome(ctx, issued, err)
}

// find asks the CA what became of a submission before there is a second one.
func (w *work) find(ctx context.Context) error {
	finder, ok := ca.Ability[ca.Finder](w.p.CA)
	if !ok {
		return w.resubmitOnce(ctx)
	}
	issued, err := w.inTurn(ctx, func(ctx context.Context) (*ca.Issued, error) {
		return finder.Find(ctx, ca.Query{
			CSRDigest: w.entry.CSRDigest, KeyDigest: w.entry.CSRKey, NameDigest: w.csr.NameDigest(),
			Sent: w.entry.SubmittedAt,
			From: w.entry.SubmittedAt.Add(-clockSlack), To: w.now().Add(clockSlack),
		})
	})
	if errors.Is(err, ca.ErrNotFound) {
		if w.tooLate() {
			return w.giveUpUnissued(ctx)
		}
		return w.submit(ctx)
	}
	switch {
	case errors.Is(err, errNoTurn): // nothing was asked, so nothing is known yet
		return w.tryLater(ctx, journal.Unknown, err)
	case err != nil && errors.Is(err, ca.ErrForbidden):
		// Our account may not search there: as if the CA could not be searched.
		w.log.Warn("the CA does not let us search for a lost answer", zap.Int64("entry", w.entry.ID), zap.String("ca", w.entry.CA), zap.Error(err))
		return w.resubmitOnce(ctx)
	case err != nil && isTransient(err) && w.tooLate():
		return w.resubmitOnce(ctx) // which ends it, and tells whoever reconciles
	case err != nil && isTransient(err):
		return w.tryLater(ctx, journal.Unknown, err)
	}
	return w.outcome(ctx, issued, err)
}

// resubmitOnce is what is left when a CA cannot be searched: one more
// submission, and a line for whoever reconciles the CA's database.
func (w *work) resubmitOnce(ctx context.Context) error {
	w.audit.Warn("possible_orphan", append(auditFields(w.entry.Intent, w.from),
		zap.Int64("entry", w.entry.ID), zap.Time("submitted_at", w.entry.SubmittedAt))...)
	if w.entry.Resubmitted || w.tooLate() {
		return w.fail(ctx, journal.Failure{
			Rule: string(RuleOutcomeUnknown), FailInfo: int(badRequest), HResult: ca.HResultUnavailable,
			Text: "the CA did not say what became of the request, and cannot be searched",
		})
	}
	w.entry.Resubmitted = true
	return w.submit(ctx)
}

// collect asks for the outcome of a parked request.
func (w *work) collect(ctx context.Context) error {
	collector, ok := ca.Ability[ca.Collector](w.p.CA)
	if !ok {
		return w.fail(ctx, journal.Failure{
			Rule: string(RuleParked), FailInfo: int(badRequest), HResult: ca.HResultFail,
			Text: "the CA parked the request and offers no way to collect it",
		})
	}
	issued, err := w.inTurn(ctx, func(ctx context.Context) (*ca.Issued, error) {
		return collector.Collect(ctx, w.entry.CARequestID)
	})
	failpoint.Hit("enroll.4.collected")
	switch {
	case errors.Is(err, ca.ErrNotFound):
		return w.fail(ctx, journal.Failure{
			Rule: string(RuleParked), FailInfo: int(badRequest), HResult: ca.HResultFail, Text: "the CA no longer knows the parked request",
		})
	case err != nil && isTransient(err):
		return w.tryLater(ctx, journal.Parked, err)
	}
	return w.outcome(ctx, issued, err)
}

// isTransient reports whether a question may simply be asked again.
func isTransient(err error) bool {
	var pending *ca.Pending
	var denied *ca.Denied
	return !errors.As(err, &pending) && !errors.As(err, &denied)
}

// outcome records what a CA answered to Issue, Find or Collect.
func (w *work) outcome(ctx context.Context, issued *ca.Issued, err error) error {
	var pending *ca.Pending
	var denied *ca.Denied
	switch {
	case err == nil:
		return w.issued(ctx, issued)
	case errors.As(err, &pending):
		return w.parked(ctx, pending)
	case errors.As(err, &denied):
		return w.fail(ctx, journal.Failure{
			Rule: string(RuleCADenied), FailInfo: int(badRequest), HResult: denied.HResult, Text: denied.Text,
		})
	case errors.Is(err, ca.ErrUnavailable):
		return w.tryLater(ctx, journal.Verified, err)
	}
	return w.tryLater(ctx, journal.Unknown, err)
}

// tryLater records why the entry stays and when it is due again.
func (w *work) tryLater(ctx context.Context, to journal.State, why error) error {
	attempts := w.entry.Attempts + 1
	delay := w.cfg.Retries.Delay(attempts)
	w.log.Warn("request waits for the CA", zap.Int64("entry", w.entry.ID), zap.String("ca", w.entry.CA),
		zap.Stringer("state", to), zap.Int("attempt", attempts), zap.Duration("next_in", delay), zap.Error(why), eventid.SubmissionRefused.Field())
	// The CA's answer counts even when this work is being cut off.
	return w.advance(context.WithoutCancel(ctx), journal.Step{To: to, NextAt: w.now().Add(delay), Attempts: attempts})
}

// parked records that a person at the CA decides.
func (w *work) parked(ctx context.Context, p *ca.Pending) error {
	now := w.now()
	s := journal.Step{To: journal.Parked, CARequestID: p.RequestID, Attempts: w.entry.Attempts + 1}
	if w.entry.State != journal.Parked {
		s.GiveUp = now.Add(w.p.ParkedFor)
		w.entry.CARequestID = p.RequestID
		w.auditEntry("parked at the CA", verdictGranted, w.entry, w.from)
	} else if w.tooLate() {
		return w.fail(ctx, journal.Failure{
			Rule: string(RuleParked), FailInfo: int(badRequest), HResult: ca.HResultAdminDenied, Text: "nobody at the CA decided in time",
		})
	}
	s.NextAt = now.Add(max(w.cfg.Retries.Delay(s.Attempts), hastenAfter))
	return w.advance(ctx, s)
}

// issued is step 5 and 6: Check, Record, Tell.
func (w *work) issued(ctx context.Context, issued *ca.Issued) error {
	// Whatever happens now, the certificate exists: recording it is not cut off.
	ctx = context.WithoutCancel(ctx)
	cert, now := issued.Certificate, w.now()
	step := journal.Step{
		To: journal.Released, Certificate: cert.Raw, Serial: serialText(cert), CARequestID: issued.RequestID, Lazy: false,
	}
	switch err := w.check(ctx, cert); {
	case err != nil:
		return w.withholdForGood(ctx, step, err)
	case w.entry.Notify:
		step.To, step.Owe = journal.Issued, []journal.DebtKind{journal.OweSuccess}
		deadline := w.entry.GiveUp
		if w.entry.State == journal.Parked { // the person took the time, not the cloud
			deadline = now.Add(w.p.WithholdFor)
		}
		step.GiveUp, step.NextAt, step.OweAt = deadline, deadline, now.Add(lease)
	}
	if err := w.advance(ctx, step); err != nil {
		return err
	}
	w.auditEntry("certificate issued", verdictGranted, w.entry, w.from, intuneEvent(w.entry.Intent, eventid.Issued))
	failpoint.Hit("enroll.5.recorded")
	if w.entry.State != journal.Issued {
		return nil
	}
	if w.tooLate() {
		return w.untilTold(ctx)
	}
	began := time.Now()
	e, err := w.cfg.Teller.Tell(ctx, w.entry.ID)
	w.p.observe(StageTell, tellResult(e, err), began)
	if err != nil {
		return fmt.Errorf("telling the policy module: %w", err)
	}
	w.entry = e
	return nil
}

// check is the first half of step 5.
func (w *work) check(ctx context.Context, cert *x509.Certificate) error {
	if err := w.p.Rules.checkIssued(cert, w.csr, w.entry.MaxValidity, w.now()); err != nil || w.p.SameStore {
		return err
	}
	chain, err := w.p.CA.Chain(ctx)
	if err != nil {
		return fmt.Errorf("the CA's chain cannot be read, so that nobody can tell who signed the certificate: %w", err)
	}
	return checkSigned(cert, chain)
}

// withholdForGood ends an entry whose certificate is not what was asked for:
// it never leaves, is revoked, and someone should look at the CA.
func (w *work) withholdForGood(ctx context.Context, step journal.Step, why error) error {
	_, notOurs := errors.AsType[foreign](why)
	w.log.Error("the CA issued something else than was asked for; the certificate is withheld",
		zap.Bool("revoked", !notOurs),
		zap.Int64("entry", w.entry.ID), zap.String("ca", w.entry.CA), zap.String("serial", step.Serial), zap.Error(why))
	step.To = journal.Failed
	step.Failure = &journal.Failure{
		Rule: string(RuleIssued), FailInfo: int(badRequest), HResult: ca.HResultUnexpected, Text: why.Error(),
	}
	step.Owe = w.owedFailure()
	if !notOurs {
		step.Owe = append(step.Owe, journal.OweRevocation)
	}
	return w.finish(ctx, step)
}

// fail ends an entry without a certificate.
func (w *work) fail(ctx context.Context, f journal.Failure) error {
	return w.finish(ctx, journal.Step{To: journal.Failed, Failure: &f, Owe: w.owedFailure()})
}

// giveUpUnissued ends an entry whose device surely waits no more.
func (w *work) giveUpUnissued(ctx context.Context) error {
	return w.fail(ctx, journal.Failure{
		Rule: string(RuleCAUnavailable), FailInfo: int(badRequest), HResult: ca.HResultUnavailable,
		Text: "the CA could not be reached while the device waited",
	})
}

func (w *work) owedFailure() []journal.DebtKind {
	if !w.entry.Notify {
		return nil
	}
	return []journal.DebtKind{journal.OweFailure}
}

func (w *work) finish(ctx context.Context, step journal.Step) error {
	step.OweAt = w.now()
	if err := w.advance(context.WithoutCancel(ctx), step); err != nil {
		return err
	}
	w.auditEntry("request ended without a certificate for the device", verdictGranted, w.entry, w.from, endEvents(w.entry)...)
	w.cfg.Teller.Wake()
	return nil
}

// underWay is when an entry is looked at again whose notification is under way
// at its end.
const underWay = 5 * time.Second

// untilTold is for a certificate whose notification is owed. When no device
// waits for it any more the outbox gives it up, and it is revoked: there it is
// known that no notification is under way. One that is may still be taken, and
// must not have told of a certificate that was revoked meanwhile.
func (w *work) untilTold(ctx context.Context) error {
	if !w.tooLate() {
		return w.resumeTelling(ctx)
	}
	if err := w.advance(ctx, journal.Step{To: journal.Withheld, NextAt: w.now().Add(underWay)}); err != nil {
		return err
	}
	w.cfg.Teller.Wake()
	return nil
}

// resumeTelling is for an entry that is due early, as after a restart: whoever
// was telling the module is gone, and a device may be waiting. From then on the
// outbox tells, and this entry waits for its end.
func (w *work) resumeTelling(ctx context.Context) error {
	if err := w.advance(ctx, journal.Step{To: journal.Withheld, NextAt: w.entry.GiveUp}); err != nil {
		return err
	}
	e, err := w.cfg.Teller.Tell(ctx, w.entry.ID)
	if err != nil {
		return fmt.Errorf("telling the policy module: %w", err)
	}
	w.entry = e
	return nil
}

// serialText is a serial number as the cloud is told: upper-case hex of even
// length (RFC 5280, section 4.1.2.2 makes it positive).
func serialText(cert *x509.Certificate) string {
	s := strings.ToUpper(cert.SerialNumber.Text(16))
	if len(s)%2 == 1 {
		s = "0" + s
	}
	return s
}
