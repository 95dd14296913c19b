package sqlite

import (
	"fmt"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
)

func mustOpen(t *testing.T) *Journal {
	t.Helper()
	j, err := Open(newJournalFile(t), Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

// TestLargeBatch: a batch of the largest size is one transaction, and quick.
func TestLargeBatch(t *testing.T) {
	j, now := mustOpen(t), time.Now()
	l, err := j.Lead(t.Context(), "contoso", "a", now, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	jobs := make([]journal.NewJob, 500)
	for i := range jobs {
		jobs[i] = journal.NewJob{Kind: journal.RevokeJob, Context: fmt.Sprint("context-", i), Content: make([]byte, 300), Summary: "serial"}
	}
	before := j.commits.Load()
	began := time.Now()
	b, err := j.AcceptJobs(t.Context(), l, jobs, now)
	if took := time.Since(began); took > 500*time.Millisecond {
		t.Errorf("500 jobs took %v", took)
	} else {
		t.Logf("500 jobs took %v", took)
	}
	if err != nil || b != (journal.Batch{New: 500}) {
		t.Fatalf("accepted %+v, error %v", b, err)
	}
	if n := j.commits.Load() - before; n != 1 {
		t.Errorf("a batch took %d transactions", n)
	}
	list, err := j.ClaimJobs(t.Context(), journal.RevokeJob, now, time.Minute, 100)
	if err != nil || len(list) != 100 || list[0].Context != "context-0" || list[99].Context != "context-99" {
		t.Fatalf("%d claimed, error %v", len(list), err)
	}
	if err := j.FinishJob(t.Context(), list[0], journal.JobResult{Succeeded: true, Payload: []byte("p")}, now); err != nil {
		t.Fatal(err)
	}
	owed, err := j.ClaimReports(t.Context(), "contoso", now, time.Minute, 10)
	if err != nil || len(owed) != 1 || string(owed[0].Result.Payload) != "p" {
		t.Fatalf("%+v, error %v", owed, err)
	}
	if err := j.SettleReports(t.Context(), owed, journal.Taken, now); err != nil {
		t.Fatal(err)
	}
	s, err := j.Sources(t.Context())
	if err != nil || len(s) != 1 || s[0].Open != 499 || s[0].Owed != 0 {
		t.Fatalf("%+v, error %v", s, err)
	}
}
