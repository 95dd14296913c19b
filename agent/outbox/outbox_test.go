package outbox_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/agent/journal/sqlite"
	"github.com/certconnector/certconnector/agent/outbox"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/policymodule"
)

// neighbour is a policy module and a CA that fail as told and keep what they took.
type neighbour struct {
	mu       sync.Mutex
	fail     func(o policymodule.Outcome) error // nil: takes everything
	takes    time.Duration                      // for an answer
	hangs    bool                               // never answers
	revoke   func() error
	told     []policymodule.Outcome
	attempts []time.Time
	revoked  []*big.Int
	busy     int
	busiest  int
}

func (n *neighbour) Verify(context.Context, policymodule.Request) (policymodule.Decision, error) {
	return policymodule.Decision{}, errors.New("nobody asks here")
}

func (n *neighbour) Notify(ctx context.Context, o policymodule.Outcome) error {
	n.mu.Lock()
	n.attempts = append(n.attempts, time.Now())
	n.busy++
	n.busiest = max(n.busiest, n.busy)
	fail, takes, hangs := n.fail, n.takes, n.hangs
	n.mu.Unlock()
	if hangs {
		<-ctx.Done()
		n.mu.Lock()
		defer n.mu.Unlock()
		n.busy--
		return ctx.Err()
	}
	time.Sleep(takes)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.busy--
	if fail != nil {
		if err := fail(o); err != nil {
			return err
		}
	}
	n.told = append(n.told, o)
	return nil
}

// set changes how the neighbour behaves.
func (n *neighbour) set(change func(n *neighbour)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change(n)
}

// counts returns how often it was asked, and what it took.
func (n *neighbour) counts() (attempts, told, revoked int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.attempts), len(n.told), len(n.revoked)
}

func (n *neighbour) Issue(context.Context, ca.Request) (*ca.Issued, error) {
	return nil, ca.ErrUnavailable
}
func (n *neighbour) Chain(context.Context) ([]*x509.Certificate, error) { return nil, nil }

func (n *neighbour) Revoke(_ context.Context, serial *big.Int, _ ca.Reason) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.attempts = append(n.attempts, time.Now())
	if n.revoke != nil {
		if err := n.revoke(); err != nil {
			return err
		}
	}
	n.revoked = append(n.revoked, serial)
	return nil
}

type world struct {
	t       *testing.T
	path    string
	journal *sqlite.Journal
	sealer  *secret.Sealer
	n       *neighbour // endpoint corp and CA issuing
	other   *neighbour // endpoint other
	out     *outbox.Outbox
	cert    []byte
	count   int
	stop    func() // ends the outbox
	kill    func() // and closes the journal
}

func inWorld(t *testing.T, change func(*outbox.Config), test func(t *testing.T, w *world)) {
	t.Helper()
	inOutage(t, 0, 0, change, test)
}

// inOutage is inWorld where n debts are owed since an outage, and certificates
// are withheld for so long from now.
func inOutage(t *testing.T, n int, withheld time.Duration, change func(*outbox.Config), test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "journal.db")
		if err := sqlite.Create(path); err != nil {
			t.Fatal(err)
		}
		seed(t, path, n, withheld)
		j, err := sqlite.Open(path, sqlite.Options{})
		if err != nil {
			t.Fatal(err)
		}
		sealer, err := secret.NewSealer(bytes.Repeat([]byte{1}, 32))
		if err != nil {
			t.Fatal(err)
		}
		w := &world{t: t, path: path, journal: j, sealer: sealer, n: &neighbour{takes: time.Second}, other: &neighbour{takes: time.Second}, cert: certificate(t)}
		cfg := outbox.Config{
			Journal: j, Sealer: sealer, Log: zap.NewNop(), Audit: zap.NewNop(),
			Modules: map[string]policymodule.Module{"corp": w.n, "other": w.other}, CAs: map[string]ca.Authority{"issuing": w.n},
		}
		if change != nil {
			change(&cfg)
		}
		w.out = outbox.New(cfg)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			defer close(done)
			time.Sleep(time.Nanosecond) // until the test waits: it first says how the neighbours behave
			_ = w.out.Run(ctx)
		}()
		w.stop = func() { cancel(); <-done }
		w.kill = func() {
			w.stop()
			if err := w.journal.Close(); err != nil {
				t.Error(err)
			}
		}
		defer func() { w.kill() }()
		test(t, w)
	})
}

// seed fills a closed journal.
func seed(t *testing.T, path string, n int, withheld time.Duration) {
	t.Helper()
	if n == 0 {
		return
	}
	sealer, err := secret.NewSealer(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	der := certificate(t)
	err = sqlite.Seed(path, sqlite.SeedOptions{CA: "issuing", Owed: sqlite.SeedOwed{
		N: n, SealedCSR: sealer.Seal("csr", []byte("CSR")), GiveUp: time.Now().Add(withheld), Certificate: func([]byte) []byte { return der },
	}})
	if err != nil {
		t.Fatal(err)
	}
}

func certificate(t *testing.T) []byte {
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(77), Subject: pkix.Name{CommonName: "device"}, NotAfter: time.Now().AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, testkeys.P256(0).Public(), testkeys.P256(0))
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// owe records an entry that owes one thing.
func (w *world) owe(endpoint string, kind journal.DebtKind) journal.Entry {
	w.t.Helper()
	w.count++
	id := fmt.Sprint(w.count)
	now := time.Now()
	e, owned, err := w.journal.Begin(w.t.Context(), journal.Intent{
		Endpoint: endpoint, TransactionID: id, SignerKey: sha256.Sum256([]byte(id)), CSRDigest: sha256.Sum256([]byte(id)),
		CA: "issuing", SealedCSR: w.sealer.Seal("csr", []byte("CSR "+id)), Notify: true, Now: now, Lease: time.Minute, GiveUp: now.Add(50 * time.Minute),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	step := journal.Step{To: journal.Submitted, Now: now, NextAt: now.Add(time.Minute)}
	if _, err := w.journal.Advance(w.t.Context(), owned, step); err != nil {
		w.t.Fatal(err)
	}
	step = journal.Step{To: journal.Issued, Now: now, NextAt: e.GiveUp, Certificate: w.cert, Serial: "4D", Owe: []journal.DebtKind{kind}, OweAt: now}
	if kind != journal.OweSuccess {
		step.To, step.Failure = journal.Failed, &journal.Failure{Rule: "ca_denied", FailInfo: 2, HResult: ca.HResultAdminDenied, Text: "no"}
	}
	if e, err = w.journal.Advance(w.t.Context(), owned, step); err != nil {
		w.t.Fatal(err)
	}
	w.out.Wake()
	return e
}

func (w *world) state(id int64) journal.State {
	w.t.Helper()
	e, err := w.journal.Entry(w.t.Context(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	return e.State
}

func (w *world) later(d time.Duration) { time.Sleep(d); synctest.Wait() }

func TestDeliveryReleases(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		e := w.owe("corp", journal.OweSuccess)
		w.later(5 * time.Second)
		if got := w.state(e.ID); got != journal.Released {
			t.Errorf("entry is %v", got)
		}
		if len(w.n.told) != 1 || string(w.n.told[0].CSR) != "CSR 1" || w.n.told[0].Certificate == nil {
			t.Errorf("told %+v", w.n.told)
		}
	})
}

func TestFailureIsToldWithItsHResult(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.owe("corp", journal.OweFailure)
		w.later(5 * time.Second)
		if len(w.n.told) != 1 || w.n.told[0].HResult != ca.HResultAdminDenied || w.n.told[0].Certificate != nil {
			t.Errorf("told %+v", w.n.told)
		}
	})
}

func shortLived(c *outbox.Config) { c.FailureLife = 2 * time.Hour }

type retryAfter struct{ error }

func (retryAfter) RetryAfter() time.Duration { return 5 * time.Minute }

func TestNeighbourSaysWhenToComeAgain(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.n.fail = func(policymodule.Outcome) error { return retryAfter{errors.New("throttled")} }
		e := w.owe("corp", journal.OweSuccess)
		w.later(4 * time.Minute)
		if len(w.n.attempts) != 1 {
			t.Errorf("%d attempts within the five minutes that the cloud asked for", len(w.n.attempts))
		}
		if got := w.state(e.ID); got != journal.Withheld {
			t.Errorf("entry is %v, want withheld", got)
		}
		w.n.mu.Lock()
		w.n.fail = nil
		w.n.mu.Unlock()
		w.later(3 * time.Minute)
		if got := w.state(e.ID); got != journal.Released {
			t.Errorf("entry is %v, want released", got)
		}
	})
}

func TestDelaysGrowAndEnd(t *testing.T) {
	inWorld(t, shortLived, func(t *testing.T, w *world) {
		w.n.fail = func(policymodule.Outcome) error { return errors.New("500") }
		w.owe("corp", journal.OweFailure)
		w.later(130 * time.Minute)
		n := len(w.n.attempts)
		if n < 90 || n > 180 { // a minute apart for two hours
			t.Errorf("%d attempts in two hours", n)
		}
		if first, last := w.n.attempts[1].Sub(w.n.attempts[0]), w.n.attempts[n-1].Sub(w.n.attempts[n-2]); first > 4*time.Second || last < 45*time.Second {
			t.Errorf("delays went from %v to %v", first, last)
		}
		w.later(time.Hour)
		if len(w.n.attempts) != n {
			t.Error("a failure notification is tried for longer than its life")
		}
	})
}

func TestRevocationIsNeverGivenUp(t *testing.T) {
	inWorld(t, shortLived, func(t *testing.T, w *world) {
		w.n.revoke = func() error { return ca.ErrUnavailable }
		w.owe("corp", journal.OweRevocation)
		w.later(4 * time.Hour)
		w.n.mu.Lock()
		w.n.revoke = nil
		w.n.mu.Unlock()
		w.later(2 * time.Minute)
		if len(w.n.revoked) != 1 || w.n.revoked[0].Int64() != 77 {
			t.Errorf("revoked %v", w.n.revoked)
		}
	})
}

func TestPanicOfANeighbourCostsOneAttempt(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.n.revoke = func() error { panic("a bug in the bridge") }
		w.owe("corp", journal.OweRevocation)
		w.later(time.Minute)
		w.n.mu.Lock()
		w.n.revoke = nil
		w.n.mu.Unlock()
		w.later(3 * time.Minute)
		if len(w.n.attempts) < 2 || len(w.n.revoked) != 1 {
			t.Errorf("%d attempts, revoked %v", len(w.n.attempts), w.n.revoked)
		}
	})
}

func TestOneBrokenDebtDelaysNoOther(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.owe("an endpoint that is gone", journal.OweSuccess)
		e := w.owe("corp", journal.OweSuccess)
		w.later(5 * time.Second)
		if got := w.state(e.ID); got != journal.Released {
			t.Errorf("entry is %v", got)
		}
	})
}

func TestDeliveriesAtOnceAreBounded(t *testing.T) {
	inWorld(t, func(c *outbox.Config) { c.Concurrency = 3 }, func(t *testing.T, w *world) {
		for range 12 {
			w.owe("corp", journal.OweSuccess)
		}
		w.later(30 * time.Second)
		if len(w.n.told) != 12 || w.n.busiest != 3 {
			t.Errorf("%d told, %d at once; want 12 and 3", len(w.n.told), w.n.busiest)
		}
	})
}

func TestTellIsOneAttemptAtOnce(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.n.fail = func(policymodule.Outcome) error { return errors.New("500") }
		e := w.owe("corp", journal.OweSuccess)
		w.later(10 * time.Minute)
		attempts := func() int {
			w.n.mu.Lock()
			defer w.n.mu.Unlock()
			return len(w.n.attempts)
		}
		for before := attempts(); attempts() == before; {
			w.later(100 * time.Millisecond)
		}
		w.later(2 * time.Second) // an attempt is just over, the next one most of a minute away
		w.n.mu.Lock()
		w.n.fail = nil
		w.n.mu.Unlock()
		began := time.Now()
		got, err := w.out.Tell(t.Context(), e.ID)
		if err != nil || got.State != journal.Released || time.Since(began) > 3*time.Second {
			t.Errorf("got %v, %v after %v", got.State, err, time.Since(began))
		}
	})
}
