package journaltest

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/policymodule"
)

// lifetime is how long the challenges of these tests are good for.
const lifetime = time.Hour

// Ledger runs the contract of policymodule.Ledger over a store whose Journal
// and Ledger are in one database. newHarness is called once a test.
func Ledger(t *testing.T, newHarness func(t *testing.T, clock func() time.Time) Harness) {
	open := func(t *testing.T) *fixture { return newFixture(t, newHarness) }
	t.Run("quotas", func(t *testing.T) { testQuotas(t, open) })
	t.Run("outstanding", func(t *testing.T) { testOutstanding(t, open) })
	t.Run("found", func(t *testing.T) { testFindChallenge(t, open) })
	t.Run("one place left", func(t *testing.T) { testLastPlaces(t, open) })
	t.Run("restart", func(t *testing.T) {
		ledgerSurvives(t, open(t), (*fixture).reopen)
	})
	t.Run("power failure", func(t *testing.T) {
		f := open(t)
		if f.h.PowerFail == nil {
			t.Skip("this store cannot be made to suffer a power failure")
		}
		ledgerSurvives(t, f, (*fixture).powerFail)
	})
}

// challenge is one that principal has made now, under the ID that an intent of
// name spends.
func (f *fixture) challenge(name, principal string) policymodule.Challenge {
	now := f.clock()
	return policymodule.Challenge{
		ID: "challenge-" + name, Endpoint: "corp", Principal: principal, Made: now, Expires: now.Add(lifetime),
	}
}

// makeChallenge records a challenge that there is room for.
func (f *fixture) makeChallenge(c policymodule.Challenge) {
	f.t.Helper()
	if err := f.Ledger.AddChallenge(f.t.Context(), c, policymodule.Quota{}); err != nil {
		f.t.Fatalf("challenge %s: %v", c.ID, err)
	}
}

func (f *fixture) wantOutstanding(endpoint string, want int) {
	f.t.Helper()
	n, err := f.Ledger.Outstanding(f.t.Context(), endpoint, f.clock())
	if err != nil || n != want {
		f.t.Errorf("outstanding at %s: %d, error %v; want %d", endpoint, n, err, want)
	}
}

func (f *fixture) wantChallenge(want policymodule.Challenge) {
	f.t.Helper()
	got, err := f.Ledger.FindChallenge(f.t.Context(), want.Endpoint, want.ID)
	if err != nil || got.ID != want.ID || got.Endpoint != want.Endpoint || got.Principal != want.Principal ||
		!got.Made.Equal(want.Made) || !got.Expires.Equal(want.Expires) {
		f.t.Errorf("challenge %s: got %+v, error %v", want.ID, got, err)
	}
}

func testQuotas(t *testing.T, open func(*testing.T) *fixture) {
	// Three challenges of mdm are outstanding at corp, one of them made half a
	// lifetime later. Each row changes something and asks for one more.
	rows := []struct {
		name   string
		before func(*fixture)
		change func(*policymodule.Challenge)
		quota  policymodule.Quota
		full   bool
	}{
		{"no quota is no limit", nil, nil, policymodule.Quota{}, false},
		{"an endpoint with room takes one more", nil, nil, policymodule.Quota{Endpoint: 4}, false},
		{"an endpoint without room takes none", nil, nil, policymodule.Quota{Endpoint: 3}, true},
		{"an endpoint counts all principals", nil, func(c *policymodule.Challenge) { c.Principal = "operator" }, policymodule.Quota{Endpoint: 3, Principal: 3}, true},
		{"a principal with room takes one more", nil, nil, policymodule.Quota{Principal: 4}, false},
		{"a principal without room takes none", nil, nil, policymodule.Quota{Endpoint: 10, Principal: 3}, true},
		{"a principal's challenges do not count for another", nil, func(c *policymodule.Challenge) { c.Principal = "operator" }, policymodule.Quota{Endpoint: 10, Principal: 1}, false},
		{"another endpoint has room of its own", nil, func(c *policymodule.Challenge) { c.Endpoint = "branch" }, policymodule.Quota{Endpoint: 1, Principal: 1}, false},
		{"a lower quota than what is outstanding takes none", nil, nil, policymodule.Quota{Endpoint: 1}, true},
		{"one moment before they expire they count", func(f *fixture) { f.pass(lifetime/2 - 1) }, nil, policymodule.Quota{Endpoint: 3, Principal: 3}, true},
		{"what has expired does not count", func(f *fixture) { f.pass(lifetime / 2) }, nil, policymodule.Quota{Endpoint: 2, Principal: 2}, false},
		{"what lives on counts", func(f *fixture) { f.pass(lifetime / 2) }, nil, policymodule.Quota{Endpoint: 1}, true},
		{"what is spent does not count", func(f *fixture) { f.begin(f.intent("a")) }, nil, policymodule.Quota{Endpoint: 3, Principal: 3}, false},
		{"a request that was refused has spent its challenge", func(f *fixture) {
			in := f.intent("a")
			in.Refused = &journal.Failure{Rule: "key_usage", FailInfo: 2}
			f.begin(in)
		}, nil, policymodule.Quota{Endpoint: 3, Principal: 3}, false},
		{"one spent challenge makes one place", func(f *fixture) { f.begin(f.intent("a")) }, nil, policymodule.Quota{Endpoint: 2}, true},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			f := open(t)
			f.makeChallenge(f.challenge("a", "mdm"))
			f.makeChallenge(f.challenge("b", "mdm"))
			f.pass(lifetime / 2)
			f.makeChallenge(f.challenge("c", "mdm"))
			if row.before != nil {
				row.before(f)
			}
			c := f.challenge("more", "mdm")
			if row.change != nil {
				row.change(&c)
			}
			err := f.Ledger.AddChallenge(t.Context(), c, row.quota)
			if !row.full {
				if err != nil {
					t.Fatalf("one more: %v", err)
				}
				f.wantChallenge(c)
				return
			}
			wantError(t, "one more", err, policymodule.ErrLedgerFull)
			_, err = f.Ledger.FindChallenge(t.Context(), c.Endpoint, c.ID)
			wantError(t, "the one that was refused", err, policymodule.ErrUnknownChallenge)
			for _, name := range []string{"a", "b", "c"} {
				if _, err := f.Ledger.FindChallenge(t.Context(), "corp", "challenge-"+name); err != nil {
					t.Errorf("challenge %s was dropped to make room: %v", name, err)
				}
			}
		})
	}
}

func testOutstanding(t *testing.T, open func(*testing.T) *fixture) {
	t.Run("counts one endpoint at any time", func(t *testing.T) {
		f := open(t)
		const n = 100
		for i := range n { // one expires each half minute
			c := f.challenge(fmt.Sprint(i), fmt.Sprint("principal-", i%3))
			c.Expires = start.Add(time.Duration(i+1) * 30 * time.Second)
			f.makeChallenge(c)
		}
		f.wantOutstanding("branch", 0)
		for i := range n + 2 {
			for _, d := range []time.Duration{-1, 0, 1} {
				at := start.Add(time.Duration(i)*30*time.Second + d)
				want := min(n, max(0, n-i))
				if d < 0 {
					want = min(n, max(0, n-i+1))
				}
				if got, err := f.Ledger.Outstanding(t.Context(), "corp", at); err != nil || got != want {
					t.Errorf("%v after the start: %d outstanding, error %v; want %d", at.Sub(start), got, err, want)
				}
			}
		}
	})
	t.Run("a spent challenge is not outstanding, spent lazily or twice", func(t *testing.T) {
		f := open(t)
		for _, name := range []string{"a", "b", "c"} {
			f.makeChallenge(f.challenge(name, "mdm"))
		}
		lazy := f.intent("a")
		lazy.Lazy = true
		f.begin(lazy)
		f.wantOutstanding("corp", 2)
		again := f.intent("a")
		again.CSRDigest, again.TransactionID = digest("again"), "tx-again"
		if _, owned, err := f.Journal.Begin(t.Context(), again); err != nil || owned != nil {
			t.Fatalf("the same request again: owned %v, error %v", owned, err)
		}
		f.wantOutstanding("corp", 2)
		f.begin(f.intent("of some other challenge"))
		f.wantOutstanding("corp", 2)
	})
	t.Run("a challenge that was spent before it was recorded is not outstanding", func(t *testing.T) {
		f := open(t)
		f.begin(f.intent("a"))
		c := f.challenge("a", "mdm")
		f.makeChallenge(c)
		f.wantOutstanding("corp", 0)
		f.wantChallenge(c)
	})
	t.Run("a challenge that is recorded twice counts once", func(t *testing.T) {
		f := open(t)
		c := f.challenge("a", "mdm")
		f.makeChallenge(c)
		if err := f.Ledger.AddChallenge(t.Context(), c, policymodule.Quota{Endpoint: 1}); err != nil {
			t.Errorf("the same challenge again: %v", err)
		}
		f.wantOutstanding("corp", 1)
		c.Principal = "operator"
		if err := f.Ledger.AddChallenge(t.Context(), c, policymodule.Quota{}); err == nil {
			t.Error("another principal's challenge took its ID")
		}
		f.wantOutstanding("corp", 1)
	})
}

func testFindChallenge(t *testing.T, open func(*testing.T) *fixture) {
	f := open(t)
	spent, old := f.challenge("spent", "mdm"), f.challenge("old", "mdm")
	f.makeChallenge(spent)
	f.makeChallenge(old)
	f.begin(f.intent("spent"))
	_, err := f.Ledger.FindChallenge(t.Context(), "corp", "challenge-other")
	wantError(t, "one that was not made", err, policymodule.ErrUnknownChallenge)
	_, err = f.Ledger.FindChallenge(t.Context(), "branch", old.ID)
	wantError(t, "one of another endpoint", err, policymodule.ErrUnknownChallenge)

	f.pass(lifetime + 24*time.Hour)
	f.makeChallenge(f.challenge("next", "mdm"))
	f.wantChallenge(spent)
	f.wantChallenge(old)

	f.pass(time.Nanosecond)
	f.makeChallenge(f.challenge("after", "mdm"))
	for _, c := range []policymodule.Challenge{spent, old} {
		_, err = f.Ledger.FindChallenge(t.Context(), "corp", c.ID)
		wantError(t, "one that expired more than 24 hours ago", err, policymodule.ErrUnknownChallenge)
	}
	f.wantOutstanding("corp", 2)
}

// testLastPlaces: rivals ask at once while there is room for a few.
func testLastPlaces(t *testing.T, open func(*testing.T) *fixture) {
	for name, q := range map[string]policymodule.Quota{
		"of an endpoint": {Endpoint: 5}, "of a principal": {Endpoint: 1000, Principal: 5},
	} {
		t.Run(name, func(t *testing.T) {
			f := open(t)
			for i := range 4 {
				f.makeChallenge(f.challenge(fmt.Sprint("before-", i), "mdm"))
			}
			var (
				wg         sync.WaitGroup
				mu         sync.Mutex
				made, full int
				gate       = make(chan struct{})
			)
			for i := range rivals {
				c := f.challenge(fmt.Sprint("rival-", i), "mdm")
				wg.Go(func() {
					<-gate
					err := f.Ledger.AddChallenge(t.Context(), c, q)
					mu.Lock()
					defer mu.Unlock()
					switch {
					case err == nil:
						made++
					case errors.Is(err, policymodule.ErrLedgerFull):
						full++
					default:
						t.Errorf("challenge: %v", err)
					}
				})
			}
			close(gate)
			wg.Wait()
			if made != 1 || full != rivals-1 {
				t.Errorf("%d were made, %d refused; want 1 and %d", made, full, rivals-1)
			}
			f.wantOutstanding("corp", 5)
		})
	}
}

// ledgerSurvives records challenges, ends the store and looks at what is left.
func ledgerSurvives(t *testing.T, f *fixture, end func(*fixture)) {
	a, b := f.challenge("a", "mdm"), f.challenge("b", "operator")
	f.makeChallenge(a)
	f.makeChallenge(b)
	f.begin(f.intent("a"))
	end(f)
	f.wantChallenge(a)
	f.wantChallenge(b)
	f.wantOutstanding("corp", 1)
	err := f.Ledger.AddChallenge(t.Context(), f.challenge("c", "mdm"), policymodule.Quota{Endpoint: 1})
	wantError(t, "a quota that was used up before", err, policymodule.ErrLedgerFull)
	f.begin(f.intent("b"))
	f.wantOutstanding("corp", 0)
}
