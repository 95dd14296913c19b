package reconcile_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/agent/reconcile"
	"github.com/certconnector/certconnector/ca"
)

func kinds(r reconcile.Report) string {
	var s []string
	for _, f := range r.Findings {
		s = append(s, string(f.Kind))
	}
	slices.Sort(s)
	return strings.Join(s, " ")
}

func TestCleanJournalHasNoFindings(t *testing.T) {
	w := newWorld(t)
	for i := range 5 {
		w.enrol(fmt.Sprint("device-", i), journal.Released)
	}
	revoked := w.enrol("revoked", journal.Failed)
	serial, _ := new(big.Int).SetString(revoked.Serial, 16)
	if err := w.ca.Revoke(t.Context(), serial, ca.CessationOfOperation); err != nil {
		t.Fatal(err)
	}
	w.later(30 * day)
	w.enrol("in flight", journal.Issued, journal.OweSuccess)
	w.later(time.Minute)
	r := w.run(reconcile.Options{Fix: true})
	if len(r.Findings) != 0 || r.ExitCode() != 0 || len(r.Incomplete) != 0 || len(w.revoked) != 0 {
		t.Errorf("findings %+v, incomplete %q, revoked %q", r.Findings, r.Incomplete, w.revoked)
	}
	if r.Entries != 7 || r.Checked != 6 || r.NextCheck != 0 {
		t.Errorf("%d entries, %d checked, next %d", r.Entries, r.Checked, r.NextCheck)
	}
}

func serialOf(e journal.Entry) *big.Int {
	n, _ := new(big.Int).SetString(e.Serial, 16)
	return n
}

// differences are journals with one difference each, or with none.
var differences = map[string]struct {
	make func(w *world)
	want string
	code int
}{
	"issued and not accepted": {func(w *world) {
		w.enrol("a", journal.Issued, journal.OweSuccess)
		w.later(20 * time.Minute)
	}, "issued_not_accepted", 1},
	"past its deadline": {func(w *world) {
		w.begin("a")
		w.later(2 * time.Hour)
	}, "stuck", 1},
	"a revocation owed for long": {func(w *world) {
		w.enrol("a", journal.Abandoned, journal.OweRevocation)
		w.later(2 * time.Hour)
	}, "abandoned_not_revoked", 1},
	"a revocation owed for a moment": {func(w *world) {
		w.enrol("a", journal.Abandoned, journal.OweRevocation)
		w.later(30 * time.Minute)
	}, "", 0},
	"a failure not told": {func(w *world) {
		w.enrol("a", journal.Failed, journal.OweFailure, journal.OweRevocation)
		w.later(2 * time.Hour)
	}, "abandoned_not_revoked report_owed", 1},
	"revoked at the CA": {func(w *world) {
		e := w.enrol("a", journal.Released)
		w.later(time.Hour)
		if err := w.ca.Revoke(w.t.Context(), serialOf(e), ca.KeyCompromise); err != nil {
			w.t.Fatal(err)
		}
		w.later(time.Hour)
	}, "revoked_at_ca", 1},
	"unknown at the CA": {func(w *world) {
		w.enrol("a", journal.Released)
		w.asked.err = fmt.Errorf("serial: %w", ca.ErrNotFound)
		w.later(time.Hour)
	}, "unknown_at_ca", 1},
	"abandoned, and good at the CA": {func(w *world) {
		w.enrol("a", journal.Abandoned)
		w.later(time.Hour)
	}, "not_revoked_at_ca", 1},
	"failed, and good at the CA": {func(w *world) {
		w.enrol("a", journal.Failed)
		w.later(time.Hour)
	}, "not_revoked_at_ca", 1},
	"failed, good, and about to be settled": {func(w *world) {
		w.enrol("a", journal.Failed)
		w.later(time.Minute)
	}, "", 0},
	"submitted twice": {func(w *world) {
		_, owned, _ := w.begin("a")
		w.step(owned, journal.Step{To: journal.Unknown, NextAt: w.clock.Add(time.Minute)})
		w.step(owned, journal.Step{To: journal.Submitted, Resubmitted: true, NextAt: w.clock.Add(time.Minute)})
		w.later(time.Minute)
	}, "possible_orphan", 1},
	"a device that renews late": {func(w *world) {
		w.enrol("a", journal.Released)
		w.later(330 * day)
	}, "renewal_late", 0},
	"a device that stopped renewing": {func(w *world) {
		w.enrol("a", journal.Released)
		w.later(370 * day)
	}, "stopped_renewing", 1},
	"a device that renewed": {func(w *world) {
		w.enrol("a", journal.Released)
		w.later(300 * day)
		w.enrol("a", journal.Released)
		w.later(70 * day)
	}, "", 0},
	"a device that is about to renew": {func(w *world) {
		w.enrol("a", journal.Released)
		w.later(370 * day)
		w.begin("a")
		w.later(time.Minute)
	}, "", 0},
	"one device renewed, another did not": {func(w *world) {
		w.enrol("a", journal.Released)
		w.enrol("b", journal.Released)
		w.later(370 * day)
		w.enrol("a", journal.Released)
		w.later(time.Hour)
	}, "stopped_renewing", 1},
	"a CA that is not configured": {func(w *world) {
		w.enrol("a", journal.Released)
		w.cfg.CAs = nil
		w.later(time.Hour)
	}, "", 0},
	"a CA that cannot tell": {func(w *world) {
		w.enrol("a", journal.Failed)
		w.cfg.CAs = map[string]ca.Authority{"lab": mute{w.ca}}
		w.later(time.Hour)
	}, "", 0},
}

// TestFindings makes one difference in each row.
func TestFindings(t *testing.T) {
	for name, row := range differences {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			row.make(w)
			r := w.run(reconcile.Options{})
			if kinds(r) != row.want || r.ExitCode() != row.code {
				t.Fatalf("findings %q with code %d, want %q with %d\n%+v", kinds(r), r.ExitCode(), row.want, row.code, r)
			}
			for _, f := range r.Findings {
				if f.ID == "" || f.Cause == "" || f.Fix == "" || f.Entry == 0 || f.CA != "lab" || f.Tenant != "contoso" || f.Since.IsZero() || r.Counts[f.Kind] == 0 {
					t.Errorf("finding is not whole: %+v", f)
				}
			}
			if len(w.revoked) != 0 || w.audit.Len() != 0 {
				t.Error("something was changed without being asked")
			}
			if again := w.run(reconcile.Options{}); len(again.Findings) > 0 && again.Findings[0].ID != r.Findings[0].ID {
				t.Error("the second run names the finding differently")
			}
			if _, err := json.Marshal(r); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestFixHasACertificateRevokedOnce(t *testing.T) {
	w := newWorld(t)
	e := w.enrol("a", journal.Abandoned)
	w.enrol("b", journal.Released)
	w.later(time.Hour)
	r := w.run(reconcile.Options{Fix: true})
	if len(r.Findings) != 1 || !r.Findings[0].Fixed || !r.Findings[0].Fixable || r.Fixed != 1 || r.ExitCode() != 0 {
		t.Fatalf("%+v", r)
	}
	if w.audit.FilterMessage("reconciliation repaired a finding").Len() != 1 || len(w.revoked) != 1 {
		t.Errorf("revoked %q, audited %d lines", w.revoked, w.audit.Len())
	}
	if n, ok := new(big.Int).SetString(e.Serial, 16); !ok || w.revoked[0] != fmt.Sprintf("lab %X", n) {
		t.Errorf("revoked %q, want %s", w.revoked, e.Serial)
	}
	if again := w.run(reconcile.Options{Fix: true}); len(again.Findings) != 0 || len(w.revoked) != 1 {
		t.Errorf("the second run: %+v", again)
	}
}

func TestFixThatFailsIsNamed(t *testing.T) {
	w := newWorld(t)
	w.enrol("a", journal.Abandoned)
	w.enrol("late", journal.Abandoned, journal.OweRevocation)
	w.later(2 * time.Hour)
	w.cfg.Revoke = func(ctx context.Context, name string, serial *big.Int) error { return errors.New("the disk is full") }
	r := w.run(reconcile.Options{Fix: true})
	var failed int
	for _, f := range r.Findings {
		if f.FixError == "the disk is full" && !f.Fixed {
			failed++
		}
	}
	if failed != 1 || r.ExitCode() != 1 || w.woken != 1 || r.Fixed != 0 {
		t.Errorf("%d failed, code %d, woken %d", failed, r.ExitCode(), w.woken)
	}
}

func TestJobsAndSources(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	lead, err := w.journal.Lead(ctx, "contoso", "here", w.clock, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.journal.RecordPoll(ctx, lead, w.clock); err != nil {
		t.Fatal(err)
	}
	e := w.enrol("revoked by a job", journal.Released)
	var jobs []journal.NewJob
	for _, c := range []string{"revoked", "refused", "foreign", "owed", "open"} {
		jobs = append(jobs, journal.NewJob{Kind: journal.RevokeJob, Context: c, Content: []byte(c), Summary: c})
	}
	jobs = append(jobs, journal.NewJob{Kind: journal.IssueJob, Context: "issue", Content: []byte("i"), Summary: "issue"})
	if _, err := w.journal.AcceptJobs(ctx, lead, jobs, w.clock); err != nil {
		t.Fatal(err)
	}
	claimed, err := w.journal.ClaimJobs(ctx, journal.RevokeJob, w.clock, time.Minute, 4)
	if err != nil || len(claimed) != 4 {
		t.Fatalf("%d claimed, %v", len(claimed), err)
	}
	for _, j := range claimed {
		result := journal.JobResult{Succeeded: true, Serial: "AB", CA: "lab"}
		switch j.Context {
		case "revoked":
			result.Serial = e.Serial
			n, _ := new(big.Int).SetString(e.Serial, 16)
			if err := w.ca.Revoke(ctx, n, ca.KeyCompromise); err != nil {
				t.Fatal(err)
			}
		case "foreign":
			result = journal.JobResult{Unanswered: true, Text: "another CA"}
		}
		if err := w.journal.FinishJob(ctx, j, result, w.clock); err != nil {
			t.Fatal(err)
		}
	}
	reports, err := w.journal.ClaimReports(ctx, "contoso", w.clock, time.Minute, 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, j := range reports {
		how := journal.Taken
		if j.Context == "refused" {
			how = journal.RefusedForGood
		}
		if err := w.journal.SettleReports(ctx, []journal.Job{j}, how, w.clock); err != nil {
			t.Fatal(err)
		}
	}
	w.later(30 * time.Minute)
	if r := w.run(reconcile.Options{}); kinds(r) != "job_unanswered report_refused" {
		t.Fatalf("after half an hour: %q", kinds(r))
	}
	w.later(25 * time.Hour)
	if err := w.journal.PauseSource(ctx, "other", "too many revocations", w.clock); err != nil {
		t.Fatal(err)
	}
	r := w.run(reconcile.Options{})
	if want := "job_unanswered report_owed report_refused revocation_owed stuck stuck stuck"; kinds(r) != want {
		t.Fatalf("after a day: %q, want %q", kinds(r), want)
	}
	for _, f := range r.Findings {
		if f.Source == "" || f.Cause == "" || f.Fix == "" || f.Fixable {
			t.Errorf("%+v", f)
		}
	}
}

func TestSilentCAIsLeftAlone(t *testing.T) {
	w := newWorld(t)
	for i := range 20 {
		w.enrol(fmt.Sprint("device-", i), journal.Released)
	}
	w.later(time.Hour)
	w.asked.err = fmt.Errorf("connection refused: %w", ca.ErrUnavailable)
	r := w.run(reconcile.Options{})
	if r.ExitCode() != 2 || w.asked.n > 4 || r.Checked != 0 || r.Unchecked != 20 || len(r.Findings) != 0 {
		t.Errorf("code %d after %d questions, %d checked, %d not: %q", r.ExitCode(), w.asked.n, r.Checked, r.Unchecked, r.Incomplete)
	}
}

func TestQuestionsAreBoundedAndGoOn(t *testing.T) {
	w := newWorld(t)
	for i := range 30 {
		w.enrol(fmt.Sprint("device-", i), journal.Failed)
	}
	w.later(time.Hour)
	first := w.run(reconcile.Options{Checks: 20, Limit: 5})
	if first.Checked != 20 || first.Unchecked != 10 || w.asked.busiest > 2 || len(first.Findings) != 5 || first.Unlisted != 15 || first.Counts[reconcile.NotRevokedAtCA] != 20 {
		t.Errorf("%d checked, %d at once, %d listed and %d not", first.Checked, w.asked.busiest, len(first.Findings), first.Unlisted)
	}
	second := w.run(reconcile.Options{Checks: 20, CheckBefore: first.NextCheck})
	if second.Checked != 10 || second.NextCheck != 0 {
		t.Errorf("the second run checked %d", second.Checked)
	}
	if none := w.run(reconcile.Options{Checks: -1}); none.Checked != 0 {
		t.Errorf("%d checked though none should be", none.Checked)
	}
}

func TestOldEntriesAreNotLookedAt(t *testing.T) {
	w := newWorld(t)
	w.enrol("old", journal.Failed)
	w.later(10 * day)
	w.enrol("new", journal.Failed)
	w.later(time.Hour)
	if r := w.run(reconcile.Options{Since: day}); r.Entries != 1 || len(r.Findings) != 1 || r.Findings[0].Subject != "CN=new" {
		t.Errorf("%d entries, %+v", r.Entries, r.Findings)
	}
}

func TestJournalThatCannotBeRead(t *testing.T) {
	w := newWorld(t)
	w.cfg.Journal = broken{w.journal}
	r, err := reconcile.New(w.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if report, err := r.Run(t.Context(), reconcile.Options{}); err == nil || report.ExitCode() != 2 {
		t.Errorf("%v with code %d", err, report.ExitCode())
	}
	if _, err := reconcile.New(reconcile.Config{}); err == nil {
		t.Error("a reconciler without a journal was made")
	}
}

func TestRunThatIsCutOffSaysSoAndCanGoOn(t *testing.T) {
	w := newWorld(t)
	for i := range 10 {
		w.enrol(fmt.Sprint("device-", i), journal.Released)
	}
	w.later(time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	w.cfg.CheckEvery = time.Millisecond
	var n atomic.Int64
	w.asked.checker = checkerFunc(func(context.Context, *big.Int) (ca.Status, error) {
		if n.Add(1) == 5 {
			cancel()
		}
		return ca.Status{}, nil
	})
	r, err := reconcile.New(w.cfg)
	if err != nil {
		t.Fatal(err)
	}
	report, err := r.Run(ctx, reconcile.Options{})
	if !errors.Is(err, context.Canceled) || report.ExitCode() != 2 || report.NextCheck == 0 || !strings.Contains(report.Incomplete[0], "cut off") {
		t.Errorf("%v, code %d, next %d: %q", err, report.ExitCode(), report.NextCheck, report.Incomplete)
	}
	w.asked.checker = w.ca
	if rest := w.run(reconcile.Options{CheckBefore: report.NextCheck}); report.Checked+rest.Checked != 10 || report.Checked < 4 {
		t.Errorf("the runs checked %d and %d of 10", report.Checked, rest.Checked)
	}
}
