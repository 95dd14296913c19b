package sqlite

import (
	"errors"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
)

// TestClaimOfAnEntryThatWasRolledBack: the token of a lazy claim that went with
// somebody else's failed transaction is never given again.
func TestClaimOfAnEntryThatWasRolledBack(t *testing.T) {
	path, d := newJournalFile(t), newDisk(t, 0)
	j, l := accepting(t, path, Options{fileLayer: d.name, lazyFor: tillDurable})
	now := time.Now()
	e, _, err := j.Begin(t.Context(), journal.Intent{Endpoint: "corp", TransactionID: "1", Now: now, Lease: time.Minute, GiveUp: now.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	later := now.Add(2 * time.Minute) // Begin's own lease is over
	lost, err := j.ClaimEntry(t.Context(), e.ID, later, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	d.mu.Lock()
	d.fault = noSpace
	d.mu.Unlock()
	if _, err := j.AcceptJobs(t.Context(), l, revocations(1, 1), now); err == nil {
		t.Fatal("a full disk took a batch")
	}
	next, err := j.ClaimEntry(t.Context(), e.ID, later, time.Minute)
	if err != nil {
		t.Fatalf("the claim was rolled back, yet the entry is held: %v", err)
	}
	step := journal.Step{To: journal.Submitted, Now: later, NextAt: later.Add(time.Minute)}
	if _, err := j.Advance(t.Context(), lost.Owned, step); !errors.Is(err, journal.ErrLost) {
		t.Errorf("a step by the claim that was rolled back: %v", err)
	}
	if _, err := j.Advance(t.Context(), next.Owned, step); err != nil {
		t.Errorf("a step by the one after it: %v", err)
	}
}

// TestClaimOfADebtThatWasRolledBack is the same of what is owed.
func TestClaimOfADebtThatWasRolledBack(t *testing.T) {
	path, d := newJournalFile(t), newDisk(t, 0)
	j, l := accepting(t, path, Options{fileLayer: d.name, lazyFor: tillDurable})
	now := time.Now()
	e, _, err := j.Begin(t.Context(), journal.Intent{
		Endpoint: "corp", TransactionID: "1", Now: now, Lease: time.Minute, GiveUp: now.Add(time.Hour), Notify: true,
		Refused: &journal.Failure{Rule: "key_type", Text: "a weak key"},
	})
	if err != nil {
		t.Fatal(err)
	}
	claim := func() journal.Debt {
		t.Helper()
		list, err := j.ClaimDebtsOf(t.Context(), e.ID, journal.OweFailure, now, time.Minute)
		if err != nil || len(list) != 1 {
			t.Fatalf("%d claimed, error %v", len(list), err)
		}
		return list[0]
	}
	lost := claim()
	d.mu.Lock()
	d.fault = noSpace
	d.mu.Unlock()
	if _, err := j.AcceptJobs(t.Context(), l, revocations(1, 1), now); err == nil {
		t.Fatal("a full disk took a batch")
	}
	next := claim()
	if _, err := j.SettleDebt(t.Context(), lost, journal.Settlement{Outcome: journal.Taken, Now: now}); !errors.Is(err, journal.ErrLost) {
		t.Errorf("settling by the claim that was rolled back: %v", err)
	}
	if _, err := j.SettleDebt(t.Context(), next, journal.Settlement{Outcome: journal.Taken, Now: now}); err != nil {
		t.Errorf("settling by the one after it: %v", err)
	}
}
