package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/agent/journal/sqlite"
	"github.com/certconnector/certconnector/agent/outbox"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/policymodule"
)

func away(policymodule.Outcome) error { return errors.New("503") }

func oneAtATime(c *outbox.Config) { c.Concurrency = 1 }

func (w *world) owed() map[journal.DebtKind]int {
	w.t.Helper()
	stats, err := w.journal.DebtStats(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	n := make(map[journal.DebtKind]int)
	for _, s := range stats {
		n[s.Kind] = s.N
	}
	return n
}

// TestFreshestFirstAfterAnOutage: devices that still wait are those that asked
// last. The few that served as probes have delays of their own.
func TestFreshestFirstAfterAnOutage(t *testing.T) {
	inWorld(t, oneAtATime, func(t *testing.T, w *world) {
		w.n.fail = away
		for range 60 { // one a minute; the first ten are too late in the end
			w.owe("corp", journal.OweSuccess)
			w.later(time.Minute)
		}
		if attempts, _, _ := w.n.counts(); attempts > 100 {
			t.Errorf("the cloud was asked %d times in an hour without an answer", attempts)
		}
		w.n.set(func(n *neighbour) { n.fail = nil })
		w.later(3 * time.Minute)
		_, told, revoked := w.n.counts()
		if told < 45 || told+revoked != 60 || revoked < 9 {
			t.Fatalf("%d told and %d revoked of 60", told, revoked)
		}
		for i, o := range w.n.told[:10] {
			var id int
			if _, err := fmt.Sscan(o.TransactionID, &id); err != nil || id < 45 {
				t.Errorf("as number %d the cloud was told of request %s of 60", i+1, o.TransactionID)
			}
		}
	})
}

func TestGiveUpInBulk(t *testing.T) {
	inOutage(t, 3000, time.Minute, nil, func(t *testing.T, w *world) {
		w.n.set(func(n *neighbour) { n.fail, n.takes = away, time.Millisecond })
		w.later(50 * time.Second)
		if got := w.owed(); got[journal.OweSuccess] != 1500 {
			t.Errorf("%d certificates are withheld before their time is over, want 1500", got[journal.OweSuccess])
		}
		w.later(time.Minute)
		asked, told, revoked := w.n.counts()
		if revoked != 2100 {
			t.Errorf("%d certificates were revoked, want 2100", revoked)
		}
		if notices := asked - revoked; notices > 60 || told != 0 {
			t.Errorf("the cloud was asked %d times, and told of %d", notices, told)
		}
		if got, want := w.owed(), map[journal.DebtKind]int{journal.OweFailure: 900}; !maps.Equal(got, want) {
			t.Errorf("owed are %v, want %v", got, want)
		}
	})
}

func TestRetryAfterPausesTheNeighbour(t *testing.T) {
	inOutage(t, 1000, time.Hour, nil, func(t *testing.T, w *world) {
		w.n.set(func(n *neighbour) {
			n.takes, n.revoke = time.Millisecond, func() error { return ca.ErrUnavailable }
			n.fail = func(policymodule.Outcome) error { return retryAfter{errors.New("throttled")} }
		})
		w.later(2 * time.Second)
		w.n.set(func(n *neighbour) { n.attempts = nil })
		e := w.owe("corp", journal.OweSuccess)
		w.later(4 * time.Minute)
		got, err := w.out.Tell(t.Context(), e.ID)
		if err != nil || got.State != journal.Withheld {
			t.Errorf("inline: %v, error %v; want withheld", got.State, err)
		}
		w.n.set(func(n *neighbour) { n.revoke = nil })
		attempts, told, _ := w.n.counts()
		if told != 0 || attempts > 10 { // those at the CA
			t.Errorf("%d attempts within the five minutes that the cloud asked for", attempts)
		}
		w.n.set(func(n *neighbour) { n.fail = nil })
		w.later(3 * time.Minute)
		if got := w.owed(); len(got) != 0 {
			t.Errorf("still owed after the pause: %v", got)
		}
	})
}

// The configuration is replaced within the time for which the cloud asked to be
// left alone; a neighbour that was only silent is tried at once.
func TestInheritedPauses(t *testing.T) {
	inOutage(t, 100, time.Hour, nil, func(t *testing.T, w *world) {
		w.n.set(func(n *neighbour) {
			n.fail = func(policymodule.Outcome) error { return retryAfter{errors.New("throttled")} }
			n.revoke = func() error { return ca.ErrUnavailable }
		})
		w.later(10 * time.Second)
		w.stop() // or it might claim first what the others are to tell
		w.n.set(func(n *neighbour) { n.attempts, n.fail, n.revoke = nil, nil, nil })
		next := outbox.New(w.out.Config)
		next.Inherit(w.out, func(journal.Lane) bool { return true })
		another := outbox.New(w.out.Config)
		another.Inherit(w.out, func(l journal.Lane) bool { return l.Kind == journal.OweRevocation })
		e := w.owe("corp", journal.OweSuccess)
		if got, err := next.Tell(t.Context(), e.ID); err != nil || got.State == journal.Released {
			t.Errorf("within the pause: %v, error %v", got.State, err)
		}
		if attempts, told, _ := w.n.counts(); told != 0 {
			t.Errorf("%d attempts, %d told", attempts, told)
		}
		other := w.owe("corp", journal.OweSuccess)
		if got, err := another.Tell(t.Context(), other.ID); err != nil || got.State != journal.Released {
			t.Errorf("another neighbour of that name: %v, error %v", got.State, err)
		}
		w.later(6 * time.Minute)
		e = w.owe("corp", journal.OweSuccess)
		if got, err := next.Tell(t.Context(), e.ID); err != nil || got.State != journal.Released {
			t.Errorf("after the pause: %v, error %v", got.State, err)
		}
	})
}

func TestADeadNeighbourDelaysNoOther(t *testing.T) {
	inOutage(t, 1000, time.Hour, nil, func(t *testing.T, w *world) {
		w.n.set(func(n *neighbour) { n.hangs = true })
		w.later(10 * time.Second)
		e := w.owe("other", journal.OweSuccess)
		began := time.Now()
		for w.state(e.ID) != journal.Released && time.Since(began) < time.Minute {
			w.later(100 * time.Millisecond)
		}
		if d := time.Since(began); d > 2*time.Second { // the answer takes one
			t.Errorf("the other neighbour was told after %v", d)
		}
		if _, _, revoked := w.n.counts(); revoked != 200 {
			t.Errorf("%d certificates were revoked while the cloud is dead, want 200", revoked)
		}
	})
}

func TestFreshIsToldBesideABacklog(t *testing.T) {
	inOutage(t, 10_000, time.Hour, nil, func(t *testing.T, w *world) {
		for _, takes := range []time.Duration{time.Second / 10, 5 * time.Second} {
			w.n.set(func(n *neighbour) { n.takes = takes })
			w.later(10 * time.Second)
			e := w.owe("corp", journal.OweSuccess)
			w.later(time.Second + takes)
			if got := w.state(e.ID); got != journal.Released {
				t.Errorf("a fresh certificate is %v a second after it was issued, beside the answer's %v", got, takes)
			}
		}
		if owed := w.owed(); owed[journal.OweRevocation] == 2000 || owed[journal.OweSuccess] == 5000 || owed[journal.OweFailure] == 3000 {
			t.Errorf("some kind was starved: %v are owed", owed)
		}
	})
}

// TestBacklogKeepsItsPace: neither faster, at the cost of enrolments, nor more
// at once than allowed.
func TestBacklogKeepsItsPace(t *testing.T) {
	inOutage(t, 4000, time.Hour, func(c *outbox.Config) { c.BacklogPerSecond = 100 }, func(t *testing.T, w *world) {
		w.n.set(func(n *neighbour) { n.takes = 100 * time.Millisecond })
		w.later(20 * time.Second)
		_, told, revoked := w.n.counts()
		if n := told + revoked; n < 1800 || n > 2050 {
			t.Errorf("%d of the backlog were delivered in 20 s, want 2000", n)
		}
		w.n.set(func(n *neighbour) { n.takes = 10 * time.Second })
		w.later(10 * time.Second)
		if most := 12 + 16; w.n.busiest > most {
			t.Errorf("%d deliveries at once, want %d at most", w.n.busiest, most)
		}
	})
}

// TestBacklogGoesFasterWhileNobodyComes: there is nobody to be slowed down.
func TestBacklogGoesFasterWhileNobodyComes(t *testing.T) {
	var idle atomic.Bool
	configure := func(c *outbox.Config) { c.BacklogPerSecond, c.Idle = 20, idle.Load }
	inOutage(t, 4000, time.Hour, configure, func(t *testing.T, w *world) {
		delivered := func() int {
			_, told, revoked := w.n.counts()
			return told + revoked
		}
		w.n.set(func(n *neighbour) { n.takes = 10 * time.Millisecond })
		w.later(10 * time.Second)
		busy := delivered()
		idle.Store(true)
		w.later(10 * time.Second)
		if quiet := delivered() - busy; busy > 250 || quiet < 1500 || quiet > 2050 {
			t.Errorf("%d in 10 s while devices come, %d in 10 s while none does; want about 200 and 2000", busy, quiet)
		}
	})
}

// mortal is a journal whose process is killed: nothing is recorded any more.
type mortal struct {
	journal.Debts
	left atomic.Int64
}

func (m *mortal) SettleDebt(ctx context.Context, d journal.Debt, how journal.Settlement) (journal.Entry, error) {
	if m.left.Add(-1) < 0 {
		return journal.Entry{}, errors.New("killed")
	}
	return m.Debts.SettleDebt(ctx, d, how)
}

// TestKillLosesNothing: whatever was owed is told at least once, wherever the
// process was killed.
func TestKillLosesNothing(t *testing.T) {
	for _, settled := range []int{0, 1, 7, 40, 199} {
		t.Run(fmt.Sprint(settled, " settled"), func(t *testing.T) {
			doomed := &mortal{}
			doomed.left.Store(int64(settled))
			slow := func(c *outbox.Config) { c.Concurrency, doomed.Debts, c.Journal = 4, c.Journal, doomed }
			inOutage(t, 200, time.Hour, slow, func(t *testing.T, w *world) {
				w.n.set(func(n *neighbour) { n.takes = time.Millisecond })
				for doomed.left.Load() >= 0 {
					w.later(time.Millisecond)
				}
				w.kill()
				again, err := sqlite.Open(w.path, sqlite.Options{})
				if err != nil {
					t.Fatal(err)
				}
				w.journal = again
				ctx, cancel := context.WithCancel(context.Background())
				cfg := w.out.Config
				cfg.Journal = again
				next := outbox.New(cfg)
				done := make(chan struct{})
				go func() { defer close(done); _ = next.Run(ctx) }()
				w.later(time.Minute)
				owed := w.owed()
				cancel()
				<-done
				if len(owed) != 0 {
					t.Errorf("still owed: %v", owed)
				}
				told := make(map[string]bool)
				for _, o := range w.n.told {
					told[o.TransactionID] = true
				}
				if _, all, revoked := w.n.counts(); len(told) != 160 || revoked < 40 || all > 160+2*4 {
					t.Errorf("%d of 160 requests were told in %d notifications, %d certificates revoked, want 40", len(told), all, revoked)
				}
			})
		})
	}
}

// TestDelaysAreSpread: those that failed together do not come back together.
func TestDelaysAreSpread(t *testing.T) {
	core, logs := observer.New(zapcore.WarnLevel)
	var drawn atomic.Int64
	watch := func(c *outbox.Config) {
		c.Log, c.Random = zap.New(core), func() float64 { return float64(drawn.Add(1)%64) / 64 }
	}
	inOutage(t, 32, time.Hour, watch, func(t *testing.T, w *world) {
		w.n.set(func(n *neighbour) { n.fail = away })
		w.later(2 * time.Second)
		synctest.Wait()
	})
	var delays []time.Duration
	for _, line := range logs.FilterMessage("a delivery failed and is tried again").All() {
		delays = append(delays, line.ContextMap()["next_in"].(time.Duration))
	}
	slices.Sort(delays)
	if n := len(slices.Compact(slices.Clone(delays))); n < 10 || delays[0] < 800*time.Millisecond || delays[len(delays)-1] > 1200*time.Millisecond {
		t.Fatalf("%d different delays, want as many as failures, from 0.8 to 1.2 s: %v", n, delays)
	}
	if spread := delays[len(delays)-1] - delays[0]; spread < 100*time.Millisecond {
		t.Errorf("delays differ by %v", spread)
	}
}
