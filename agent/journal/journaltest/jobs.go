package journaltest

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
)

// claimJobs claims revocations and wants so many.
func (f *fixture) claimJobs(want int) []journal.Job {
	f.t.Helper()
	list := must(f.Journal.ClaimJobs(f.t.Context(), journal.RevokeJob, f.clock(), lease, 100))(f.t)
	if len(list) != want {
		f.t.Fatalf("%d jobs are due, want %d", len(list), want)
	}
	return list
}

// claimReports claims the reports of a source and wants so many.
func (f *fixture) claimReports(source string, want int) []journal.Job {
	f.t.Helper()
	list := must(f.Journal.ClaimReports(f.t.Context(), source, f.clock(), lease, 100))(f.t)
	if len(list) != want {
		f.t.Fatalf("%d reports are due, want %d", len(list), want)
	}
	return list
}

func (f *fixture) finish(j journal.Job, r journal.JobResult) {
	f.t.Helper()
	if err := f.Journal.FinishJob(f.t.Context(), j, r, f.clock()); err != nil {
		f.t.Fatalf("finishing a job: %v", err)
	}
}

func (f *fixture) told(jobs []journal.Job, how journal.DebtOutcome) {
	f.t.Helper()
	if err := f.Journal.SettleReports(f.t.Context(), jobs, how, f.clock()); err != nil {
		f.t.Fatalf("settling reports: %v", err)
	}
}

// same fails unless two values are deeply equal.
func same[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s:\n got %+v\nwant %+v", what, got, want)
	}
}

func contexts(jobs []journal.Job) (list []string) {
	for _, j := range jobs {
		list = append(list, j.Context)
	}
	return list
}

func wantContexts(t *testing.T, what string, jobs []journal.Job, want ...string) {
	t.Helper()
	if got := contexts(jobs); !slices.Equal(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// wantStale fails unless every step by a claim on an open job is ErrLost.
func (f *fixture) wantStale(j journal.Job) {
	f.t.Helper()
	ctx := f.t.Context()
	wantError(f.t, "save by an old claim", f.Journal.SaveJob(ctx, j, []byte("w")), journal.ErrLost)
	wantError(f.t, "postpone by an old claim", f.Journal.PostponeJob(ctx, j, f.clock(), "why"), journal.ErrLost)
	wantError(f.t, "finish by an old claim", f.Journal.FinishJob(ctx, j, journal.JobResult{}, f.clock()), journal.ErrLost)
}

func testJobs(t *testing.T, open func(*testing.T) *fixture) {
	t.Run("oldest first, of all sources, up to the limit", func(t *testing.T) {
		f := open(t)
		c, b := f.lead("contoso", "a"), f.lead("branch", "a")
		f.accept(c, "1", "2")
		f.accept(b, "3")
		f.accept(c, "4")
		issue := newJob("5")
		issue.Kind = journal.IssueJob
		must(f.Journal.AcceptJobs(t.Context(), b, []journal.NewJob{issue}, f.clock()))(t)
		list := must(f.Journal.ClaimJobs(t.Context(), journal.RevokeJob, f.clock(), lease, 3))(t)
		wantContexts(t, "first claim", list, "1", "2", "3")
		wantContexts(t, "second claim", f.claimJobs(1), "4")
		list = must(f.Journal.ClaimJobs(t.Context(), journal.IssueJob, f.clock(), lease, 3))(t)
		wantContexts(t, "claim of another kind", list, "5")
		same(t, "claimed job", list[0], must(f.Journal.Job(t.Context(), list[0].ID))(t))
	})
	t.Run("a claim holds until its lease ends", func(t *testing.T) {
		f := open(t)
		f.accept(f.lead("contoso", "a"), "one")
		first := f.claimJobs(1)[0]
		f.pass(lease - 1)
		f.claimJobs(0)
		f.pass(1)
		second := f.claimJobs(1)[0]
		f.wantStale(first)
		f.finish(second, journal.JobResult{Succeeded: true})
		f.wantStale(second)
		f.wantStale(journal.Job{ID: second.ID + 1000})
	})
	t.Run("a lease that ended and that nobody took is still good", func(t *testing.T) {
		f := open(t)
		f.accept(f.lead("contoso", "a"), "one")
		j := f.claimJobs(1)[0]
		f.pass(2 * lease)
		f.finish(j, journal.JobResult{Succeeded: true})
		f.claimJobs(0)
	})
	t.Run("a postponed job is due when it says", func(t *testing.T) {
		f := open(t)
		f.accept(f.lead("contoso", "a"), "one", "two")
		j := f.claimJobs(2)[0]
		if err := f.Journal.PostponeJob(t.Context(), j, f.clock().Add(time.Hour), "CA is down"); err != nil {
			t.Fatal(err)
		}
		f.wantStale(j)
		f.pass(time.Hour - 1)
		wantContexts(t, "before", f.claimJobs(1), "two")
		f.pass(1)
		again := f.claimJobs(1)[0]
		if again.Attempts != 1 || again.Why != "CA is down" || again.State != journal.JobOpen {
			t.Errorf("postponed job is %+v", again)
		}
	})
	t.Run("what was saved is found again, and gone with the result", func(t *testing.T) {
		f := open(t)
		f.accept(f.lead("contoso", "a"), "one")
		j := f.claimJobs(1)[0]
		for _, work := range []string{"sealed key", "sealed key and request"} {
			if err := f.Journal.SaveJob(t.Context(), j, []byte(work)); err != nil {
				t.Fatal(err)
			}
		}
		f.claimJobs(0)
		f.reopen()
		f.wantStale(j)
		j = f.claimJobs(1)[0]
		if string(j.Work) != "sealed key and request" {
			t.Errorf("work is %q", j.Work)
		}
		f.finish(j, journal.JobResult{Succeeded: true})
		if j = f.wantJob("one", journal.JobOwed); j.Work != nil {
			t.Error("the work is still there")
		}
	})
	t.Run("a claim from before a restart is lost, the job due at once", func(t *testing.T) {
		f := open(t)
		f.accept(f.lead("contoso", "a"), "one")
		j := f.claimJobs(1)[0]
		f.reopen()
		again := f.claimJobs(1)[0]
		f.wantStale(j)
		f.finish(again, journal.JobResult{Succeeded: true})
		report := f.claimReports("contoso", 1)
		f.reopen()
		f.claimReports("contoso", 1)
		f.told(report, journal.Taken)
		f.wantJob("one", journal.JobOwed)
	})
	t.Run("one that is not there", func(t *testing.T) {
		_, err := open(t).Journal.Job(t.Context(), 1)
		wantError(t, "job", err, journal.ErrNotFound)
	})
	testJobLists(t, open)
}

func testJobLists(t *testing.T, open func(*testing.T) *fixture) {
	f := open(t)
	c := f.lead("contoso", "a")
	f.accept(c, "1", "2", "3")
	f.accept(f.lead("branch", "a"), "4")
	claimed := f.claimJobs(4)
	f.finish(claimed[0], journal.JobResult{Unanswered: true})
	f.finish(claimed[1], journal.JobResult{Succeeded: true})
	rows := []struct {
		name string
		q    journal.JobQuery
		want []string
	}{
		{"newest first", journal.JobQuery{}, []string{"4", "3", "2", "1"}},
		{"the limit holds", journal.JobQuery{Limit: 2}, []string{"4", "3"}},
		{"before a job", journal.JobQuery{Before: claimed[2].ID}, []string{"2", "1"}},
		{"of one source", journal.JobQuery{Source: "contoso"}, []string{"3", "2", "1"}},
		{"of a source that is not there", journal.JobQuery{Source: "nowhere"}, nil},
		{"of what is open", journal.JobQuery{States: []journal.JobState{journal.JobOpen}}, []string{"4", "3"}},
		{"of what is owed or over", journal.JobQuery{States: []journal.JobState{journal.JobOwed, journal.JobOver}}, []string{"2", "1"}},
		{"of all conditions", journal.JobQuery{Source: "contoso", States: []journal.JobState{journal.JobOpen, journal.JobOwed}, Before: claimed[3].ID, Limit: 1}, []string{"3"}},
	}
	for _, row := range rows {
		t.Run("list "+row.name, func(t *testing.T) {
			wantContexts(t, "list", must(f.Journal.ListJobs(t.Context(), row.q))(t), row.want...)
		})
	}
}
