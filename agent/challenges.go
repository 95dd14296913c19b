package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/certconnector/certconnector/agent/control"
	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/policymodule"
)

// operator is the principal behind the control socket: root, or the service's
// own account. Its rights are what an endpoint allows.
const operator = "operator"

// names reads patterns that validation has read before.
func names(subject, san []string) (policymodule.Names, error) {
	n, err := policymodule.ParseNames(subject, san)
	if err != nil {
		return n, fmt.Errorf("reading the names that are allowed: %w", err)
	}
	return n, nil
}

// allowed are the names that an endpoint gives; nil: any, for Intune compares
// them.
func (e Endpoint) allowed() (*policymodule.Names, error) {
	subject, san := e.Allow.Subject, e.Allow.SAN
	if e.Policy.Vouched() {
		if len(subject) == 0 && len(san) == 0 {
			return nil, nil
		}
		if len(subject) == 0 {
			subject = []string{"*"}
		}
		if len(san) == 0 {
			san = []string{"*"}
		}
	}
	n, err := names(subject, san)
	return &n, err
}

// principals returns who may have challenges made, by name, the operator
// included.
func (c *Config) principals() (map[string]policymodule.Principal, error) {
	list := map[string]policymodule.Principal{}
	local := policymodule.Principal{Name: operator, Rights: map[string]policymodule.Rights{}}
	for _, e := range c.Endpoints {
		if !e.Policy.makesChallenges() {
			continue
		}
		n, err := names(e.Allow.Subject, e.Allow.SAN)
		if err != nil {
			return nil, err
		}
		// No usages: those of the endpoint hold for every request anyway, and a
		// challenge that names some is refused to a device that asks for none.
		local.Rights[e.Name] = policymodule.Rights{Names: n}
	}
	list[operator] = local
	for _, p := range c.Principals {
		rights := map[string]policymodule.Rights{}
		for _, r := range p.Rights {
			n, err := names(r.Subject, r.SAN)
			if err != nil {
				return nil, err
			}
			rights[r.Endpoint] = policymodule.Rights{
				Names: n, ExtKeyUsages: extKeyUsages(r.EKU), MaxOutstanding: r.MaxOutstanding, PerMinute: r.PerMinute,
			}
		}
		list[p.Name] = policymodule.Principal{Name: p.Name, Rights: rights}
	}
	return list, nil
}

// rightsAt turns principals into the rights at one endpoint.
func rightsAt(endpoint string, principals map[string]policymodule.Principal) map[string]policymodule.Rights {
	rights := map[string]policymodule.Rights{}
	for name, p := range principals {
		if r, ok := p.Rights[endpoint]; ok {
			rights[name] = r
		}
	}
	return rights
}

// shared gives each principal that has no quota of its own an equal share of
// the endpoint's, so that none can use up the places of all.
func shared(rights map[string]policymodule.Rights, places int) map[string]policymodule.Rights {
	others := len(rights) - 1 // without the operator
	for name, r := range rights {
		if name != operator && r.MaxOutstanding == 0 && others > 1 {
			r.MaxOutstanding = max(1, places/others)
			rights[name] = r
		}
	}
	return rights
}

// NewChallenge makes a challenge for the control socket.
func (a *Agent) NewChallenge(ctx context.Context, w control.Wish) (control.Challenge, error) {
	i := slices.IndexFunc(a.cfg.Endpoints, func(e Endpoint) bool { return e.Name == w.Endpoint })
	if i < 0 {
		return control.Challenge{}, fmt.Errorf("there is no endpoint %q: %w", w.Endpoint, journal.ErrNotFound)
	}
	challenger, ok := a.challengers[w.Endpoint]
	if !ok {
		return control.Challenge{}, &control.Error{
			Code: control.CodeForbidden, Text: fmt.Sprintf("endpoint %q makes no challenges: its policy is neither onetime nor token with a signing key", w.Endpoint),
		}
	}
	var m mistakes
	if len(w.EKU) > 0 {
		validateEKU(&m, "eku", w.EKU)
	}
	if err := m.Err(); err != nil {
		return control.Challenge{}, &control.Error{Code: control.CodeInvalid, Text: err.Error()}
	}
	made, err := challenger.GenerateChallenge(ctx, a.principals[operator], policymodule.ChallengeWish{
		Subject: w.Subject, SANs: w.SANs, KeyUsage: w.KeyUsage, ExtKeyUsages: extKeyUsages(w.EKU), KeyType: w.KeyType,
		MinKeyBits: w.MinKeyBits, Hash: w.Hash, Template: w.Template, Validity: w.Validity, Lifetime: w.Lifetime,
	})
	switch {
	case errors.Is(err, policymodule.ErrBadWish):
		return control.Challenge{}, &control.Error{Code: control.CodeInvalid, Text: err.Error()}
	case errors.Is(err, policymodule.ErrNoRight):
		return control.Challenge{}, &control.Error{Code: control.CodeForbidden, Text: err.Error()}
	case errors.Is(err, policymodule.ErrLedgerFull), errors.Is(err, policymodule.ErrTooFast):
		return control.Challenge{}, &control.Error{Code: control.CodeUnavailable, Text: err.Error()}
	case err != nil:
		return control.Challenge{}, err
	}
	return control.Challenge{Challenge: made.Challenge.Reveal(), ID: made.ID, Expires: made.Expires}, nil
}

// traced is how many of the newest requests a trace looks through.
const traced = 5000

// Trace tells what became of the requests of a transaction, newest first.
func (a *Agent) Trace(ctx context.Context, transactionID string) ([]control.TraceEvent, error) {
	var events []control.TraceEvent
	entries, err := a.journal.List(ctx, journal.Query{Limit: traced})
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if transactionID != "" && e.TransactionID != transactionID {
			continue
		}
		event := control.TraceEvent{
			At: e.UpdatedAt, ID: fmt.Sprint(e.ID), Endpoint: e.Endpoint, TransactionID: e.TransactionID,
			Subject: e.Subject, State: e.State.String(), Serial: e.Serial,
		}
		if e.Failure != nil {
			event.Rule, event.Detail = e.Failure.Rule, e.Failure.Text
		}
		events = append(events, event)
	}
	for _, r := range a.registration.Recent(transactionID) {
		events = append(events, control.TraceEvent{
			At: r.Time, Endpoint: r.Endpoint, TransactionID: r.TransactionID, Source: r.Source, Subject: r.Subject,
			State: "refused", Rule: r.Rule, FailInfo: r.FailInfo.String(), Detail: r.Detail,
		})
	}
	slices.SortStableFunc(events, func(x, y control.TraceEvent) int { return y.At.Compare(x.At) })
	return events, nil
}
