package journaltest

import (
	"slices"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
)

func (f *fixture) pause(source, why string) {
	f.t.Helper()
	if err := f.Journal.PauseSource(f.t.Context(), source, why, f.clock()); err != nil {
		f.t.Fatalf("pausing: %v", err)
	}
}

func (f *fixture) resume(source string) {
	f.t.Helper()
	if err := f.Journal.ResumeSource(f.t.Context(), source, f.clock()); err != nil {
		f.t.Fatalf("resuming: %v", err)
	}
}

func (f *fixture) wantSources(want ...journal.Source) {
	f.t.Helper()
	same(f.t, "sources", must(f.Journal.Sources(f.t.Context()))(f.t), want)
}

func testSources(t *testing.T, open func(*testing.T) *fixture) {
	t.Run("there is none before the first", func(t *testing.T) { open(t).wantSources() })
	t.Run("sources by turns", func(t *testing.T) {
		f := open(t)
		f.accept(f.lead("contoso", "a"), "1", "2", "3", "4", "5", "6")
		f.accept(f.lead("branch", "a"), "7", "8", "9")
		one := func() []journal.Job {
			return must(f.Journal.ClaimJobs(t.Context(), journal.RevokeJob, f.clock(), lease, 1))(t)
		}
		wantContexts(t, "first claim", one(), "1")
		wantContexts(t, "second claim", one(), "7")
		wantContexts(t, "third claim", one(), "2")
		list := must(f.Journal.ClaimJobs(t.Context(), journal.RevokeJob, f.clock(), lease, 3))(t)
		wantContexts(t, "claim of three", list, "3", "8", "9")
		wantContexts(t, "the rest", f.claimJobs(3), "4", "5", "6")
	})
	t.Run("how they stand, by name", func(t *testing.T) {
		f := open(t)
		l := f.lead("contoso", "a")
		f.poll(l, nil)
		f.accept(l, "1")
		f.pass(time.Minute)
		f.accept(l, "2", "3")
		f.pass(time.Minute)
		f.addJob("own", "branch")
		f.finish(f.claimJobs(4)[2], journal.JobResult{Succeeded: true})
		contoso := journal.Source{Name: "contoso", Owner: "a", Until: l.Until, LastPoll: start,
			Open: 2, OldestOpen: start, Owed: 1, OldestOwed: start.Add(2 * time.Minute)}
		branch := journal.Source{Name: "branch", Open: 1, OldestOpen: start.Add(2 * time.Minute)}
		f.wantSources(branch, contoso)
		f.pass(term)
		contoso.Owner, contoso.Until = "", time.Time{}
		f.wantSources(branch, contoso)
		f.pause("contoso", "too many")
		contoso.PausedAt, contoso.PausedWhy = f.clock(), "too many"
		f.pass(time.Second)
		f.pause("contoso", "and more") // the first one counts
		f.reopen()
		f.wantSources(branch, contoso)
		f.resume("contoso")
		contoso.PausedAt, contoso.PausedWhy, contoso.ResumedAt = time.Time{}, "", f.clock()
		f.pass(time.Second)
		f.resume("contoso")
		f.resume("nowhere")
		f.reopen()
		f.wantSources(branch, contoso)
	})
	t.Run("a paused source rests, its reports do not", func(t *testing.T) {
		f := open(t)
		l := f.lead("contoso", "a")
		f.accept(l, "1", "2")
		f.accept(f.lead("branch", "a"), "3")
		one := f.claimJobs(3)[0]
		f.pause("contoso", "too many")
		f.finish(one, journal.JobResult{Succeeded: true}) // begun before, so it ends
		f.claimReports("contoso", 1)
		f.pass(lease)
		f.wantBatch(f.accept(l, "4"), journal.Batch{New: 1})
		wantContexts(t, "while it is paused", f.claimJobs(1), "3")
		f.reopen()
		wantContexts(t, "after a restart", f.claimJobs(1), "3")
		f.resume("contoso")
		wantContexts(t, "when it goes on", f.claimJobs(2), "2", "4")
	})
	t.Run("what succeeded is counted", func(t *testing.T) {
		f := open(t)
		f.accept(f.lead("contoso", "a"), "1", "2", "3", "4", "5")
		f.accept(f.lead("branch", "a"), "6")
		for i, j := range f.claimJobs(6) {
			f.finish(j, journal.JobResult{Succeeded: i != 1})
			f.pass(time.Minute)
		}
		f.told(f.claimReports("contoso", 5)[:1], journal.Taken)
		for _, row := range []struct {
			since time.Duration
			kind  journal.JobKind
			want  int
		}{
			{0, journal.RevokeJob, 4}, {1, journal.RevokeJob, 3}, {2 * time.Minute, journal.RevokeJob, 3},
			{4 * time.Minute, journal.RevokeJob, 1}, {4*time.Minute + 1, journal.RevokeJob, 0}, {0, journal.IssueJob, 0},
		} {
			if n := must(f.Journal.FinishedJobs(t.Context(), "contoso", row.kind, start.Add(row.since)))(t); n != row.want {
				t.Errorf("%d %v jobs since %v, want %d", n, row.kind, row.since, row.want)
			}
		}
		if n := must(f.Journal.FinishedJobs(t.Context(), "nowhere", journal.RevokeJob, start))(t); n != 0 {
			t.Errorf("%d jobs of a source that is not there", n)
		}
	})
}

func testImported(t *testing.T, open func(*testing.T) *fixture) {
	f := open(t)
	list := []journal.ImportedCertificate{
		{Tenant: "contoso", CA: "issuing", Serial: "0A"},
		{Tenant: "fabrikam", CA: "issuing", Serial: "0A"},
		{Tenant: "contoso", CA: "other", Serial: "0A"},
		{Tenant: "contoso", CA: "issuing", Serial: "0A"},
	}
	for i, want := range []int{3, 0} {
		if n := must(f.Journal.ImportIssued(t.Context(), list, f.clock()))(t); n != want {
			t.Errorf("time %d: %d new, want %d", i+1, n, want)
		}
		f.reopen()
	}
	for _, row := range []struct {
		ca, serial string
		want       []string
	}{
		{"issuing", "0A", []string{"contoso", "fabrikam"}}, {"other", "0A", []string{"contoso"}}, {"issuing", "0B", nil}, {"", "", nil},
	} {
		if got := must(f.Journal.Imported(t.Context(), row.ca, row.serial))(t); !slices.Equal(got, row.want) {
			t.Errorf("%s %s was imported for %v, want %v", row.ca, row.serial, got, row.want)
		}
	}
}
