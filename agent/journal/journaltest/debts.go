package journaltest

import (
	"slices"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
)

func testDebts(t *testing.T, open func(*testing.T) *fixture) {
	t.Run("the most urgent come first", func(t *testing.T) { testUrgency(t, open(t)) })
	t.Run("a claimed debt is kept from others until its lease ends", func(t *testing.T) { testDebtLease(t, open(t)) })
	t.Run("the inline attempt takes a debt that is not due", func(t *testing.T) { testInline(t, open(t)) })
	t.Run("a postponed debt comes again and withholds", func(t *testing.T) { testPostpone(t, open(t)) })
	t.Run("how debts end", func(t *testing.T) { testSettle(t, open) })
	t.Run("each neighbour has a lane of its own", func(t *testing.T) { testLanes(t, open(t)) })
	t.Run("a lane can be asked for fresh successes only", func(t *testing.T) { testFresh(t, open(t)) })
	t.Run("a long backlog becomes due in portions", func(t *testing.T) { testBacklog(t, open(t)) })
	t.Run("what nobody waits for is given up in bulk", func(t *testing.T) { testGiveUp(t, open(t)) })
	t.Run("what is owed can be counted and listed", func(t *testing.T) { testOwed(t, open(t)) })
}

// claimDebts claims what is due, lane by lane, successes first.
func (f *fixture) claimDebts(limit int) []journal.Debt {
	f.t.Helper()
	var list []journal.Debt
	for _, lane := range must(f.Journal.DebtLanes(f.t.Context(), f.clock()))(f.t) {
		list = append(list, f.claimLane(lane, time.Time{}, limit-len(list))...)
	}
	return list
}

func (f *fixture) claimLane(lane journal.Lane, since time.Time, limit int) []journal.Debt {
	f.t.Helper()
	list, err := f.Journal.ClaimDebts(f.t.Context(), journal.DebtClaim{Lane: lane, Since: since, Now: f.clock(), Lease: lease, Limit: limit})
	if err != nil {
		f.t.Fatalf("claim debts: %v", err)
	}
	for _, d := range list {
		if d.Lane() != lane {
			f.t.Errorf("lane %v gave a debt of lane %v", lane, d.Lane())
		}
	}
	return list
}

func kinds(debts []journal.Debt) []journal.DebtKind {
	var list []journal.DebtKind
	for _, d := range debts {
		list = append(list, d.Kind)
	}
	return list
}

func testUrgency(t *testing.T, f *fixture) {
	var want []int64
	fail := func(name string) {
		e, owned := f.bring(name, journal.Submitted)
		f.advance(owned, journal.Step{To: journal.Failed, Owe: []journal.DebtKind{journal.OweFailure}})
		want = append(want, e.ID)
	}
	succeed := func(name string) {
		e, _ := f.bring(name, journal.Issued)
		want = slices.Insert(want, 0, e.ID)
	}
	fail("a")
	f.pass(time.Second)
	succeed("b")
	f.pass(time.Second)
	fail("c")
	f.pass(time.Second)
	succeed("d") // wanted: d, b, a, c
	for len(want) > 0 {
		n := min(3, len(want))
		got := f.claimDebts(n)
		if len(got) != n {
			t.Fatalf("claimed %d debts, want %d", len(got), n)
		}
		for i, d := range got {
			if d.Entry.ID != want[i] {
				t.Errorf("debt %d is of entry %d, want entry %d", i, d.Entry.ID, want[i])
			}
		}
		want = want[n:]
	}
	if rest := f.claimDebts(10); len(rest) != 0 {
		t.Errorf("%d debts were claimed twice", len(rest))
	}
}

func testDebtLease(t *testing.T, f *fixture) {
	since := f.clock()
	e, _ := f.bring("a", journal.Issued)
	first := f.claimDebts(1)[0]
	compare(t, "the debt's entry", first.Entry, e)
	if first.Attempts != 0 || !first.Since.Equal(since) {
		t.Errorf("debt has %d attempts since %v", first.Attempts, first.Since)
	}
	inline, err := f.Journal.ClaimDebtsOf(t.Context(), e.ID, journal.OweSuccess, f.clock(), lease)
	if err != nil || len(inline) != 0 {
		t.Errorf("inline attempt took %d held debts, error %v", len(inline), err)
	}
	f.pass(lease)
	second := f.claimDebts(1)[0]
	if second.ID != first.ID || second.Token == first.Token {
		t.Errorf("second claim: debt %d, token %d; first: debt %d, token %d", second.ID, second.Token, first.ID, first.Token)
	}
	_, err = f.Journal.SettleDebt(t.Context(), first, journal.Settlement{Outcome: journal.Taken, Now: f.clock()})
	wantError(t, "settling by the older claim", err, journal.ErrLost)
	_, err = f.Journal.PostponeDebt(t.Context(), first, f.clock(), "too late")
	wantError(t, "postponing by the older claim", err, journal.ErrLost)
	if _, err = f.Journal.SettleDebt(t.Context(), second, journal.Settlement{Outcome: journal.Taken, Now: f.clock()}); err != nil {
		t.Errorf("settling by the newer claim: %v", err)
	}
}

func testInline(t *testing.T, f *fixture) {
	e, owned := f.bring("a", journal.Submitted)
	f.advance(owned, journal.Step{To: journal.Issued, Owe: []journal.DebtKind{journal.OweSuccess}, OweAt: f.clock().Add(lease)})
	if early := f.claimDebts(10); len(early) != 0 {
		t.Fatalf("outbox took %d debts before their time", len(early))
	}
	other, err := f.Journal.ClaimDebtsOf(t.Context(), e.ID, journal.OweRevocation, f.clock(), lease)
	if err != nil || len(other) != 0 {
		t.Errorf("took %d debts of another kind, error %v", len(other), err)
	}
	got, err := f.Journal.ClaimDebtsOf(t.Context(), e.ID, journal.OweSuccess, f.clock(), lease)
	if err != nil || len(got) != 1 {
		t.Fatalf("took %d debts, error %v; want 1", len(got), err)
	}
	if again, err := f.Journal.ClaimDebtsOf(t.Context(), e.ID, journal.OweSuccess, f.clock(), lease); err != nil || len(again) != 0 {
		t.Errorf("took %d debts that are held, error %v", len(again), err)
	}
	f.pass(lease)
	if due := f.claimDebts(10); len(due) != 1 {
		t.Errorf("outbox got %d debts after the lease, want 1", len(due))
	}
}

func testPostpone(t *testing.T, f *fixture) {
	e, _ := f.bring("a", journal.Issued)
	for attempt := 1; attempt <= 2; attempt++ {
		d := f.claimDebts(1)[0]
		got, err := f.Journal.PostponeDebt(t.Context(), d, f.clock().Add(time.Hour), "cloud is down")
		if err != nil || got.State != journal.Withheld {
			t.Fatalf("attempt %d: entry is %v, error %v; want withheld", attempt, got.State, err)
		}
		compare(t, "entry", f.entry(e.ID), got)
		if early := f.claimDebts(1); len(early) != 0 {
			t.Fatal("a postponed debt was handed out before its time")
		}
		_, err = f.Journal.PostponeDebt(t.Context(), d, f.clock(), "again")
		if attempt > 1 {
			wantError(t, "postponing by a claim that ended", err, journal.ErrLost)
		}
		f.pass(time.Hour)
		if attempt == 1 && err == nil {
			t.Error("a claim was used for two attempts")
		}
	}
	d := f.claimDebts(1)[0]
	if d.Attempts != 2 || !d.Since.Equal(start) {
		t.Errorf("debt has %d attempts since %v, want 2 since %v", d.Attempts, d.Since, start)
	}
	e2, owned := f.bring("b", journal.Submitted)
	f.advance(owned, journal.Step{To: journal.Failed, Owe: []journal.DebtKind{journal.OweFailure}})
	got, err := f.Journal.PostponeDebt(t.Context(), f.claimDebts(1)[0], f.clock().Add(time.Hour), "cloud is down")
	if err != nil || got.ID != e2.ID || got.State != journal.Failed {
		t.Errorf("postponing a failure notification: entry %d is %v, error %v", got.ID, got.State, err)
	}
}

// testSettle is the table of SettleDebt's comment.
func testSettle(t *testing.T, open func(*testing.T) *fixture) {
	why := &journal.Failure{Rule: "notify_refused", FailInfo: 2, HResult: -5, Text: "the cloud said no"}
	rows := []struct {
		name    string
		from    journal.State
		kind    journal.DebtKind
		outcome journal.DebtOutcome
		want    journal.State
		owes    []journal.DebtKind
		fails   bool
	}{
		{"a success that was taken releases", journal.Issued, journal.OweSuccess, journal.Taken, journal.Released, nil, false},
		{"a success that was taken releases what was withheld", journal.Withheld, journal.OweSuccess, journal.Taken, journal.Released, nil, false},
		{"a success refused for good fails and owes the revocation", journal.Issued, journal.OweSuccess, journal.RefusedForGood, journal.Failed, []journal.DebtKind{journal.OweRevocation}, true},
		{"a success given up abandons and owes the revocation", journal.Withheld, journal.OweSuccess, journal.GivenUp, journal.Abandoned, []journal.DebtKind{journal.OweRevocation}, true},
		{"a failure that was taken ends", journal.Failed, journal.OweFailure, journal.Taken, journal.Failed, nil, false},
		{"a failure refused for good ends", journal.Failed, journal.OweFailure, journal.RefusedForGood, journal.Failed, nil, false},
		{"a failure given up ends", journal.Failed, journal.OweFailure, journal.GivenUp, journal.Failed, nil, false},
		{"a revocation that was made ends", journal.Failed, journal.OweRevocation, journal.Taken, journal.Failed, nil, false},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			f := open(t)
			var e journal.Entry
			if row.kind == journal.OweSuccess {
				e, _ = f.bring("a", row.from)
			} else {
				var owned *journal.Owned
				e, owned = f.bring("a", journal.Submitted)
				f.advance(owned, journal.Step{To: row.from, Owe: []journal.DebtKind{row.kind}})
			}
			d := f.claimDebts(1)[0]
			f.pass(time.Second)
			how := journal.Settlement{Outcome: row.outcome, Now: f.clock()}
			if row.fails {
				how.Failure = why
			}
			got, err := f.Journal.SettleDebt(t.Context(), d, how)
			if err != nil || got.State != row.want {
				t.Fatalf("entry is %v, error %v; want %v", got.State, err, row.want)
			}
			if got.SealedCSR != nil || !got.NextAt.IsZero() {
				t.Errorf("settled entry has a CSR (%v) or is due (%v)", got.SealedCSR != nil, got.NextAt)
			}
			if row.fails != (got.Failure != nil && *got.Failure == *why) {
				t.Errorf("failure is %+v", got.Failure)
			}
			compare(t, "entry", f.entry(e.ID), got)
			_, err = f.Journal.SettleDebt(t.Context(), d, how)
			wantError(t, "settling again", err, journal.ErrLost)
			f.pass(24 * time.Hour)
			if rest := kinds(f.claimDebts(10)); !slices.Equal(rest, row.owes) {
				t.Errorf("still owed: %v, want %v", rest, row.owes)
			}
		})
	}
}
