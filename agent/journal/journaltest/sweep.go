package journaltest

import (
	"fmt"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
)

const keep = 90 * 24 * time.Hour

// over brings a job of a kind to its end, and its source is told.
func (f *fixture) over(l journal.Lead, kind journal.JobKind, name string, r journal.JobResult) {
	f.t.Helper()
	job := newJob(name)
	job.Kind = kind
	must(f.Journal.AcceptJobs(f.t.Context(), l, []journal.NewJob{job}, f.clock()))(f.t)
	for _, j := range must(f.Journal.ClaimJobs(f.t.Context(), kind, f.clock(), lease, 100))(f.t) {
		f.finish(j, r)
	}
	f.told(must(f.Journal.ClaimReports(f.t.Context(), l.Source, f.clock(), lease, 100))(f.t), journal.Taken)
}

// sweep sweeps what is older than keep and wants that many looked at.
func (f *fixture) sweep(want int) {
	f.t.Helper()
	if n := must(f.Journal.SweepJobs(f.t.Context(), f.clock().Add(-keep), 100))(f.t); n != want {
		f.t.Errorf("%d jobs were swept, want %d", n, want)
	}
}

// testSweep: what is forgotten of jobs, and what comes of one that is offered
// again afterwards.
func testSweep(t *testing.T, open func(*testing.T) *fixture) {
	issued := journal.JobResult{Succeeded: true, Serial: "0A", CA: "issuing"}
	rows := []struct {
		name   string
		kind   journal.JobKind
		result journal.JobResult
		stays  bool
	}{
		{"a revocation that was carried out", journal.RevokeJob, issued, true},
		{"a revocation that was refused", journal.RevokeJob, journal.JobResult{Code: 7, Text: "no", Serial: "0A", CA: "issuing"}, false},
		{"a revocation that is to be offered again", journal.RevokeJob, journal.JobResult{Code: 9, Retryable: true}, false},
		{"a revocation that was not ours to answer", journal.RevokeJob, journal.JobResult{Unanswered: true}, false},
		{"a certificate that was issued", journal.IssueJob, issued, true},
		{"a certificate that was issued and not delivered", journal.IssueJob, journal.JobResult{Code: 7, Text: "no", Serial: "0A", CA: "issuing"}, true},
		{"a certificate that was refused", journal.IssueJob, journal.JobResult{Code: 7, Text: "no"}, false},
		{"a certificate that is to be asked for again", journal.IssueJob, journal.JobResult{Code: 9, Retryable: true, Serial: "0A", CA: "issuing"}, false},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			f := open(t)
			l := f.lead("contoso", "a")
			f.over(l, row.kind, "old", row.result)
			f.accept(l, "newest")
			f.pass(keep)
			f.sweep(0)
			f.pass(1)
			f.sweep(1)
			f.sweep(0)
			f.reopen()
			l = f.lead("contoso", "a")
			again, other := newJob("old"), newJob("old")
			again.Kind, other.Kind, other.Content = row.kind, row.kind, []byte("another")
			got := must(f.Journal.AcceptJobs(t.Context(), l, []journal.NewJob{again, other}, f.clock()))(t)
			if !row.stays {
				f.wantBatch(got, journal.Batch{New: 1, Known: 1, Conflicts: 1})
				same(t, "job", f.wantJob("old", journal.JobOpen).NewJob, again)
				return
			}
			f.wantBatch(got, journal.Batch{Reopened: 1, Known: 1, Conflicts: 1})
			j := f.wantJob("old", journal.JobOwed)
			same(t, "result", j.Result, &row.result)
			same(t, "job", j.NewJob, journal.NewJob{Kind: row.kind, Context: "old"})
			f.told(f.claimReports("contoso", 1), journal.Taken)
			f.pass(keep + 1)
			f.sweep(0)
			f.wantJob("old", journal.JobOver)
		})
	}
	t.Run("what is open or owed stays as it is", func(t *testing.T) {
		f := open(t)
		f.accept(f.lead("contoso", "a"), "owed", "open", "newest")
		f.finish(f.claimJobs(3)[0], issued)
		before := f.jobs()
		f.pass(10 * keep)
		f.sweep(0)
		same(t, "jobs", f.jobs(), before)
	})
	t.Run("oldest first, up to the limit, and lists go on", func(t *testing.T) {
		f := open(t)
		l := f.lead("contoso", "a")
		for i := range 5 {
			f.over(l, journal.RevokeJob, fmt.Sprint(i), journal.JobResult{Succeeded: i == 1, Serial: "0A", CA: "issuing"})
			f.pass(time.Hour)
		}
		f.accept(l, "newest")
		f.pass(2 * keep)
		for _, want := range []int{2, 2, 1, 0} {
			if n := must(f.Journal.SweepJobs(t.Context(), f.clock().Add(-keep), 2))(t); n != want {
				t.Errorf("%d jobs were swept, want %d", n, want)
			}
		}
		wantContexts(t, "list", must(f.Journal.ListJobs(t.Context(), journal.JobQuery{}))(t), "newest", "1")
		wantContexts(t, "list of what is over", must(f.Journal.ListJobs(t.Context(), journal.JobQuery{States: []journal.JobState{journal.JobOver}}))(t), "1")
	})
	t.Run("an ID is not given twice", func(t *testing.T) {
		f := open(t)
		l := f.lead("contoso", "a")
		f.over(l, journal.RevokeJob, "old", journal.JobResult{Code: 7})
		old := f.wantJob("old", journal.JobOver)
		f.pass(2 * keep)
		must(f.Journal.SweepJobs(t.Context(), f.clock().Add(-keep), 100))(t)
		f.accept(l, "new")
		if j := f.wantJob("new", journal.JobOpen); j.ID <= old.ID {
			t.Errorf("ID %d after %d", j.ID, old.ID)
		}
	})
}
