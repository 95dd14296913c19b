package crphttp

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/internal/eventid"
	"github.com/certconnector/certconnector/internal/failpoint"
	"github.com/certconnector/certconnector/policymodule"
)

// notify answers Notify. What was told and recorded is never told again; a
// crash between the two tells it twice, and always the same.
func (x *exchange) notify(body []byte) *problem {
	n, err := parseNotify(body)
	if err != nil {
		return malformed(err)
	}
	module, p := x.chooseTenant(n.tenant)
	if p != nil {
		return p
	}
	key := policymodule.VerdictKey{
		Caller: x.frontEnd.Name, Tenant: x.tenant, TransactionID: n.outcome.TransactionID, CSRDigest: sha256.Sum256(n.outcome.CSR),
	}
	x.about(key, n.outcome.Endpoint)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(x.r.Context()), x.limits.AskTime)
	defer cancel()

	// 1 Was there a grant? Outcomes on one challenge wait for one another.
	verdict, p := x.find(ctx, key)
	if p != nil {
		return p
	}
	defer x.telling.lock(tellingName(verdict))()
	if verdict, p = x.find(ctx, key); p != nil {
		return p
	}
	settled := settlement{key: key, outcome: n.kind}
	if n.outcome.Certificate != nil {
		settled.thumbprint = sha256.Sum256(n.outcome.Certificate.Raw)
	}

	// 2 Does it fit the grant, and what was told before?
	if verdict.Outcome == settled.outcome && verdict.Thumbprint == settled.thumbprint {
		x.taken(settled, "again")
		x.respond(http.StatusNoContent, "", nil)
		return nil
	}
	if p := x.fits(ctx, n, verdict); p != nil {
		return p
	}
	if verdict.Outcome != "" {
		return x.differs(ctx, n, policymodule.ErrOutcomeDiffers)
	}

	// 3 Tell, and record that it was told.
	return x.tell(ctx, module, n, settled)
}

// settlement is what is recorded of an outcome.
type settlement struct {
	key        policymodule.VerdictKey
	outcome    string
	thumbprint [32]byte
}

func tellingName(v policymodule.Verdict) string {
	if v.ChallengeID != "" {
		return fmt.Sprintf("%q %x", v.Tenant, v.ChallengeID)
	}
	return fmt.Sprintf("%q %q %q %x", v.Tenant, v.Caller, v.TransactionID, v.CSRDigest)
}

func (x *exchange) find(ctx context.Context, key policymodule.VerdictKey) (policymodule.Verdict, *problem) {
	v, err := x.config.Verdicts.FindVerdict(ctx, key)
	switch {
	case errors.Is(err, policymodule.ErrNoVerdict):
		return v, &problem{status: http.StatusForbidden, rule: RuleNoVerdict, detail: "this front end was never granted that request", fault: true}
	case err != nil:
		return v, x.later(RuleCouldNotTell, "the verdict could not be looked up; come again", err)
	}
	return v, nil
}

// tell hands the outcome on. What is refused for good is settled as failed:
// whoever tells it again hears the same.
func (x *exchange) tell(ctx context.Context, module policymodule.Module, n report, s settlement) *problem {
	status, err := http.StatusNoContent, error(nil)
	if x.frontEnd.ReleasesItself {
		var told bool
		if told, err = x.config.Reporter.Report(ctx, x.frontEnd.Name, x.tenant, n.outcome); err == nil && !told {
			status = http.StatusAccepted
		}
	} else {
		err = module.Notify(ctx, n.outcome)
	}
	failpoint.Hit("crphttp.notified")
	final := errors.Is(err, policymodule.ErrNotifyRefused)
	if err != nil && !final {
		x.log.Warn("outcome not told yet", eventid.NotifyFailed.Field(), zap.String("outcome", s.outcome), zap.Error(err))
		return x.later(RuleCouldNotTell, "the outcome could not be told; come again", err)
	}
	if final {
		s.outcome, s.thumbprint = policymodule.OutcomeFailed, [32]byte{}
	}
	p, differs := x.settle(ctx, s)
	switch {
	case p != nil:
		return p
	case final:
		x.audit("registration point outcome refused", zap.String("outcome", n.kind), zap.String("rule", string(RuleNotifyRefused)))
		return &problem{status: http.StatusConflict, rule: RuleNotifyRefused, detail: "the outcome was refused for good; the certificate must not be used", cause: err}
	case differs != nil:
		return x.differs(ctx, n, differs)
	}
	x.taken(s, map[bool]string{true: "told", false: "recorded"}[status == http.StatusNoContent])
	x.respond(status, "", nil)
	return nil
}

// settle records an outcome; differs says that another one was there before.
func (x *exchange) settle(ctx context.Context, s settlement) (p *problem, differs error) {
	err := x.config.Verdicts.SettleVerdict(ctx, s.key, s.outcome, s.thumbprint, x.config.Clock())
	failpoint.Hit("crphttp.settled")
	if errors.Is(err, policymodule.ErrOutcomeDiffers) {
		return nil, err
	}
	if err != nil {
		return x.later(RuleCouldNotTell, "the outcome could not be recorded; come again", fmt.Errorf("recording an outcome: %w", err)), nil
	}
	return nil, nil
}

func (x *exchange) taken(s settlement, how string) {
	fields := []zap.Field{zap.String("outcome", s.outcome), zap.String("taken", how)}
	if s.outcome == policymodule.OutcomeIssued {
		fields = append(fields, zap.String("certificate_sha256", hex.EncodeToString(s.thumbprint[:])))
	}
	x.log.Info("outcome taken", append(fields, eventid.Notified.Field())...)
	x.audit("registration point outcome", fields...)
}

// fits wants a certificate to be what this front end's CA made of the request.
// Any other is refused, and never revoked: a front end that went wrong could
// have the certificates of others revoked.
func (x *exchange) fits(ctx context.Context, n report, verdict policymodule.Verdict) *problem {
	cert := n.outcome.Certificate
	if cert == nil {
		return nil
	}
	if sha256.Sum256(cert.RawSubjectPublicKeyInfo) != verdict.CSRKey {
		return x.alarm(n, RuleCertificate, errors.New("the certificate has another key than the request"))
	}
	if x.frontEnd.Issuers == nil {
		return nil
	}
	issuers, err := x.frontEnd.Issuers(ctx)
	if err != nil {
		return x.later(RuleCouldNotTell, "the CA could not be asked for its certificate; come again", fmt.Errorf("asking for the CA's certificate: %w", err))
	}
	if !slices.ContainsFunc(issuers, func(issuer *x509.Certificate) bool { return cert.CheckSignatureFrom(issuer) == nil }) {
		return x.alarm(n, RuleCertificate, errors.New("the certificate is not signed by the CA that revokes for this front end"))
	}
	return nil
}

// differs refuses a second outcome. A certificate that is in a device's hands
// already has to be revoked.
func (x *exchange) differs(ctx context.Context, n report, why error) *problem {
	p := x.alarm(n, RuleOutcomeDiffers, why)
	rejecter, can := x.config.Reporter.(Rejecter)
	if can && x.frontEnd.ReleasesItself && n.outcome.Certificate != nil {
		if err := rejecter.Reject(ctx, x.frontEnd.Name, x.tenant, n.outcome); err != nil {
			return x.later(RuleCouldNotTell, "the revocation could not be recorded; come again", err)
		}
	}
	return p
}

// alarm refuses an outcome that should not exist.
func (x *exchange) alarm(n report, rule policymodule.Reason, why error) *problem {
	fields := []zap.Field{zap.String("rule", string(rule)), zap.String("outcome", n.kind)}
	if cert := n.outcome.Certificate; cert != nil {
		fields = append(fields, zap.String("serial", cert.SerialNumber.Text(16)), zap.String("issuing_ca", n.outcome.IssuingCA))
	}
	x.log.Error("a front end reports an outcome that must not be: see that its certificate is revoked", append(fields, zap.Error(why))...)
	x.audit("registration point outcome refused", fields...)
	return &problem{status: http.StatusConflict, rule: rule, detail: "the certificate must not be used", fault: true, cause: why}
}
