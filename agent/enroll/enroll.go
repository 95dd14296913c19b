package enroll

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/internal/admission"
	"github.com/certconnector/certconnector/internal/eventid"
	"github.com/certconnector/certconnector/internal/failpoint"
	"github.com/certconnector/certconnector/policymodule"
	"github.com/certconnector/certconnector/scep"
)

// csrLabel is the kind of record a sealed CSR is.
const csrLabel = "csr"

// lease is how long work on an entry is ours before the settle worker may
// take it over: longer than any call to a CA takes.
const lease = 3 * time.Minute

// Enroll answers one SCEP request. An error means that nothing was stored and
// the device should come again (HTTP 503). A context that is marked
// admission.Background is a job's: its calls to the CA go after those of devices.
//
// The steps of an enrolment, PKCSReq or RenewalReq:
//
//  0. Template: by the key usage of the CSR.
//  1. Seen before? The same request gets the present state, never a second certificate.
//  2. Ask the policy module, then our own rules.
//  3. Begin: intent and challenge are recorded in one transaction.
//  4. Issue, 5. Check and record, 6. Tell: see drive; they go on when the device hangs up.
//  7. Answer: hold the exchange until the state changes or patience ends.
func (p *Endpoint) Enroll(ctx context.Context, req *scep.Request) (*scep.Result, error) {
	switch req.MessageType {
	case scep.PKCSReq, scep.RenewalReq:
	case scep.CertPoll:
		return p.poll(ctx, req)
	case scep.GetCert:
		return p.getCert(ctx, req)
	case scep.GetCRL:
		return p.getCRL(ctx, req)
	default:
		return scep.Refuse(scep.BadRequest, "unsupported messageType"), nil
	}

	in := p.intent(req)
	// The verdict is shared by identical requests in flight and outlives the
	// device's connection: what the cloud was asked is then recorded.
	v, err, _ := p.r.admitting.Do(flightKey(in), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.r.cfg.AskWithin)
		defer cancel()
		return p.guardedAdmit(ctx, req, in)
	})
	if err != nil {
		return nil, err
	}
	admitted := v.(*begun)
	if admitted.refused != nil {
		return admitted.refused, nil
	}
	w := admitted.watch.Swap(nil)
	return p.answer(ctx, admitted.entry, w)
}

// guardedAdmit is admit; a panic, in a policy module or over what a device
// sent, costs the exchanges that wait for it: they are told to come again.
func (p *Endpoint) guardedAdmit(ctx context.Context, req *scep.Request, in journal.Intent) (a *begun, err error) {
	defer func() {
		if v := recover(); v != nil {
			p.r.log.Error("deciding about a request panicked", zap.String("endpoint", p.Name),
				zap.String("transaction_id", clean(in.TransactionID)), zap.Any("panic", v), zap.Stack("stack"))
			err = errors.New("deciding about the request panicked")
		}
	}()
	return p.admit(ctx, req, in)
}

// begun is the outcome of steps 1 to 3: refused, or an entry that is being
// worked on.
type begun struct {
	refused *scep.Result
	entry   journal.Entry
	// watch was set up before the work began; the first of the joined
	// exchanges takes it and need not read the journal again.
	watch atomic.Pointer[watch]
}

// flightKey tells identical requests from others.
func flightKey(in journal.Intent) string {
	return fmt.Sprintf("%s\x00%s\x00%s%s%s", in.Endpoint, in.TransactionID, in.SignerKey, in.SignerID, in.CSRDigest)
}

// intent describes the request for the journal, step 0 included.
func (p *Endpoint) intent(req *scep.Request) journal.Intent {
	now := p.r.now()
	in := journal.Intent{
		Endpoint: p.Name, Tenant: p.Tenant, TransactionID: req.TransactionID,
		SignerKey: req.Signer.KeyDigest(), CSRDigest: req.CSR.Digest(), CSRKey: req.CSR.KeyDigest(), Names: req.CSR.NameDigest(),
		CA: p.CAName, Template: p.Templates.choose(req.CSR), Subject: req.CSR.SubjectString(),
		Since: now.Add(-p.ReplayWindow), Now: now, Lease: lease, GiveUp: now.Add(p.WithholdFor),
	}
	in.SignerID = signerID(req)
	if !selfSigned(req) {
		// A renewal may repeat everything else of the first enrolment: key,
		// names, transaction ID and, at a static endpoint, the challenge
		// (certmonger's resubmit). The old certificate is one of its names.
		in.Names = sha256.Sum256(append(in.Names[:], in.SignerID[:]...))
	}
	return in
}

// admit is steps 1 to 3 for one request.
func (p *Endpoint) admit(ctx context.Context, req *scep.Request, in journal.Intent) (*begun, error) {
	// 1. Seen before?
	switch e, err := p.r.cfg.Journal.Same(ctx, in); {
	case err == nil && p.freeToRetry(e):
		in.Since = e.Now.Add(1)
	case err == nil:
		return &begun{entry: e}, nil
	case !errors.Is(err, journal.ErrNotFound):
		return nil, fmt.Errorf("looking for an earlier request: %w", err)
	}

	// 2. Ask the policy module; our own rules come after its grant, so that
	// the party that granted hears of a refusal of ours.
	decision, refused, err := p.ask(ctx, req, in)
	if err != nil || refused != nil {
		return refused, err
	}
	failpoint.Hit("enroll.2.asked")
	in.ChallengeID, in.Notify, in.MaxValidity = decision.ChallengeID, decision.Notify, shorter(decision.MaxValidity, p.Rules.MaxValidity)
	// Where the CA's register shares the journal's disk, an intent that nobody
	// else knows of may reach it together with the certificate, and with its
	// submission in one write. A verdict that the cloud gave is on disk before
	// the CA is asked.
	in.Lazy = p.SameStore && !decision.Notify
	in.Submit = in.Lazy
	in.SealedCSR = p.r.cfg.Sealer.Seal(csrLabel, req.CSR.Raw)
	own := p.r.checkRestored(decision, in.Now)
	if own == nil {
		own = p.Rules.check(req, decision.VouchedNames)
	}
	if own != nil {
		if !in.Notify {
			return p.refuse(ctx, req, in, *own, false), nil // nobody is owed anything, nothing is spent
		}
		return p.recordRefusal(ctx, req, in, *own)
	}

	// 3. Begin: from here the work no longer hangs on this exchange.
	admitted, owned, err := p.begin(ctx, req, in)
	if err != nil {
		return nil, err
	}
	if owned != nil {
		failpoint.Hit("enroll.3.begun")
		admitted.watch.Store(p.r.hub.watch(admitted.entry.ID))
		p.r.start(p, journal.Claimed{Entry: admitted.entry, Owned: owned}, p.evidence(ctx, req.CSR), admission.TicketOf(ctx))
	}
	return admitted, nil
}

// ask is step 2 up to the module's verdict: a grant, or a refusal.
func (p *Endpoint) ask(ctx context.Context, req *scep.Request, in journal.Intent) (policymodule.Decision, *begun, error) {
	if vouchedByIntune(in) {
		p.r.log.Info("request received", zap.String("endpoint", p.Name), zap.String("transaction_id", clean(in.TransactionID)),
			eventid.RequestReceived.Field())
	}
	renewal, refusal, err := p.renewal(ctx, req)
	switch {
	case err != nil:
		return policymodule.Decision{}, nil, fmt.Errorf("checking the signer of a renewal: %w", err)
	case refusal != nil:
		return *refusal, p.refuse(ctx, req, in, *refusal, false), nil
	}
	began := time.Now()
	decision, err := p.Module.Verify(ctx, policymodule.Request{
		Endpoint: p.Name, TransactionID: req.TransactionID, CSR: req.CSR, Template: in.Template, Renewal: renewal,
	})
	p.observe(StageAsk, askResult(decision, err), began)
	switch {
	case err != nil:
		return decision, nil, fmt.Errorf("asking the policy module: %w", err)
	case !decision.Granted:
		return decision, p.refuse(ctx, req, in, decision, true), nil
	}
	if vouchedByIntune(in) {
		p.r.log.Info("request verified", zap.String("endpoint", p.Name), zap.String("transaction_id", clean(in.TransactionID)),
			eventid.Verified.Field())
	}
	return decision, nil, nil
}

// begin records an intent, or refuses it because its challenge is spent. owned
// is nil where there is nothing to work on.
func (p *Endpoint) begin(ctx context.Context, req *scep.Request, in journal.Intent) (*begun, *journal.Owned, error) {
	e, owned, err := p.r.cfg.Journal.Begin(ctx, in)
	switch {
	case errors.Is(err, journal.ErrChallengeSpent):
		return p.refuse(ctx, req, in, policymodule.Refuse(RuleChallengeUsed, policymodule.BadRequest, "the challenge was used for another request"), false), nil, nil
	case err != nil:
		return nil, nil, fmt.Errorf("recording the intent: %w", err)
	}
	return &begun{entry: e}, owned, nil
}

// freeToRetry reports whether a request that failed may be made again with the
// same bytes: it spent no challenge and nobody was told, so that an operator
// who mended the CA need not make a device change its request. A person's
// denial is final, and any failure is for a while: certmonger polls by
// repeating its request, and would never learn of it.
func (p *Endpoint) freeToRetry(e journal.Entry) bool {
	return e.State == journal.Failed && e.ChallengeID == "" && !e.Notify && e.CARequestID == "" &&
		p.r.now().Sub(e.UpdatedAt) > failureStands
}

// failureStands is how long a failure that spent nothing is repeated.
const failureStands = 10 * time.Minute

// shorter returns the stricter of two caps, of which 0 is none.
func shorter(a, b time.Duration) time.Duration {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

// answer is step 7: it holds the exchange until the entry has ended, or
// AnswerWithin has. Also for a parked request: a person who is quick can let
// an Apple device have its certificate before it gives up.
//
// w is a watch that is older than the work on the entry, or nil.
func (p *Endpoint) answer(ctx context.Context, e journal.Entry, w *watch) (*scep.Result, error) {
	if w == nil {
		if e.State.Final() {
			return result(e), nil
		}
		w = p.r.hub.watch(e.ID)
		var err error
		if e, err = p.r.cfg.Journal.Entry(ctx, e.ID); err != nil {
			p.r.hub.leave(w)
			return nil, fmt.Errorf("reading the request's state: %w", err)
		}
	}
	defer p.r.hub.leave(w)
	p.r.hasten(ctx, e)
	patience := time.NewTimer(p.AnswerWithin)
	defer patience.Stop()
	for !e.State.Final() {
		select {
		case e = <-w.changed:
			continue
		case <-patience.C:
		case <-ctx.Done():
		case <-p.r.life.Done():
		}
		break
	}
	failpoint.Hit("enroll.7.answer")
	return result(e), nil
}

// result says what a device is told of an entry.
func result(e journal.Entry) *scep.Result {
	switch e.State {
	case journal.Released:
		return &scep.Result{Status: scep.Success, Certificate: e.Certificate}
	case journal.Failed:
		return refusedResult(e.Failure.Rule, scep.FailInfo(e.Failure.FailInfo), e.Failure.Text)
	case journal.Abandoned:
		return refusedResult(string(RuleWithheld), scep.BadRequest, "the certificate was abandoned because the cloud did not accept its notification in time")
	}
	return &scep.Result{Status: scep.Pending}
}
