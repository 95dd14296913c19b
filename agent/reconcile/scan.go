package reconcile

import (
	"context"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/internal/retry"
)

// pause between pages of entries leaves the journal to devices.
const pause = 5 * time.Millisecond

// scan is one run. It keeps digests of devices and of revoked serial numbers,
// never rows: its memory grows by some bytes a device.
type scan struct {
	r       *Reconciler
	options Options
	now     time.Time
	from    time.Time
	report  Report

	owed    bool                 // something is owed at all
	debts   map[int64]struct{}   // entries whose revocation is owed
	revoked map[uint64]struct{}  // certificates that a job has revoked
	devices map[uint64]struct{}  // devices whose newest certificate was seen
	coming  map[uint64]struct{}  // devices whose next certificate is under way
	checks  []check              // of the page that is read
	asked   int                  // questions that were begun
	cut     bool                 // there were more questions than Options.Checks
	cas     map[string]*neighbor // how CAs answer
}

func (r *Reconciler) newScan(o Options) *scan {
	if o.Since <= 0 {
		o.Since = defaultSince
	}
	if o.Limit <= 0 {
		o.Limit = defaultLimit
	}
	if o.Checks == 0 {
		o.Checks = defaultChecks
	}
	now := r.Clock().UTC()
	return &scan{
		r: r, options: o, now: now, from: now.Add(-o.Since),
		report:  Report{StartedAt: now, Since: now.Add(-o.Since), Counts: map[Kind]int{}, Findings: []Finding{}},
		debts:   map[int64]struct{}{},
		revoked: map[uint64]struct{}{}, devices: map[uint64]struct{}{}, coming: map[uint64]struct{}{},
		cas: map[string]*neighbor{},
	}
}

// run reads debts and jobs before entries: what they explain is no finding.
func (s *scan) run(ctx context.Context) error {
	if err := s.readDebts(ctx); err != nil {
		return err
	}
	if err := s.readSources(ctx); err != nil {
		return err
	}
	if err := s.readJobs(ctx); err != nil {
		return err
	}
	return s.readEntries(ctx)
}

func (s *scan) readDebts(ctx context.Context) error {
	for before := int64(0); ; {
		debts, err := s.r.Journal.OwedDebts(ctx, before, page)
		if err != nil {
			return fmt.Errorf("reading what is owed: %w", err)
		}
		for i := range debts {
			d := &debts[i]
			s.report.Debts++
			s.owed = true
			s.lookDebt(d)
			before = d.ID
		}
		if len(debts) < page {
			return nil
		}
	}
}

// lookDebt looks at what is owed for an entry.
func (s *scan) lookDebt(d *journal.Debt) {
	age := s.now.Sub(d.Since)
	switch {
	case d.Kind == journal.OweRevocation:
		_, twice := s.debts[d.Entry.ID]
		s.debts[d.Entry.ID] = struct{}{}
		if twice || age < s.r.Owed {
			return
		}
		f := of(AbandonedNotRevoked, Error, &d.Entry)
		f.Since = d.Since
		f.Cause = fmt.Sprintf("the certificate was never given out and its revocation is owed; %d attempts at CA %q failed", d.Attempts, d.Entry.CA)
		f.Fix = "see the log for what the CA answers; the outbox goes on by itself until the CA has revoked it"
		s.found(f, nil)
	case d.Kind == journal.OweSuccess && age >= s.r.Settling:
		f := of(IssuedNotAccepted, Warning, &d.Entry)
		f.Since, f.Until = d.Since, d.Entry.GiveUp
		f.Cause = fmt.Sprintf("the certificate was issued and the cloud has not taken the notification in %d attempts, so the device does not get it", d.Attempts)
		f.Fix = "see that the cloud can be reached; what is not taken in time is abandoned and revoked, and the device enrols again"
		s.found(f, nil)
	case d.Kind == journal.OweFailure && age >= s.r.Owed:
		f := of(ReportOwed, Info, &d.Entry)
		f.Since = d.Since
		f.Cause = fmt.Sprintf("the cloud has not been told of a failure in %d attempts", d.Attempts)
		f.Fix = "see that the cloud can be reached; failures are told at best effort and given up after a day"
		s.found(f, nil)
	}
}

func (s *scan) readSources(ctx context.Context) error {
	sources, err := s.r.Journal.Sources(ctx)
	if err != nil {
		return fmt.Errorf("reading the sources of jobs: %w", err)
	}
	for _, src := range sources {
		f := Finding{Kind: Stuck, Severity: Warning, ID: "stuck-source-" + src.Name, Source: src.Name}
		switch {
		case !src.PausedAt.IsZero():
			f.Severity, f.Since = Error, src.PausedAt
			f.Cause = "the work on its jobs is paused: " + src.PausedWhy
			f.Fix = "look at its jobs; when they are what they should be, resume the source"
		case !src.LastPoll.IsZero() && s.now.Sub(src.LastPoll) > s.r.Polled:
			f.Since = src.LastPoll
			f.Cause = "it has not been asked for work"
			f.Fix = "check that an instance polls it, and what the log says of its polls; remove it from the configuration if it is not wanted any more"
		default:
			continue
		}
		s.found(f, nil)
	}
	return nil
}

func (s *scan) readEntries(ctx context.Context) error {
	for before := int64(0); ; {
		entries, err := s.r.Journal.List(ctx, journal.Query{Before: before, Limit: page})
		if err != nil {
			return fmt.Errorf("reading enrolments: %w", err)
		}
		for i := range entries {
			e := &entries[i]
			before = e.ID
			if e.Now.Before(s.from) {
				continue
			}
			s.report.Entries++
			s.look(e)
		}
		if err := s.ask(ctx); err != nil {
			return err
		}
		// One old row does not end it: clocks jump. A whole page does.
		if len(entries) < page || !slices.ContainsFunc(entries, func(e journal.Entry) bool { return !e.Now.Before(s.from) }) {
			return nil
		}
		if err := retry.Wait(ctx, pause); err != nil {
			return err
		}
	}
}

func (s *scan) incomplete(what string) {
	if !slices.Contains(s.report.Incomplete, what) {
		s.report.Incomplete = append(s.report.Incomplete, what)
	}
}

func (s *scan) note(what string) {
	if !slices.Contains(s.report.Notes, what) {
		s.report.Notes = append(s.report.Notes, what)
	}
}

func (r *Reconciler) auditFix(f Finding) {
	fields := []zap.Field{zap.String("finding", f.ID), zap.String("ca", f.CA), zap.String("serial", f.Serial), zap.Int64("entry", f.Entry)}
	if f.FixError != "" {
		r.Audit.Error("reconciliation could not repair a finding", append(fields, zap.String("error", f.FixError))...)
		return
	}
	r.Audit.Info("reconciliation repaired a finding", fields...)
}
