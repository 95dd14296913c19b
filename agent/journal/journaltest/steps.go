package journaltest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/certconnector/certconnector/agent/journal"
)

// allStates are the states in their order.
func allStates() []journal.State {
	var list []journal.State
	for s := journal.Verified; s <= journal.Failed; s++ {
		list = append(list, s)
	}
	return list
}

// testSteps tries every step from every state: exactly those of From succeed.
func testSteps(t *testing.T, open func(*testing.T) *fixture) {
	for _, from := range allStates() {
		t.Run("from "+from.String(), func(t *testing.T) {
			f := open(t)
			for _, to := range allStates() {
				e, owned := f.bring(fmt.Sprintf("%v-%v", from, to), from)
				if e.State != from {
					t.Fatalf("entry is %v", e.State)
				}
				f.pass(1)
				got, err := f.Journal.Advance(t.Context(), owned, journal.Step{To: to, Now: f.clock()})
				if !slices.Contains(to.From(), from) {
					wantError(t, "to "+to.String(), err, journal.ErrLost)
					compare(t, "entry after a step that was refused", f.entry(e.ID), e)
					continue
				}
				if err != nil || got.State != to {
					t.Errorf("to %v: entry is %v, error %v", to, got.State, err)
				}
				if got.State.Final() != got.NextAt.IsZero() {
					t.Errorf("to %v: due %v", to, got.NextAt)
				}
				compare(t, "entry after the step", f.entry(e.ID), got)
			}
		})
	}
	t.Run("an older owner's step is lost", func(t *testing.T) {
		f := open(t)
		e, first := f.bring("a", journal.Submitted)
		f.pass(2 * lease)
		second, err := f.Journal.ClaimEntry(t.Context(), e.ID, f.clock(), lease)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.Journal.Advance(t.Context(), first, journal.Step{To: journal.Unknown, Now: f.clock()})
		wantError(t, "older owner", err, journal.ErrLost)
		f.advance(second.Owned, journal.Step{To: journal.Unknown})
	})
	t.Run("a step of an entry that is not there is lost", func(t *testing.T) {
		f := open(t)
		_, err := f.Journal.Advance(t.Context(), &journal.Owned{Entry: 4711, Token: 1}, journal.Step{To: journal.Submitted, Now: f.clock()})
		wantError(t, "advance", err, journal.ErrLost)
	})
	t.Run("a final step drops the success notification and wipes the CSR", func(t *testing.T) {
		for _, to := range []journal.State{journal.Released, journal.Abandoned, journal.Failed} {
			f := open(t)
			e, owned := f.bring("a", journal.Issued)
			if e.SealedCSR == nil {
				t.Fatal("CSR was wiped while its notification is owed")
			}
			if got := f.advance(owned, journal.Step{To: to, Owe: []journal.DebtKind{journal.OweRevocation}}); got.SealedCSR != nil {
				t.Errorf("%v: step returned a sealed CSR", to)
			}
			if f.entry(e.ID).SealedCSR != nil {
				t.Errorf("%v: sealed CSR is still there", to)
			}
			debts := f.claimDebts(10)
			if len(debts) != 1 || debts[0].Kind != journal.OweRevocation {
				t.Errorf("%v: debts %v, want the revocation only", to, kinds(debts))
			}
		}
	})
	t.Run("a final step that owes a failure notification keeps the CSR for it", func(t *testing.T) {
		f := open(t)
		e, owned := f.bring("a", journal.Submitted)
		f.advance(owned, journal.Step{To: journal.Failed, Owe: []journal.DebtKind{journal.OweFailure}})
		if f.entry(e.ID).SealedCSR == nil {
			t.Error("CSR was wiped although the notification needs it")
		}
	})
}
