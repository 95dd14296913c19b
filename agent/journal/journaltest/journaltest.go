// Package journaltest is the contract that every journal passes, together with
// the CA register in the same database: what each method promises, what a
// restart keeps, and what a power failure may take.
package journaltest

import (
	"context"
	"crypto/sha256"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/policymodule"
)

// Store is a journal and what else is in its database.
type Store struct {
	Journal  journal.Journal
	Register ca.Register

	Ledger   policymodule.Ledger   // for the suite of that name only
	Verdicts policymodule.Verdicts // for the suite of that name only
}

// Harness makes one store of its own for each test.
type Harness struct {
	// Open opens the store: for the first time, and again after Close or
	// PowerFail. What it opens is closed by the test.
	Open func(t *testing.T) Store

	// PowerFail, where the store can be made to suffer one, ends the open
	// store as a power failure does: whatever was not synced is gone.
	PowerFail func(t *testing.T)

	// BreakNextWrite, where it can be done, makes the next durable operation
	// report an error. persisted says whether it reached the disk all the same.
	BreakNextWrite func(t *testing.T, persisted bool)
}

// Run runs the contract. newHarness is called once a test; clock is what the
// store must take for now.
func Run(t *testing.T, newHarness func(t *testing.T, clock func() time.Time) Harness) {
	groups := []struct {
		name string
		run  func(*testing.T, func(*testing.T) *fixture)
	}{
		{"requests", testRequests},
		{"races", testRaces},
		{"steps", testSteps},
		{"work", testWork},
		{"debts", testDebts},
		{"lists", testLists},
		{"issued", testIssued},
		{"register", testRegister},
		{"leads", testLeads},
		{"accepting", testAccepting},
		{"jobs", testJobs},
		{"reports", testReports},
		{"sources", testSources},
		{"sweep", testSweep},
		{"imported", testImported},
		{"races for jobs", testJobRaces},
		{"power failure amid jobs", testJobPowerFailure},
		{"power failure after each step", testLastStep},
		{"broken batches", testBrokenBatch},
		{"restart", testRestart},
		{"power failure", testPowerFailure},
		{"broken writes", testBrokenWrites},
		{"close", testClose},
	}
	for _, g := range groups {
		t.Run(g.name, func(t *testing.T) {
			g.run(t, func(t *testing.T) *fixture { return newFixture(t, newHarness) })
		})
	}
}

// start is when every test begins.
var start = time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)

const lease = time.Minute

// fixture is an open store and the time of one test.
type fixture struct {
	t *testing.T
	h Harness
	Store

	mu  sync.Mutex
	now time.Time
}

func newFixture(t *testing.T, newHarness func(*testing.T, func() time.Time) Harness) *fixture {
	f := &fixture{t: t, now: start}
	f.h = newHarness(t, f.clock)
	f.Store = f.h.Open(t)
	t.Cleanup(func() { f.Journal.Close() })
	return f
}

func (f *fixture) clock() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

// pass lets time go by.
func (f *fixture) pass(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = f.now.Add(d)
}

// reopen closes the store and opens it again, as a restart does.
func (f *fixture) reopen() {
	f.t.Helper()
	if err := f.Journal.Close(); err != nil {
		f.t.Fatalf("close: %v", err)
	}
	f.Store = f.h.Open(f.t)
}

// powerFail cuts the power and opens what is left.
func (f *fixture) powerFail() {
	f.t.Helper()
	f.h.PowerFail(f.t)
	f.Store = f.h.Open(f.t)
}

func digest(s string) [32]byte { return sha256.Sum256([]byte(s)) }

// intent is a request of a device of its own: name tells devices apart.
func (f *fixture) intent(name string) journal.Intent {
	now := f.clock()
	return journal.Intent{
		Endpoint: "corp", Tenant: "contoso", TransactionID: "tx-" + name,
		SignerKey: digest("key " + name), SignerID: digest("key " + name), CSRDigest: digest("csr " + name),
		CSRKey: digest("key " + name), Names: digest("names " + name), ChallengeID: "challenge-" + name,
		Since: now.Add(-24 * time.Hour), CA: "issuing", Template: "Device", Subject: "CN=" + name,
		SealedCSR: []byte("sealed " + name), MaxValidity: 90 * 24 * time.Hour, Notify: true,
		Now: now, Lease: lease, GiveUp: now.Add(time.Hour),
	}
}

// begin records a new request.
func (f *fixture) begin(in journal.Intent) (journal.Entry, *journal.Owned) {
	f.t.Helper()
	e, owned, err := f.Journal.Begin(f.t.Context(), in)
	if err != nil {
		f.t.Fatalf("begin: %v", err)
	}
	if owned == nil {
		f.t.Fatalf("begin found entry %d, want a new one", e.ID)
	}
	return e, owned
}

// advance makes a step that must succeed.
func (f *fixture) advance(o *journal.Owned, s journal.Step) journal.Entry {
	f.t.Helper()
	if s.Now.IsZero() {
		s.Now = f.clock()
	}
	e, err := f.Journal.Advance(f.t.Context(), o, s)
	if err != nil {
		f.t.Fatalf("advance to %v: %v", s.To, err)
	}
	return e
}

// route is a way from verified to each state.
var route = map[journal.State][]journal.State{
	journal.Verified:  {},
	journal.Submitted: {journal.Submitted},
	journal.Parked:    {journal.Submitted, journal.Parked},
	journal.Unknown:   {journal.Submitted, journal.Unknown},
	journal.Issued:    {journal.Submitted, journal.Issued},
	journal.Withheld:  {journal.Submitted, journal.Issued, journal.Withheld},
	journal.Released:  {journal.Submitted, journal.Released},
	journal.Abandoned: {journal.Submitted, journal.Issued, journal.Abandoned},
	journal.Failed:    {journal.Failed},
}

// certificate stands for the DER of a device's certificate.
func certificate(name string) []byte { return []byte("certificate of " + name) }

// bring records a request of name and takes it to a state. On the way through
// issued the success notification becomes owed.
func (f *fixture) bring(name string, to journal.State) (journal.Entry, *journal.Owned) {
	f.t.Helper()
	e, owned := f.begin(f.intent(name))
	for _, state := range route[to] {
		s := journal.Step{To: state, NextAt: f.clock().Add(lease)}
		if state == journal.Issued {
			s.Certificate, s.Serial, s.Owe = certificate(name), "0A"+name, []journal.DebtKind{journal.OweSuccess}
		}
		e = f.advance(owned, s)
	}
	return e, owned
}

// entry reads an entry that must be there.
func (f *fixture) entry(id int64) journal.Entry {
	f.t.Helper()
	e, err := f.Journal.Entry(f.t.Context(), id)
	if err != nil {
		f.t.Fatalf("entry %d: %v", id, err)
	}
	return e
}

// wantError fails unless err is want.
func wantError(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got error %v, want %v", what, err, want)
	}
}

// must fails the test at an error.
func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func testClose(t *testing.T, open func(*testing.T) *fixture) {
	t.Run("a closed journal refuses and does not hang", func(t *testing.T) {
		f := open(t)
		e, _ := f.bring("a", journal.Verified)
		if err := f.Journal.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Journal.Entry(t.Context(), e.ID); err == nil || errors.Is(err, journal.ErrNotFound) {
			t.Errorf("read after close: %v, want an error of its own", err)
		}
		if err := f.Journal.Close(); err != nil {
			t.Errorf("second close: %v", err)
		}
	})
	t.Run("a caller whose context has ended changes nothing", func(t *testing.T) {
		f := open(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		in := f.intent("a")
		_, _, err := f.Journal.Begin(ctx, in)
		wantError(t, "begin", err, context.Canceled)
		_, err = f.Journal.Same(t.Context(), in)
		wantError(t, "same", err, journal.ErrNotFound)
	})
}
