package agent

import (
	"context"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent/control"
	"github.com/certconnector/certconnector/agent/jobs"
	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/internal/admission"
)

var _ control.Service = (*Agent)(nil)

// Requests lists enrolments for the control socket, newest first.
func (a *Agent) Requests(ctx context.Context, f control.Filter) ([]control.Request, error) {
	q := journal.Query{Endpoint: f.Endpoint, Limit: f.Limit}
	for _, name := range f.States {
		state, err := parseState(name)
		if err != nil {
			return nil, err
		}
		q.States = append(q.States, state)
	}
	entries, err := a.journal.List(ctx, q)
	if err != nil {
		return nil, err
	}
	list := make([]control.Request, 0, len(entries))
	for _, e := range entries {
		r := control.Request{
			ID: strconv.FormatInt(e.ID, 10), State: e.State.String(), Endpoint: e.Endpoint, TransactionID: e.TransactionID,
			Subject: e.Subject, CA: e.CA, Template: e.Template, CARequestID: e.CARequestID, Serial: e.Serial,
			CreatedAt: e.Now, UpdatedAt: e.UpdatedAt,
		}
		if e.Failure != nil {
			r.Reason = e.Failure.Rule + ": " + e.Failure.Text
		}
		list = append(list, r)
	}
	return list, nil
}

func parseState(name string) (journal.State, error) {
	for s := journal.Verified; s <= journal.Failed; s++ {
		if strings.EqualFold(s.String(), name) {
			return s, nil
		}
	}
	return 0, &control.Error{Code: control.CodeInvalid, Text: fmt.Sprintf("there is no state %q", name)}
}

// Approve lets a parked request be issued.
func (a *Agent) Approve(ctx context.Context, id string) error {
	return a.decide(ctx, id, func(ap ca.Approver, requestID string) error { return ap.Approve(ctx, requestID) })
}

// Deny refuses a parked request.
func (a *Agent) Deny(ctx context.Context, id, why string) error {
	return a.decide(ctx, id, func(ap ca.Approver, requestID string) error { return ap.Deny(ctx, requestID, why) })
}

func (a *Agent) decide(ctx context.Context, id string, do func(ca.Approver, string) error) error {
	n, err := strconv.ParseInt(id, 10, 64)
	if err != nil {
		return fmt.Errorf("request ID %q is not a number: %w", id, journal.ErrNotFound)
	}
	e, err := a.journal.Entry(ctx, n)
	switch {
	case err != nil:
		return err
	case e.State != journal.Parked:
		return fmt.Errorf("request %s is %s, not parked: %w", id, e.State, ca.ErrForbidden)
	}
	approver, ok := ca.Ability[ca.Approver](a.bridges[e.CA])
	if !ok {
		return fmt.Errorf("CA %q decides by itself; use its own console: %w", e.CA, ca.ErrForbidden)
	}
	if err := do(approver, e.CARequestID); err != nil {
		return err
	}
	a.registration.Nudge(ctx, e.ID)
	return nil
}

// Revoke revokes a certificate by hexadecimal serial number.
func (a *Agent) Revoke(ctx context.Context, caName, serial string, reason ca.Reason) error {
	issuer, ok := a.cas[caName]
	if !ok {
		names := make([]string, 0, len(a.cas))
		for n := range a.cas {
			names = append(names, n)
		}
		slices.Sort(names)
		return fmt.Errorf("no CA %q is configured, only %s: %w", caName, strings.Join(names, ", "), ca.ErrNotFound)
	}
	revoker, ok := ca.Ability[ca.Revoker](a.bridges[caName])
	if !ok {
		return fmt.Errorf("CA %q cannot revoke from here: %w", caName, ca.ErrForbidden)
	}
	n, ok := new(big.Int).SetString(serial, 16)
	if !ok || n.Sign() < 0 {
		return &control.Error{Code: control.CodeInvalid, Text: "the serial number is not hexadecimal"}
	}
	leave, err := ca.Turn(ctx, issuer.Authority)
	if err != nil {
		return err
	}
	defer leave()
	if err := revoker.Revoke(ctx, n, reason); err != nil {
		return err
	}
	if err := jobs.RecordRevocation(ctx, a.journal, caName, fmt.Sprintf("%X", n.Bytes()), a.options.Clock()); err != nil {
		a.log.Warn("a revocation was carried out and not recorded: reconcile will list it", zap.String("ca", caName), zap.Error(err))
	}
	return nil
}

// Status tells how the service is.
func (a *Agent) Status(ctx context.Context) (control.Status, error) {
	problems := a.status.Problems()
	st := control.Status{
		Version: a.options.Version, StartedAt: a.began, Ready: len(problems) == 0, Problems: problems, Warnings: append(a.cfg.Warnings(), a.status.Warnings()...),
		Queues: []control.Queue{queue("RA keys", a.handler.Queue())}, Owed: []control.Owed{},
	}
	for _, c := range a.cfg.CAs {
		if gated, ok := a.cas[c.Name].Authority.(interface{ Queue() admission.Stats }); ok {
			st.Queues = append(st.Queues, queue("CA "+c.Name, gated.Queue()))
		}
	}
	st.Reload, _ = a.record.get()
	if err := a.record.problem(); err != nil {
		st.Warnings = append(st.Warnings, "configuration: "+err.Error())
	}
	owed, err := a.journal.DebtStats(ctx)
	if err != nil {
		return st, err
	}
	for _, d := range owed {
		st.Owed = append(st.Owed, control.Owed{Kind: d.Kind.String(), N: d.N, Oldest: d.Oldest})
	}
	return st, nil
}

func queue(name string, s admission.Stats) control.Queue {
	q := control.Queue{
		Name: name, Slots: s.Slots, InUse: s.InUse, Waiting: s.Devices + s.Answers, Jobs: s.Jobs, Oldest: s.Oldest, Shed: map[string]uint64{},
	}
	for why, n := range s.Shed {
		if n > 0 {
			q.Shed[string(why)] = n
		}
	}
	return q
}
