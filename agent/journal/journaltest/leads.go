package journaltest

import (
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
)

const term = 5 * time.Minute

// lead takes a source that must be free.
func (f *fixture) lead(source, owner string) journal.Lead {
	f.t.Helper()
	return must(f.Journal.Lead(f.t.Context(), source, owner, f.clock(), term))(f.t)
}

// wantLed fails unless somebody else leads a source.
func (f *fixture) wantLed(source, owner string) {
	f.t.Helper()
	_, err := f.Journal.Lead(f.t.Context(), source, owner, f.clock(), term)
	wantError(f.t, owner+" takes "+source, err, journal.ErrLed)
}

func testLeads(t *testing.T, open func(*testing.T) *fixture) {
	t.Run("one owner until the term ends", func(t *testing.T) {
		f := open(t)
		first := f.lead("contoso", "a")
		if want := (journal.Lead{Source: "contoso", Owner: "a", Epoch: first.Epoch, Until: f.clock().Add(term)}); first != want {
			t.Errorf("lead is %+v, want %+v", first, want)
		}
		f.pass(term - 1)
		f.wantLed("contoso", "b")
		f.pass(1)
		if second := f.lead("contoso", "b"); second.Epoch <= first.Epoch || second.Owner != "b" {
			t.Errorf("after epoch %d comes %+v", first.Epoch, second)
		}
		f.wantLed("contoso", "a")
	})
	t.Run("its owner prolongs it, before and after the term's end", func(t *testing.T) {
		f := open(t)
		first := f.lead("contoso", "a")
		for _, d := range []time.Duration{term / 2, 2 * term} {
			f.pass(d)
			if again := f.lead("contoso", "a"); again.Epoch != first.Epoch || !again.Until.Equal(f.clock().Add(term)) {
				t.Errorf("prolonged lead is %+v", again)
			}
		}
		f.pass(term - 1)
		f.wantLed("contoso", "b")
	})
	t.Run("sources are led one by one", func(t *testing.T) {
		f := open(t)
		f.lead("contoso", "a")
		f.lead("fabrikam", "b")
		f.wantLed("contoso", "b")
	})
	t.Run("the next owner learns of the last poll", func(t *testing.T) {
		f := open(t)
		l := f.lead("contoso", "a")
		if !l.LastPoll.IsZero() {
			t.Errorf("a source that was never asked was asked at %v", l.LastPoll)
		}
		asked := f.clock()
		f.poll(l, nil)
		f.pass(term)
		if next := f.lead("contoso", "b"); !next.LastPoll.Equal(asked) {
			t.Errorf("last poll is %v, want %v", next.LastPoll, asked)
		}
	})
	t.Run("a poll without the lead", func(t *testing.T) {
		f := open(t)
		f.poll(journal.Lead{Source: "contoso", Owner: "a", Epoch: 1}, journal.ErrLost)
		old := f.lead("contoso", "a")
		f.pass(term)
		f.poll(old, journal.ErrLost) // the term has ended: anybody may ask now
		f.lead("contoso", "b")
		f.poll(old, journal.ErrLost)
		f.pass(term)
		f.poll(f.lead("contoso", "a"), nil)
		f.poll(old, journal.ErrLost) // its owner has the lead again, but that one is another
	})
	t.Run("a lead that is given up is free at once", func(t *testing.T) {
		f := open(t)
		old := f.lead("contoso", "a")
		f.poll(old, nil)
		f.resign(old)
		f.poll(old, journal.ErrLost)
		next := f.lead("contoso", "b")
		if next.Epoch <= old.Epoch || !next.LastPoll.Equal(f.clock()) {
			t.Errorf("after %+v comes %+v", old, next)
		}
		f.resign(old) // no error, and no effect on the new one
		f.poll(next, nil)
		f.resign(next)
		if again := f.lead("contoso", "b"); again.Epoch <= next.Epoch {
			t.Errorf("after giving it up, epoch %d follows %d", again.Epoch, next.Epoch)
		}
	})
	t.Run("a restart leaves the lead to its owner until the term ends", func(t *testing.T) {
		f := open(t)
		l := f.lead("contoso", "a")
		f.poll(l, nil)
		f.pass(time.Minute)
		f.reopen()
		f.wantLed("contoso", "b")
		if again := f.lead("contoso", "a"); again.Epoch != l.Epoch || !again.LastPoll.Equal(start) {
			t.Errorf("after a restart the lead is %+v", again)
		}
		f.pass(term)
		f.lead("contoso", "b")
	})
}

func (f *fixture) poll(l journal.Lead, want error) {
	f.t.Helper()
	wantError(f.t, "recording a poll by "+l.Owner, f.Journal.RecordPoll(f.t.Context(), l, f.clock()), want)
}

func (f *fixture) resign(l journal.Lead) {
	f.t.Helper()
	if err := f.Journal.Resign(f.t.Context(), l); err != nil {
		f.t.Errorf("resign: %v", err)
	}
}
