package journaltest

import (
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
)

func testReports(t *testing.T, open func(*testing.T) *fixture) {
	full := journal.JobResult{Succeeded: true, Code: 0, Text: "done", Payload: []byte("sealed"), Serial: "0A1B", CA: "issuing"}
	t.Run("a result is owed, oldest first, of one source", func(t *testing.T) {
		f := open(t)
		f.accept(f.lead("contoso", "a"), "1", "2", "3")
		f.accept(f.lead("branch", "a"), "4")
		claimed := f.claimJobs(4)
		f.pass(time.Second)
		for _, i := range []int{3, 2, 0} {
			f.finish(claimed[i], full)
		}
		list := f.claimReports("contoso", 2)
		wantContexts(t, "reports", list, "1", "3")
		same(t, "result", list[0].Result, &full)
		if list[0].Attempts != 0 || list[0].Why != "" || !list[0].UpdatedAt.Equal(f.clock()) {
			t.Errorf("owed as %+v", list[0])
		}
		f.claimReports("contoso", 0)
		f.claimReports("nowhere", 0)
		f.claimReports("branch", 1)
	})
	t.Run("a report that was taken is over, its payload gone", func(t *testing.T) {
		f := open(t)
		report := f.owed("one", full)
		f.told(report, journal.Taken)
		f.reopen()
		j := f.wantJob("one", journal.JobOver)
		want := full
		want.Payload = nil
		same(t, "result", j.Result, &want)
		f.pass(24 * time.Hour)
		f.claimReports("contoso", 0)
		f.claimJobs(0)
	})
	t.Run("a report that was refused says so", func(t *testing.T) {
		f := open(t)
		f.told(f.owed("one", full), journal.RefusedForGood)
		if j := f.wantJob("one", journal.JobOver); !j.Result.Refused || j.Result.Payload != nil {
			t.Errorf("refused as %+v", j.Result)
		}
	})
	t.Run("nobody is told what is not ours to answer, nor of our own jobs", func(t *testing.T) {
		f := open(t)
		f.addJob("own", "contoso")
		f.accept(f.lead("contoso", "a"), "foreign")
		claimed := f.claimJobs(2)
		f.finish(claimed[0], full)
		f.finish(claimed[1], journal.JobResult{Unanswered: true, Text: "another CA's", Payload: []byte("p")})
		for _, context := range []string{"own", "foreign"} {
			if j := f.wantJob(context, journal.JobOver); j.Result == nil || j.Result.Payload != nil || !j.NextAt.IsZero() {
				t.Errorf("over as %+v, result %+v", j, j.Result)
			}
		}
		f.claimReports("contoso", 0)
	})
	t.Run("a failed upload is tried again when it says", func(t *testing.T) {
		f := open(t)
		report := f.owed("one", full)
		if err := f.Journal.PostponeReports(t.Context(), report, f.clock().Add(time.Hour), "503"); err != nil {
			t.Fatal(err)
		}
		f.told(report, journal.Taken) // by a claim that has ended: no effect
		f.pass(time.Hour - 1)
		f.claimReports("contoso", 0)
		f.pass(1)
		again := f.claimReports("contoso", 1)[0]
		if again.Attempts != 1 || again.Why != "503" {
			t.Errorf("postponed report is %+v", again)
		}
		same(t, "result", again.Result, &full)
	})
	t.Run("of a batch, reports whose claim was lost are left alone", func(t *testing.T) {
		f := open(t)
		f.accept(f.lead("contoso", "a"), "1", "2")
		for _, j := range f.claimJobs(2) {
			f.finish(j, full)
		}
		old := f.claimReports("contoso", 2)
		f.pass(lease)
		taken := must(f.Journal.ClaimReports(t.Context(), "contoso", f.clock(), lease, 1))(t)
		wantContexts(t, "taken over", taken, "1")
		f.told(old, journal.Taken)
		f.wantJob("1", journal.JobOwed)
		f.wantJob("2", journal.JobOver)
		if err := f.Journal.PostponeReports(t.Context(), old, f.clock(), "late"); err != nil {
			t.Error(err)
		}
		if j := f.wantJob("1", journal.JobOwed); j.Attempts != 0 {
			t.Error("an old claim counted an attempt")
		}
		f.told(taken, journal.Taken)
		f.wantJob("1", journal.JobOver)
	})
	t.Run("a claim on a job is none on its report", func(t *testing.T) {
		f := open(t)
		f.accept(f.lead("contoso", "a"), "one")
		j := f.claimJobs(1)
		f.told(j, journal.Taken)
		f.wantJob("one", journal.JobOpen)
		f.finish(j[0], full)
		f.told(j, journal.Taken)
		f.wantJob("one", journal.JobOwed)
		f.wantStale(f.claimReports("contoso", 1)[0])
	})
}

// owed brings a job of contoso to its report, and claims that.
func (f *fixture) owed(name string, r journal.JobResult) []journal.Job {
	f.t.Helper()
	f.accept(f.lead("contoso", "a"), name)
	f.finish(f.claimJobs(1)[0], r)
	return f.claimReports("contoso", 1)
}
