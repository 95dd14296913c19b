package journaltest

import (
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
)

func testWork(t *testing.T, open func(*testing.T) *fixture) {
	t.Run("a held entry is not due before its lease ends", func(t *testing.T) {
		f := open(t)
		e, _ := f.begin(f.intent("a"))
		f.wantClaims(0)
		_, err := f.Journal.ClaimEntry(t.Context(), e.ID, f.clock(), lease)
		wantError(t, "claim of a held entry", err, journal.ErrLost)
		f.pass(lease)
		f.wantClaims(1)
		f.wantClaims(0)
		f.pass(lease)
		f.wantClaims(1)
	})
	t.Run("a claim owns until its lease ends", func(t *testing.T) {
		f := open(t)
		_, first := f.begin(f.intent("a"))
		f.pass(lease)
		c := f.wantClaims(1)[0]
		if c.Owned.Token == first.Token {
			t.Error("token did not change with the claim")
		}
		if want := f.clock().Add(lease); !c.Entry.NextAt.Equal(want) {
			t.Errorf("claimed entry is due %v, want the end of the lease %v", c.Entry.NextAt, want)
		}
		f.advance(c.Owned, journal.Step{To: journal.Submitted})
	})
	t.Run("an entry at rest is claimed early by its ID, and in its time by anybody", func(t *testing.T) {
		for _, state := range []journal.State{journal.Verified, journal.Parked, journal.Unknown, journal.Withheld} {
			f := open(t)
			e, owned := f.bring("a", state)
			if state == journal.Verified {
				f.advance(owned, journal.Step{To: journal.Submitted})
			}
			later := f.clock().Add(time.Hour)
			f.advance(owned, journal.Step{To: state, NextAt: later})
			f.wantClaims(0)
			if _, err := f.Journal.ClaimEntry(t.Context(), e.ID, f.clock(), lease); err != nil {
				t.Errorf("%v: claim by ID: %v", state, err)
			}
			_, err := f.Journal.ClaimEntry(t.Context(), e.ID, f.clock(), lease)
			wantError(t, "second claim by ID", err, journal.ErrLost)
			f.pass(time.Hour)
			f.wantClaims(1)
		}
	})
	t.Run("an owner that goes on keeps the entry", func(t *testing.T) {
		for _, state := range []journal.State{journal.Submitted, journal.Issued} {
			f := open(t)
			e, _ := f.bring("a", state)
			_, err := f.Journal.ClaimEntry(t.Context(), e.ID, f.clock(), lease)
			wantError(t, "claim of an entry that is worked on", err, journal.ErrLost)
		}
	})
	t.Run("nothing claims a final entry", func(t *testing.T) {
		for _, state := range []journal.State{journal.Released, journal.Abandoned, journal.Failed} {
			f := open(t)
			e, _ := f.bring("a", state)
			f.pass(24 * time.Hour)
			f.wantClaims(0)
			_, err := f.Journal.ClaimEntry(t.Context(), e.ID, f.clock(), lease)
			wantError(t, "claim of a final entry", err, journal.ErrLost)
		}
	})
	t.Run("the limit holds and the longest due come first", func(t *testing.T) {
		f := open(t)
		var want []int64
		for _, name := range []string{"a", "b", "c"} {
			e, _ := f.begin(f.intent(name))
			want = append(want, e.ID)
			f.pass(time.Second)
		}
		f.pass(lease)
		list, err := f.Journal.Claim(t.Context(), f.clock(), lease, 2)
		if err != nil || len(list) != 2 || list[0].Entry.ID != want[0] || list[1].Entry.ID != want[1] {
			t.Errorf("claimed %v, error %v; want entries %v", list, err, want[:2])
		}
		f.wantClaims(1)
	})
}

// wantClaims claims what is due and fails unless it is so many entries.
func (f *fixture) wantClaims(n int) []journal.Claimed {
	f.t.Helper()
	list, err := f.Journal.Claim(f.t.Context(), f.clock(), lease, 100)
	if err != nil {
		f.t.Fatalf("claim: %v", err)
	}
	if len(list) != n {
		f.t.Fatalf("%d entries are due, want %d", len(list), n)
	}
	return list
}
