package journaltest

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/ca"
)

func testRestart(t *testing.T, open func(*testing.T) *fixture) {
	t.Run("everything is there again, what was held is due at once", func(t *testing.T) {
		f := open(t)
		var open []int64
		for _, state := range allStates() {
			e, _ := f.bring(state.String(), state)
			if !state.Final() && state != journal.Withheld && state != journal.Parked && state != journal.Unknown {
				open = append(open, e.ID)
			}
		}
		before := must(f.Journal.List(t.Context(), journal.Query{}))(t)
		held := f.claimDebts(10)
		f.pass(time.Second)
		f.reopen()
		for _, want := range before {
			got := f.entry(want.ID)
			got.NextAt = want.NextAt
			compare(t, "entry after a restart", got, want)
		}
		var due []int64
		for _, c := range f.wantClaims(len(open)) {
			due = append(due, c.Entry.ID)
		}
		slices.Sort(due)
		if !slices.Equal(due, open) {
			t.Errorf("due after a restart: %v, want %v", due, open)
		}
		if again := f.claimDebts(10); len(again) != len(held) {
			t.Errorf("%d debts are due after a restart, want %d", len(again), len(held))
		}
		_, err := f.Journal.SettleDebt(t.Context(), held[0], journal.Settlement{Outcome: journal.Taken, Now: f.clock()})
		wantError(t, "settling by a claim from before the restart", err, journal.ErrLost)
	})
	t.Run("what rests until later rests on", func(t *testing.T) {
		f := open(t)
		_, owned := f.bring("a", journal.Submitted)
		f.advance(owned, journal.Step{To: journal.Parked, NextAt: f.clock().Add(time.Hour)})
		f.reopen()
		f.wantClaims(0)
		f.pass(time.Hour)
		f.wantClaims(1)
	})
	t.Run("an owner from before is lost", func(t *testing.T) {
		f := open(t)
		_, owned := f.begin(f.intent("a"))
		f.reopen()
		f.wantClaims(1)
		_, err := f.Journal.Advance(t.Context(), owned, journal.Step{To: journal.Submitted, Now: f.clock()})
		wantError(t, "advance", err, journal.ErrLost)
	})
	t.Run("lazy steps survive an orderly restart", func(t *testing.T) {
		f := open(t)
		in := f.intent("a")
		in.Lazy = true
		e, owned := f.begin(in)
		f.advance(owned, journal.Step{To: journal.Submitted, Lazy: true})
		c := f.registered(1)
		f.add(c)
		f.reopen()
		if got := f.entry(e.ID); got.State != journal.Submitted {
			t.Errorf("entry is %v", got.State)
		}
		wantCertificate(t, must(f.Register.Certificate(t.Context(), "lab", c.Serial))(t), c)
	})
}

// testPowerFailure cuts the power in the middle of work that mixes lazy and
// durable steps, and looks at what is left.
func testPowerFailure(t *testing.T, open func(*testing.T) *fixture) {
	if open(t).h.PowerFail == nil {
		t.Skip("this store cannot be made to suffer a power failure")
	}
	t.Run("a durable step is there, with every lazy one before it", func(t *testing.T) {
		for devices := range 12 {
			f := open(t)
			f.mixedWork(devices)
		}
	})
	t.Run("a revocation and a CRL number are there", func(t *testing.T) {
		f := open(t)
		c := f.registered(1)
		f.add(c)
		if err := f.Register.RevokeCertificate(t.Context(), "lab", c.Serial, ca.KeyCompromise, f.clock()); err != nil {
			t.Fatal(err)
		}
		first := must(f.Register.NextCRLNumber(t.Context(), "lab"))(t)
		f.powerFail()
		if got := must(f.Register.Certificate(t.Context(), "lab", c.Serial))(t); !got.Revoked {
			t.Error("the revocation is gone")
		}
		if next := must(f.Register.NextCRLNumber(t.Context(), "lab"))(t); next <= first {
			t.Errorf("number %d was given after %d", next, first)
		}
	})
	t.Run("lazy ends of debts go with what comes after", func(t *testing.T) { testLazySettle(t, open(t)) })
	t.Run("debts and their outcomes are there", func(t *testing.T) {
		f := open(t)
		released, _ := f.bring("a", journal.Issued)
		if _, err := f.Journal.SettleDebt(t.Context(), f.claimDebts(1)[0], journal.Settlement{Outcome: journal.Taken, Now: f.clock()}); err != nil {
			t.Fatal(err)
		}
		owed, _ := f.bring("b", journal.Issued)
		f.powerFail()
		if got := f.entry(released.ID); got.State != journal.Released {
			t.Errorf("released entry is %v", got.State)
		}
		debts := f.claimDebts(10)
		if len(debts) != 1 || debts[0].Entry.ID != owed.ID {
			t.Errorf("%d debts are owed, want the one of entry %d", len(debts), owed.ID)
		}
	})
}

// mixedWork enrols some devices: begun, submitted and registered lazily,
// released durably. Then it begins as many and cuts the power.
func (f *fixture) mixedWork(devices int) {
	t := f.t
	t.Helper()
	type enrolled struct {
		id int64
		c  ca.RegisteredCertificate
	}
	var done, tail []enrolled
	for i := range 2 * devices {
		in := f.intent(fmt.Sprint("device-", i))
		in.Lazy = true
		e, owned := f.begin(in)
		f.advance(owned, journal.Step{To: journal.Submitted, Lazy: true})
		c := f.registered(int64(i))
		f.add(c)
		if i >= devices {
			tail = append(tail, enrolled{e.ID, c})
			continue
		}
		f.advance(owned, journal.Step{To: journal.Released, Certificate: c.DER, Serial: c.Serial.Text(16)})
		done = append(done, enrolled{e.ID, c})
	}
	f.powerFail()
	for _, d := range done {
		if got := f.entry(d.id); got.State != journal.Released || !slices.Equal(got.Certificate, d.c.DER) {
			t.Errorf("released entry %d is %v", d.id, got.State)
		}
		wantCertificate(t, must(f.Register.Certificate(t.Context(), "lab", d.c.Serial))(t), d.c)
	}
	gone := false
	for _, d := range tail {
		e, errEntry := f.Journal.Entry(t.Context(), d.id)
		_, errCertificate := f.Register.Certificate(t.Context(), "lab", d.c.Serial)
		for _, missing := range []bool{errors.Is(errEntry, journal.ErrNotFound), e.State != journal.Submitted, errors.Is(errCertificate, ca.ErrNotFound)} {
			if gone && !missing {
				t.Errorf("a step of entry %d is there although an earlier one is gone", d.id)
			}
			gone = gone || missing
		}
	}
}

// testBrokenWrites breaks a durable step once so that it did not persist and
// once so that it did: either way the caller is told of an error, and after a
// restart the step was made or it was not, and can be made again.
func testBrokenWrites(t *testing.T, open func(*testing.T) *fixture) {
	if open(t).h.BreakNextWrite == nil {
		t.Skip("this store's writes cannot be broken")
	}
	for name, persisted := range map[string]bool{"a write that failed": false, "a write that was made but reported as failed": true} {
		t.Run(name, func(t *testing.T) {
			f := open(t)
			kept, _ := f.bring("kept", journal.Submitted)
			e, owned := f.bring("broken", journal.Submitted)
			lazy := f.intent("lazy")
			lazy.Lazy = true
			f.begin(lazy)
			f.h.BreakNextWrite(t, persisted)
			_, err := f.Journal.Advance(t.Context(), owned, journal.Step{To: journal.Released, Now: f.clock(), Certificate: certificate("broken")})
			if err == nil || errors.Is(err, journal.ErrLost) {
				t.Fatalf("broken step: error %v, want one that says so", err)
			}
			f.stillUsableOrDead()
			f.Journal.Close() // may say once more why it is dead
			f.Store = f.h.Open(t)
			if got := f.entry(kept.ID); got.State != journal.Submitted {
				t.Errorf("an earlier step is gone: entry is %v", got.State)
			}
			if got := f.entry(e.ID); got.State != journal.Submitted && got.State != journal.Released {
				t.Errorf("entry is %v", got.State)
			} else if got.State == journal.Submitted {
				c := must(f.Journal.ClaimEntry(t.Context(), e.ID, f.clock(), lease))(t)
				f.advance(c.Owned, journal.Step{To: journal.Released})
			}
		})
	}
}

// stillUsableOrDead fails if a journal whose write broke goes on as if it
// stood on firm ground: it works, or it refuses everything.
func (f *fixture) stillUsableOrDead() {
	f.t.Helper()
	_, _, begin := f.Journal.Begin(f.t.Context(), f.intent("next"))
	_, read := f.Journal.List(f.t.Context(), journal.Query{})
	if (begin == nil) != (read == nil) {
		f.t.Errorf("after a broken write: begin says %v, a read says %v", begin, read)
	}
}
