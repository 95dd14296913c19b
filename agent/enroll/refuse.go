package enroll

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/policymodule"
	"github.com/certconnector/certconnector/scep"
	"github.com/certconnector/certconnector/scep/scephttp"
)

// refuse answers a request of which nothing is recorded in the journal.
// vouching says that it is the module that refuses.
func (p *Endpoint) refuse(ctx context.Context, req *scep.Request, in journal.Intent, d policymodule.Decision, vouching bool) *begun {
	info, from := scep.FailInfo(d.FailInfo), p.evidence(ctx, req.CSR)
	fields := append(auditFields(in, from), zap.String("verdict", verdictRefused), zap.String("notify", "none"),
		zap.String("rule", string(d.Rule)), zap.Stringer("fail_info", info), zap.String("detail", clean(d.Detail)))
	p.r.audit.Warn("request refused", append(fields, refusalEvents(in, d.Rule, vouching)...)...)
	p.remember(ctx, in.TransactionID, in.Subject, d)
	return &begun{refused: refusedResult(string(d.Rule), info, d.Detail)}
}

// remember keeps a refusal for whoever asks what became of a transaction.
func (p *Endpoint) remember(ctx context.Context, transactionID, subject string, d policymodule.Decision) {
	from := ""
	if source := scephttp.Source(ctx); source.IsValid() {
		from = source.String()
	}
	p.r.recent.add(Refusal{
		Time: p.r.now(), Endpoint: p.Name, TransactionID: transactionID, Source: from, Subject: clean(subject),
		Rule: string(d.Rule), FailInfo: scep.FailInfo(d.FailInfo), Detail: clean(d.Detail),
	})
}

// refusedResult names the rule first: the line of the exchange then says which
// page of the docs to open.
func refusedResult(rule string, info scep.FailInfo, detail string) *scep.Result {
	return scep.Refuse(info, rule+": "+detail)
}

// recordRefusal refuses a request that a module had granted: the challenge is
// spent, and the module is owed the failure.
func (p *Endpoint) recordRefusal(ctx context.Context, req *scep.Request, in journal.Intent, d policymodule.Decision) (*begun, error) {
	in.Refused = &journal.Failure{
		Rule: string(d.Rule), FailInfo: int(d.FailInfo), HResult: hresultRefused, Text: d.Detail,
	}
	in.Lazy, in.Submit = false, false
	admitted, _, err := p.begin(ctx, req, in)
	if err != nil || admitted.refused != nil {
		return admitted, err
	}
	p.r.cfg.Teller.Wake()
	p.r.auditEntry("refused after the module's grant", verdictRefused, admitted.entry, p.evidence(ctx, req.CSR),
		append(refusalEvents(in, d.Rule, false), zap.Stringer("fail_info", scep.FailInfo(d.FailInfo)))...)
	return admitted, nil
}

// checkRestored refuses a challenge that may have been spent in the time that
// a restored journal does not remember.
func (r *Registration) checkRestored(d policymodule.Decision, now time.Time) *policymodule.Decision {
	switch {
	case d.ChallengeID == "", r.cfg.RestoredAt.IsZero():
	case d.ChallengeMade.IsZero() && now.Before(r.cfg.RestoredAt.Add(r.cfg.Quarantine)):
		return refuse(RuleRestored, policymodule.BadTime, "the journal was restored, and it is not known when the challenge was made")
	case !d.ChallengeMade.IsZero() && d.ChallengeMade.Before(r.cfg.RestoredAt):
		return refuse(RuleRestored, policymodule.BadTime, "the challenge was made before the journal was restored")
	}
	return nil
}
