package agent

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/certconnector/certconnector/agent/control"
	"github.com/certconnector/certconnector/agent/identity"
	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/agent/reconcile"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/internal/admission"
)

// Jobs lists jobs for the control socket, newest first.
func (a *Agent) Jobs(ctx context.Context, f control.JobFilter) ([]control.Job, error) {
	q := journal.JobQuery{Source: f.Source, Limit: f.Limit}
	for _, name := range f.States {
		state, err := parseJobState(name)
		if err != nil {
			return nil, err
		}
		q.States = append(q.States, state)
	}
	list, err := a.journal.ListJobs(ctx, q)
	if err != nil {
		return nil, err
	}
	out := make([]control.Job, 0, len(list))
	for _, j := range list {
		c := control.Job{
			ID: strconv.FormatInt(j.ID, 10), Kind: j.Kind.String(), Source: j.Source, State: j.State.String(), Summary: j.Summary,
			Reason: j.Why, Attempts: j.Attempts, NextAt: j.NextAt, AcceptedAt: j.AcceptedAt, UpdatedAt: j.UpdatedAt,
		}
		if r := j.Result; r != nil {
			c.CA, c.Serial, c.Code, c.Result = r.CA, r.Serial, r.Code, outcomeOf(r)
			if r.Text != "" {
				c.Reason = r.Text
			}
		}
		out = append(out, c)
	}
	return out, nil
}

func outcomeOf(r *journal.JobResult) string {
	switch {
	case r.Refused:
		return "refused"
	case r.Unanswered:
		return "unanswered"
	case r.Succeeded:
		return "succeeded"
	}
	return "failed"
}

func parseJobState(name string) (journal.JobState, error) {
	for s := journal.JobOpen; s <= journal.JobOver; s++ {
		if strings.EqualFold(s.String(), name) {
			return s, nil
		}
	}
	return 0, &control.Error{Code: control.CodeInvalid, Text: fmt.Sprintf("there is no state %q of a job, only open, owed and over", name)}
}

// Sources tells how the sources of jobs stand.
func (a *Agent) Sources(ctx context.Context) ([]control.Source, error) {
	list, err := a.journal.Sources(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]control.Source, 0, len(list))
	for _, s := range list {
		out = append(out, control.Source{
			Name: s.Name, Leader: s.Owner, Until: s.Until, LastPoll: s.LastPoll, PausedAt: s.PausedAt, PausedWhy: s.PausedWhy,
			Open: s.Open, OldestOpen: s.OldestOpen, Owed: s.Owed, OldestOwed: s.OldestOwed,
		})
	}
	return out, nil
}

// ResumeSource lets the work of a paused source go on.
func (a *Agent) ResumeSource(ctx context.Context, source string) error {
	known, err := a.journal.Sources(ctx)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(known, func(s journal.Source) bool { return s.Name == source }) {
		return fmt.Errorf("no source of jobs is called %q: %w", source, journal.ErrNotFound)
	}
	if err := a.journal.ResumeSource(ctx, source, a.options.Clock()); err != nil {
		return err
	}
	if a.jobs != nil {
		a.jobs.Wake()
	}
	return nil
}

// ImportIssued records certificates of another system.
func (a *Agent) ImportIssued(ctx context.Context, i control.Import) (int, error) {
	if _, ok := a.tenants[i.Tenant]; !ok {
		return 0, fmt.Errorf("no tenant %q is configured: %w", i.Tenant, journal.ErrNotFound)
	}
	if _, ok := a.cas[i.CA]; !ok {
		return 0, fmt.Errorf("no CA %q is configured: %w", i.CA, journal.ErrNotFound)
	}
	list := make([]journal.ImportedCertificate, 0, len(i.Serials))
	for _, text := range i.Serials {
		n, ok := new(big.Int).SetString(text, 16)
		if !ok || n.Sign() <= 0 {
			return 0, &control.Error{Code: control.CodeInvalid, Text: "a serial number is not hexadecimal, or zero"}
		}
		list = append(list, journal.ImportedCertificate{Tenant: i.Tenant, CA: i.CA, Serial: fmt.Sprintf("%X", n.Bytes())})
	}
	return a.journal.ImportIssued(ctx, list, a.options.Clock())
}

// Certificates is the inventory of our own certificates.
func (a *Agent) Certificates(context.Context) ([]identity.Item, error) {
	return a.keeper.Inventory(), nil
}

// RenewCertificate renews one of our own now.
func (a *Agent) RenewCertificate(ctx context.Context, name string) error {
	err := a.keeper.Renew(ctx, name)
	if errors.Is(err, identity.ErrUnknown) {
		return fmt.Errorf("%w: %w", journal.ErrNotFound, err)
	}
	return err
}

// buildReconciler builds the comparison of journal, CAs and clouds.
func (a *Agent) buildReconciler(bridges map[string]ca.Authority) (err error) {
	a.reconciler, err = reconcile.New(reconcile.Config{
		Journal: a.journal, CAs: bridges, Background: admission.Background, Wake: a.outbox.Wake,
		// A revocation that fails stays a finding, and the next run repeats it.
		Revoke: func(ctx context.Context, name string, serial *big.Int) error {
			return a.Revoke(ctx, name, serial.Text(16), ca.CessationOfOperation)
		},
		Clock: a.options.Clock, Log: a.log.Named("reconcile"), Audit: a.audit,
	})
	return err
}

// Reconcile compares once.
func (a *Agent) Reconcile(ctx context.Context, o reconcile.Options) (reconcile.Report, error) {
	return a.reconciler.Run(ctx, o)
}
