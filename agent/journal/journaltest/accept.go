package journaltest

import (
	"fmt"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
)

// newJob is a revocation that a source asks for; name tells jobs apart.
func newJob(name string) journal.NewJob {
	return journal.NewJob{Kind: journal.RevokeJob, Context: name, Content: []byte("content of " + name), Summary: "serial " + name}
}

// accept records a batch that must be taken.
func (f *fixture) accept(l journal.Lead, names ...string) journal.Batch {
	f.t.Helper()
	jobs := make([]journal.NewJob, 0, len(names))
	for _, name := range names {
		jobs = append(jobs, newJob(name))
	}
	return must(f.Journal.AcceptJobs(f.t.Context(), l, jobs, f.clock()))(f.t)
}

func (f *fixture) wantBatch(got, want journal.Batch) {
	f.t.Helper()
	if got != want {
		f.t.Errorf("batch is %+v, want %+v", got, want)
	}
}

// jobs returns every job, oldest first.
func (f *fixture) jobs() []journal.Job {
	f.t.Helper()
	list := must(f.Journal.ListJobs(f.t.Context(), journal.JobQuery{Limit: 1000}))(f.t)
	for i, k := 0, len(list)-1; i < k; i, k = i+1, k-1 {
		list[i], list[k] = list[k], list[i]
	}
	return list
}

// wantJob fails unless a source's only job of that context stands as want says.
func (f *fixture) wantJob(context string, state journal.JobState) journal.Job {
	f.t.Helper()
	var found []journal.Job
	for _, j := range f.jobs() {
		if j.Context == context {
			found = append(found, j)
		}
	}
	if len(found) != 1 {
		f.t.Fatalf("%d jobs have the context %s", len(found), context)
	}
	if found[0].State != state {
		f.t.Errorf("job %s is %v, want %v", context, found[0].State, state)
	}
	return found[0]
}

func testAccepting(t *testing.T, open func(*testing.T) *fixture) {
	t.Run("a batch is recorded as it came", func(t *testing.T) {
		f := open(t)
		f.wantBatch(f.accept(f.lead("contoso", "a"), "one", "two"), journal.Batch{New: 2})
		for i, j := range f.jobs() {
			want := journal.Job{ID: j.ID, Source: "contoso", NewJob: newJob([]string{"one", "two"}[i]), State: journal.JobOpen,
				NextAt: start, AcceptedAt: start, UpdatedAt: start, Token: j.Token}
			same(t, "accepted job", j, want)
		}
	})
	t.Run("an empty batch, and jobs without content", func(t *testing.T) {
		f := open(t)
		l := f.lead("contoso", "a")
		f.wantBatch(f.accept(l), journal.Batch{})
		bare := []journal.NewJob{{Kind: journal.IssueJob, Context: "bare"}}
		for i := range 2 {
			got := must(f.Journal.AcceptJobs(t.Context(), l, bare, f.clock()))(t)
			f.wantBatch(got, journal.Batch{New: 1 - i, Known: i})
		}
	})
	t.Run("without the lead nothing is recorded", func(t *testing.T) {
		f := open(t)
		old := f.lead("contoso", "a")
		f.pass(2 * term)
		// Nobody else has taken it: what was handed over is not thrown away.
		f.wantBatch(f.accept(old, "one"), journal.Batch{New: 1})
		f.lead("contoso", "b")
		_, err := f.Journal.AcceptJobs(t.Context(), old, []journal.NewJob{newJob("two"), newJob("three")}, f.clock())
		wantError(t, "a batch of who led before", err, journal.ErrLost)
		_, err = f.Journal.AcceptJobs(t.Context(), journal.Lead{Source: "nowhere", Owner: "a", Epoch: 1}, []journal.NewJob{newJob("four")}, f.clock())
		wantError(t, "a batch of a source that nobody led", err, journal.ErrLost)
		if n := len(f.jobs()); n != 1 {
			t.Errorf("%d jobs are recorded, want 1", n)
		}
	})
	t.Run("a context is one job, of each source", func(t *testing.T) {
		f := open(t)
		l := f.lead("contoso", "a")
		f.wantBatch(f.accept(l, "one", "two", "one"), journal.Batch{New: 2, Known: 1})
		f.wantBatch(f.accept(l, "one", "three"), journal.Batch{New: 1, Known: 1})
		f.wantBatch(f.accept(f.lead("fabrikam", "a"), "one"), journal.Batch{New: 1})
	})
	t.Run("the first content counts", func(t *testing.T) {
		f := open(t)
		l := f.lead("contoso", "a")
		f.accept(l, "one")
		other, kind := newJob("one"), newJob("one")
		other.Content, kind.Kind = []byte("another"), journal.IssueJob
		got := must(f.Journal.AcceptJobs(t.Context(), l, []journal.NewJob{other, kind}, f.clock()))(t)
		f.wantBatch(got, journal.Batch{Known: 2, Conflicts: 2})
		same(t, "job", f.wantJob("one", journal.JobOpen).NewJob, newJob("one"))
	})
	t.Run("a job of our own is recorded once and needs no lead", func(t *testing.T) {
		f := open(t)
		for range 2 {
			f.addJob("own", "reconcile")
		}
		f.pass(time.Minute)
		changed := newJob("own")
		changed.Content = []byte("another")
		if err := f.Journal.AddJob(t.Context(), changed, "reconcile", f.clock()); err != nil {
			t.Fatal(err)
		}
		j := f.wantJob("own", journal.JobOpen)
		same(t, "own job", j.NewJob, newJob("own"))
		if !j.AcceptedAt.Equal(start) {
			t.Errorf("accepted at %v, want %v", j.AcceptedAt, start)
		}
	})
	testOfferedAgain(t, open)
}

func (f *fixture) addJob(name, source string) {
	f.t.Helper()
	if err := f.Journal.AddJob(f.t.Context(), newJob(name), source, f.clock()); err != nil {
		f.t.Fatalf("adding a job: %v", err)
	}
}

// testOfferedAgain: what becomes of a job whose context comes once more.
func testOfferedAgain(t *testing.T, open func(*testing.T) *fixture) {
	rows := []struct {
		name   string
		result journal.JobResult
		settle journal.DebtOutcome // 0: the report is still owed
		want   journal.Batch
		state  journal.JobState
	}{
		{"while its report is owed: known", journal.JobResult{Succeeded: true}, 0, journal.Batch{Known: 1}, journal.JobOwed},
		{"after its report was taken: owed again", journal.JobResult{Succeeded: true, Serial: "0A", CA: "issuing"}, journal.Taken, journal.Batch{Reopened: 1}, journal.JobOwed},
		{"after a failure was taken: owed again", journal.JobResult{Code: 7, Text: "no"}, journal.Taken, journal.Batch{Reopened: 1}, journal.JobOwed},
		{"after its report was refused: owed again", journal.JobResult{Succeeded: true}, journal.RefusedForGood, journal.Batch{Reopened: 1}, journal.JobOwed},
		{"after asking to offer it again: open", journal.JobResult{Code: 9, Retryable: true}, journal.Taken, journal.Batch{Reopened: 1}, journal.JobOpen},
		{"after asking to offer it again, not told yet: known", journal.JobResult{Code: 9, Retryable: true}, 0, journal.Batch{Known: 1}, journal.JobOwed},
		{"not ours to answer: left alone", journal.JobResult{Unanswered: true}, 0, journal.Batch{Known: 1}, journal.JobOver},
		{"not ours to answer, but to be looked at again: open", journal.JobResult{Unanswered: true, Retryable: true}, 0, journal.Batch{Reopened: 1}, journal.JobOpen},
	}
	for i, row := range rows {
		t.Run("offered again "+row.name, func(t *testing.T) {
			f := open(t)
			l := f.lead("contoso", "a")
			context := fmt.Sprint("context-", i)
			f.accept(l, context)
			f.finish(f.claimJobs(1)[0], row.result)
			if row.settle != 0 {
				f.told(f.claimReports("contoso", 1), row.settle)
				if j := f.wantJob(context, journal.JobOver); j.Result.Refused != (row.settle == journal.RefusedForGood) {
					t.Errorf("refused is %v", j.Result.Refused)
				}
			}
			f.pass(time.Minute)
			for n, want := range []journal.Batch{row.want, {Known: 1}} { // and once more
				f.wantBatch(f.accept(l, context), want)
				j := f.wantJob(context, row.state)
				switch {
				case row.state != journal.JobOpen:
					same(t, "result", j.Result, &row.result)
				case j.Result != nil || j.Attempts != 0 || !j.AcceptedAt.Equal(start):
					t.Errorf("time %d: open again as %+v", n, j)
				}
			}
			open := 0
			if row.state == journal.JobOpen {
				open = 1
			}
			f.claimJobs(open)
			f.claimReports("contoso", map[journal.JobState]int{journal.JobOwed: 1}[row.state])
		})
	}
	t.Run("a source that asks for a job of our own gets an answer", func(t *testing.T) {
		f := open(t)
		l := f.lead("contoso", "a")
		f.addJob("open", "contoso")
		f.addJob("done", "contoso")
		done := f.claimJobs(2)[1]
		f.finish(done, journal.JobResult{Succeeded: true})
		f.wantBatch(f.accept(l, "open", "done"), journal.Batch{Known: 1, Reopened: 1})
		f.wantJob("done", journal.JobOwed)
		f.pass(lease)
		f.finish(f.claimJobs(1)[0], journal.JobResult{Succeeded: true})
		f.claimReports("contoso", 2)
	})
}
