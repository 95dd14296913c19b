package journaltest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
)

// oweAt records an entry of one endpoint and CA that owes one thing.
func (f *fixture) oweAt(name, endpoint, ca string, kind journal.DebtKind) journal.Entry {
	f.t.Helper()
	in := f.intent(name)
	in.Endpoint, in.CA = endpoint, ca
	_, owned := f.begin(in)
	f.advance(owned, journal.Step{To: journal.Submitted})
	to := journal.Issued
	if kind != journal.OweSuccess {
		to = journal.Failed
	}
	return f.advance(owned, journal.Step{To: to, Owe: []journal.DebtKind{kind}})
}

func testLanes(t *testing.T, f *fixture) {
	if lanes := must(f.Journal.DebtLanes(t.Context(), f.clock()))(t); len(lanes) != 0 {
		t.Errorf("an empty journal has the lanes %v", lanes)
	}
	n := 0
	for _, endpoint := range []string{"a", "b"} {
		for _, kind := range []journal.DebtKind{journal.OweSuccess, journal.OweFailure, journal.OweRevocation} {
			for range 3 {
				n++
				f.oweAt(fmt.Sprint("entry ", n), endpoint, "one CA", kind)
			}
		}
	}
	want := []journal.Lane{
		{Kind: journal.OweSuccess, Neighbour: "a"}, {Kind: journal.OweSuccess, Neighbour: "b"},
		{Kind: journal.OweFailure, Neighbour: "a"}, {Kind: journal.OweFailure, Neighbour: "b"},
		{Kind: journal.OweRevocation, Neighbour: "one CA"},
	}
	if lanes := must(f.Journal.DebtLanes(t.Context(), f.clock()))(t); !slices.Equal(lanes, want) {
		t.Fatalf("lanes %v, want %v", lanes, want)
	}
	if got := f.claimLane(want[1], time.Time{}, 10); len(got) != 3 {
		t.Errorf("claimed %d debts of a lane with 3", len(got))
	}
	if got := f.claimLane(want[4], time.Time{}, 4); len(got) != 4 {
		t.Errorf("claimed %d debts of a lane, want the limit of 4", len(got))
	}
	want = slices.Delete(want, 1, 2)
	if lanes := must(f.Journal.DebtLanes(t.Context(), f.clock()))(t); !slices.Equal(lanes, want) {
		t.Errorf("lanes with nothing left are listed: %v", lanes)
	}
}

func testFresh(t *testing.T, f *fixture) {
	f.bring("old", journal.Issued)
	f.pass(time.Minute)
	since := f.clock()
	fresh, _ := f.bring("fresh", journal.Issued)
	lane := must(f.Journal.DebtLanes(t.Context(), f.clock()))(t)[0]
	if got := f.claimLane(lane, since, 10); len(got) != 1 || got[0].Entry.ID != fresh.ID {
		t.Errorf("%d debts were claimed, want the fresh one", len(got))
	}
	if got := f.claimLane(lane, since, 10); len(got) != 0 {
		t.Errorf("%d more debts are fresh", len(got))
	}
	if got := f.claimLane(lane, time.Time{}, 10); len(got) != 1 {
		t.Errorf("%d debts are left, want the old one", len(got))
	}
}

func testBacklog(t *testing.T, f *fixture) {
	const n = 450 // more than any look takes in
	var newest journal.Entry
	for i := range n {
		newest, _ = f.bring(fmt.Sprint(i), journal.Issued)
		f.pass(time.Millisecond)
	}
	first := f.claimDebts(1)
	if len(first) != 1 || first[0].Entry.ID != newest.ID {
		t.Error("the newest success is not claimed first")
	}
	seen := map[int64]bool{}
	for range 2 * n {
		for _, d := range f.claimDebts(7) {
			if seen[d.ID] {
				t.Fatal("a debt was claimed twice")
			}
			seen[d.ID] = true
		}
	}
	if len(seen) != n-1 {
		t.Errorf("%d debts were claimed, want %d", len(seen), n-1)
	}
}

func testGiveUp(t *testing.T, f *fixture) {
	why := journal.Failure{Rule: "withheld_too_long", FailInfo: 2, HResult: -1, Text: "nobody waits"}
	giveUp := func(limit int) []journal.Debt {
		t.Helper()
		return must(f.Journal.GiveUpDebts(t.Context(), journal.GiveUp{Now: f.clock(), FailuresBefore: f.clock().Add(-24 * time.Hour), Limit: limit, Failure: why}))(t)
	}
	for i := range 5 {
		f.oweAt(fmt.Sprint("late ", i), "corp", "lab", journal.OweSuccess)
	}
	late := f.oweAt("late failure", "corp", "lab", journal.OweFailure)
	revocation := f.oweAt("revocation", "corp", "lab", journal.OweRevocation)
	if got := giveUp(10); len(got) != 0 {
		t.Fatalf("%d debts were given up early", len(got))
	}
	f.pass(24*time.Hour + time.Second)
	kept := f.oweAt("kept", "corp", "lab", journal.OweSuccess)
	f.claimDebts(0)                                                                                // looks for what is due
	held := f.claimLane(journal.Lane{Kind: journal.OweSuccess, Neighbour: "corp"}, time.Time{}, 2) // kept, and a late one
	first := giveUp(3)
	if len(first) != 3 {
		t.Fatalf("%d debts were given up, want the limit of 3", len(first))
	}
	for _, d := range append(first, giveUp(10)...) {
		e := f.entry(d.Entry.ID)
		compare(t, "entry", e, d.Entry)
		switch {
		case slices.ContainsFunc(held, func(h journal.Debt) bool { return h.ID == d.ID }):
			t.Error("a debt that a live claim holds was given up")
		case d.Kind == journal.OweSuccess && (e.State != journal.Abandoned || e.Failure == nil || *e.Failure != why || e.SealedCSR != nil):
			t.Errorf("given up entry is %v, failure %+v", e.State, e.Failure)
		case d.Kind == journal.OweFailure && (e.ID != late.ID || e.SealedCSR != nil):
			t.Errorf("failure notification of entry %d was given up, CSR wiped: %v", e.ID, e.SealedCSR == nil)
		case d.Kind == journal.OweRevocation || e.ID == kept.ID || e.ID == revocation.ID:
			t.Errorf("a %v of entry %d was given up", d.Kind, e.ID)
		}
		_, err := f.Journal.SettleDebt(t.Context(), d, journal.Settlement{Outcome: journal.Taken, Now: f.clock()})
		wantError(t, "settling what was given up", err, journal.ErrLost)
	}
	f.pass(2 * lease)
	if rest := giveUp(10); len(rest) != 1 {
		t.Errorf("%d debts were given up when their claims had ended, want one", len(rest))
	}
	want := []journal.DebtStat{{Kind: journal.OweSuccess, N: 1}, {Kind: journal.OweRevocation, N: 6}}
	for i, got := range must(f.Journal.DebtStats(t.Context()))(t) {
		if i >= len(want) || got.Kind != want[i].Kind || got.N != want[i].N {
			t.Errorf("still owed: %d of kind %v", got.N, got.Kind)
		}
	}
}

func testOwed(t *testing.T, f *fixture) {
	if stats := must(f.Journal.DebtStats(t.Context()))(t); len(stats) != 0 {
		t.Errorf("an empty journal owes %v", stats)
	}
	began := f.clock()
	var ids []int64
	for i := range 4 {
		kind := journal.OweSuccess
		if i == 2 {
			kind = journal.OweRevocation
		}
		ids = append(ids, f.oweAt(fmt.Sprint(i), "corp", "lab", kind).ID)
		f.pass(time.Second)
	}
	claimed := f.claimDebts(1)
	if _, err := f.Journal.PostponeDebt(t.Context(), claimed[0], f.clock().Add(time.Hour), "cloud is down"); err != nil {
		t.Fatal(err)
	}
	want := []journal.DebtStat{{Kind: journal.OweSuccess, N: 3, Oldest: began}, {Kind: journal.OweRevocation, N: 1, Oldest: began.Add(2 * time.Second)}}
	if got := must(f.Journal.DebtStats(t.Context()))(t); !slices.Equal(got, want) {
		t.Errorf("owed %v, want %v", got, want)
	}
	var listed []int64
	var before int64
	for {
		page := must(f.Journal.OwedDebts(t.Context(), before, 3))(t)
		if len(page) == 0 {
			break
		}
		for _, d := range page {
			listed = append(listed, d.Entry.ID)
			before = d.ID
			if want := f.entry(d.Entry.ID); d.Entry.State != want.State {
				t.Errorf("debt %d is of an entry that is %v, want %v", d.ID, d.Entry.State, want.State)
			}
			if d.ID == claimed[0].ID && (d.Attempts != 1 || d.Why != "cloud is down") {
				t.Errorf("debt has %d attempts, the last one failed as %q", d.Attempts, d.Why)
			}
		}
	}
	slices.Reverse(ids)
	if !slices.Equal(listed, ids) {
		t.Errorf("listed debts of entries %v, want %v", listed, ids)
	}
	if again := f.claimDebts(10); len(again) != 3 {
		t.Errorf("listing held debts back: %d are due, want 3", len(again))
	}
}

// testLazySettle: what a lazy settlement promises, and that it promises nothing
// for a success notification.
func testLazySettle(t *testing.T, f *fixture) {
	lazily := func(d journal.Debt) {
		t.Helper()
		if _, err := f.Journal.SettleDebt(t.Context(), d, journal.Settlement{Outcome: journal.Taken, Now: f.clock(), Lazy: true}); err != nil {
			t.Fatal(err)
		}
	}
	f.oweAt("a", "corp", "lab", journal.OweFailure)
	b := f.oweAt("b", "corp", "lab", journal.OweSuccess)
	debts := f.claimDebts(2)
	lazily(debts[1]) // the failure, which comes second
	lazily(debts[0])
	last := f.oweAt("c", "corp", "lab", journal.OweFailure)
	lazily(f.claimDebts(1)[0])
	f.powerFail()
	if got := f.entry(b.ID); got.State != journal.Released {
		t.Errorf("entry whose notification was taken is %v", got.State)
	}
	for _, d := range f.claimDebts(10) {
		if d.Entry.ID != last.ID {
			t.Errorf("the %v of entry %d is owed again although something durable came after its end", d.Kind, d.Entry.ID)
		}
	}
}
