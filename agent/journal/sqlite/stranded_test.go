package sqlite

import (
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
)

// TestClockThatWasAhead: what was written down by a clock that was a year ahead
// holds up nothing once the clock is right.
func TestClockThatWasAhead(t *testing.T) {
	j, l := accepting(t, newJournalFile(t), Options{})
	now := time.Now()
	ahead := now.AddDate(1, 0, 0)
	if _, err := j.AcceptJobs(t.Context(), l, revocations(0, 2), now); err != nil {
		t.Fatal(err)
	}
	claimed, err := j.ClaimJobs(t.Context(), journal.RevokeJob, ahead, time.Minute, 2)
	if err != nil || len(claimed) != 2 {
		t.Fatalf("%d claimed, %v", len(claimed), err)
	}
	if err := j.PostponeJob(t.Context(), claimed[0], ahead.Add(time.Hour), "the CA is down"); err != nil {
		t.Fatal(err)
	}
	again, err := j.ClaimJobs(t.Context(), journal.RevokeJob, now, time.Minute, 2)
	if err != nil || len(again) != 2 {
		t.Errorf("%d of 2 jobs are due, one postponed and one held by a clock of next year; %v", len(again), err)
	}
	if _, err := j.Lead(t.Context(), "fabrikam", "dead", ahead, 5*time.Minute); err != nil {
		t.Fatal(err)
	}
	if _, err := j.Lead(t.Context(), "fabrikam", "alive", now, 5*time.Minute); err != nil {
		t.Errorf("a lead that ends next year keeps others out: %v", err)
	}
}
