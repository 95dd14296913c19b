package journaltest

import (
	"errors"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
)

// testJobPowerFailure: what was answered is there, all of it.
func testJobPowerFailure(t *testing.T, open func(*testing.T) *fixture) {
	if open(t).h.PowerFail == nil {
		t.Skip("this store cannot be made to suffer a power failure")
	}
	t.Run("a batch, and who was asked when", func(t *testing.T) {
		f := open(t)
		l := f.lead("contoso", "a")
		f.poll(l, nil)
		f.accept(l, names(50)...)
		f.powerFail()
		f.wantLed("contoso", "b")
		if again := f.lead("contoso", "a"); !again.LastPoll.Equal(start) {
			t.Errorf("last poll is %v", again.LastPoll)
		}
		wantContexts(t, "open", f.claimJobs(50), names(50)...)
	})
	t.Run("work, results, reports, pauses and imports", func(t *testing.T) {
		f := open(t)
		f.accept(f.lead("contoso", "a"), "saved", "owed", "over", "later")
		claimed := f.claimJobs(4)
		if err := f.Journal.SaveJob(t.Context(), claimed[0], []byte("work")); err != nil {
			t.Fatal(err)
		}
		f.finish(claimed[2], journal.JobResult{Succeeded: true})
		f.told(f.claimReports("contoso", 1), journal.Taken)
		if err := f.Journal.PostponeJob(t.Context(), claimed[3], f.clock().Add(time.Hour), "later"); err != nil {
			t.Fatal(err)
		}
		must(f.Journal.ImportIssued(t.Context(), []journal.ImportedCertificate{{Tenant: "contoso", CA: "issuing", Serial: "0A"}}, f.clock()))(t)
		f.addJob("own", "contoso")
		f.pause("contoso", "too many")
		f.finish(claimed[1], journal.JobResult{Succeeded: true, Payload: []byte("sealed")})
		f.powerFail()
		f.claimJobs(0)
		f.resume("contoso")
		f.powerFail()
		list := f.claimJobs(2)
		wantContexts(t, "open", list, "saved", "own")
		if string(list[0].Work) != "work" {
			t.Errorf("work is %q", list[0].Work)
		}
		report := f.claimReports("contoso", 1)
		wantContexts(t, "owed", report, "owed")
		if string(report[0].Result.Payload) != "sealed" {
			t.Error("the payload is gone")
		}
		f.wantJob("over", journal.JobOver)
		if got := must(f.Journal.Imported(t.Context(), "issuing", "0A"))(t); len(got) != 1 {
			t.Errorf("imported for %v", got)
		}
	})
}

// testLastStep cuts the power right after each step: no later one takes it
// along to the disk.
func testLastStep(t *testing.T, open func(*testing.T) *fixture) {
	if open(t).h.PowerFail == nil {
		t.Skip("this store cannot be made to suffer a power failure")
	}
	succeeded := journal.JobResult{Succeeded: true}
	rows := []struct {
		name string
		step func(f *fixture, job journal.Job) error
		kept func(f *fixture, job journal.Job, s journal.Source) bool
	}{
		{"saved work", func(f *fixture, j journal.Job) error {
			return f.Journal.SaveJob(f.t.Context(), j, []byte("work"))
		}, func(_ *fixture, j journal.Job, _ journal.Source) bool { return string(j.Work) == "work" }},
		{"a failed attempt", func(f *fixture, j journal.Job) error {
			return f.Journal.PostponeJob(f.t.Context(), j, f.clock(), "why")
		}, func(_ *fixture, j journal.Job, _ journal.Source) bool { return j.Attempts == 1 }},
		{"a result", func(f *fixture, j journal.Job) error {
			return f.Journal.FinishJob(f.t.Context(), j, succeeded, f.clock())
		}, func(_ *fixture, j journal.Job, _ journal.Source) bool { return j.State == journal.JobOwed }},
		{"a report", func(f *fixture, j journal.Job) error {
			f.finish(j, succeeded)
			return f.Journal.SettleReports(f.t.Context(), f.claimReports("contoso", 1), journal.Taken, f.clock())
		}, func(_ *fixture, j journal.Job, _ journal.Source) bool { return j.State == journal.JobOver }},
		{"a failed upload", func(f *fixture, j journal.Job) error {
			f.finish(j, succeeded)
			return f.Journal.PostponeReports(f.t.Context(), f.claimReports("contoso", 1), f.clock(), "why")
		}, func(_ *fixture, j journal.Job, _ journal.Source) bool { return j.Attempts == 1 }},
		{"a job of our own", func(f *fixture, _ journal.Job) error {
			return f.Journal.AddJob(f.t.Context(), newJob("own"), "contoso", f.clock())
		}, func(_ *fixture, _ journal.Job, s journal.Source) bool { return s.Open == 2 }},
		{"a poll", func(f *fixture, _ journal.Job) error {
			f.pass(time.Second)
			return f.Journal.RecordPoll(f.t.Context(), f.lead("contoso", "a"), f.clock())
		}, func(f *fixture, _ journal.Job, s journal.Source) bool { return s.LastPoll.Equal(f.clock()) }},
		{"a pause", func(f *fixture, _ journal.Job) error {
			return f.Journal.PauseSource(f.t.Context(), "contoso", "why", f.clock())
		}, func(_ *fixture, _ journal.Job, s journal.Source) bool { return s.PausedWhy == "why" }},
		{"the end of a pause", func(f *fixture, _ journal.Job) error {
			f.pause("contoso", "why")
			return f.Journal.ResumeSource(f.t.Context(), "contoso", f.clock())
		}, func(_ *fixture, _ journal.Job, s journal.Source) bool {
			return s.PausedWhy == "" && !s.ResumedAt.IsZero()
		}},
		{"an import", func(f *fixture, _ journal.Job) error {
			_, err := f.Journal.ImportIssued(f.t.Context(), []journal.ImportedCertificate{{Tenant: "contoso"}}, f.clock())
			return err
		}, func(f *fixture, _ journal.Job, _ journal.Source) bool {
			return len(must(f.Journal.Imported(f.t.Context(), "", ""))(f.t)) == 1
		}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			f := open(t)
			f.accept(f.lead("contoso", "a"), "one")
			job := f.claimJobs(1)[0]
			if err := row.step(f, job); err != nil {
				t.Fatal(err)
			}
			f.powerFail()
			sources := must(f.Journal.Sources(t.Context()))(t)
			job = must(f.Journal.Job(t.Context(), job.ID))(t)
			if !row.kept(f, job, sources[0]) {
				t.Errorf("it is gone: job %+v, source %+v", job, sources[0])
			}
		})
	}
}

// testBrokenBatch: a batch whose write broke is there as a whole or not at all.
func testBrokenBatch(t *testing.T, open func(*testing.T) *fixture) {
	if open(t).h.BreakNextWrite == nil {
		t.Skip("this store's writes cannot be broken")
	}
	for name, persisted := range map[string]bool{"a batch that failed": false, "a batch that was recorded but reported as failed": true} {
		t.Run(name, func(t *testing.T) {
			f := open(t)
			l := f.lead("contoso", "a")
			f.accept(l, "kept")
			f.h.BreakNextWrite(t, persisted)
			b, err := f.Journal.AcceptJobs(t.Context(), l, []journal.NewJob{newJob("1"), newJob("2"), newJob("3")}, f.clock())
			if err == nil || errors.Is(err, journal.ErrLost) || b != (journal.Batch{}) {
				t.Fatalf("broken batch: %+v, error %v", b, err)
			}
			f.Journal.Close() // may say once more why it is dead
			f.Store = f.h.Open(t)
			if n := len(f.jobs()); n != 1 && n != 4 {
				t.Fatalf("%d jobs are recorded, want the one from before, or all", n)
			}
			b = f.accept(f.lead("contoso", "a"), "1", "2", "3")
			if b.New+b.Known != 3 || b.New%3 != 0 {
				t.Errorf("the second time: %+v", b)
			}
			f.claimJobs(4)
		})
	}
}
