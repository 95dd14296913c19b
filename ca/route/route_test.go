package route_test

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/catest"
	"github.com/certconnector/certconnector/ca/embedded"
	"github.com/certconnector/certconnector/ca/route"
	"github.com/certconnector/certconnector/internal/secret"
)

// fake is a road that answers as it is told.
type fake struct {
	mu     sync.Mutex
	err    error
	slow   time.Duration
	calls  int
	most   int
	active int
}

func (f *fake) set(err error) { f.mu.Lock(); f.err = err; f.mu.Unlock() }

func (f *fake) Issue(ctx context.Context, _ ca.Request) (*ca.Issued, error) {
	f.mu.Lock()
	f.calls++
	f.active++
	f.most = max(f.most, f.active)
	err, slow := f.err, f.slow
	f.mu.Unlock()
	defer func() { f.mu.Lock(); f.active--; f.mu.Unlock() }()
	select {
	case <-time.After(slow):
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ca.ErrOutcomeUnknown, ctx.Err())
	}
	if err != nil {
		return nil, err
	}
	return &ca.Issued{Certificate: &x509.Certificate{}}, nil
}

func (f *fake) Chain(context.Context) ([]*x509.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return []*x509.Certificate{{}}, f.err
}

func (f *fake) count() int { f.mu.Lock(); defer f.mu.Unlock(); return f.calls }

func newCA(t *testing.T, cfg route.Config, roads ...*fake) *route.CA {
	t.Helper()
	cfg.Name = "issuing"
	for i, r := range roads {
		cfg.Roads = append(cfg.Roads, route.Road{Name: fmt.Sprintf("road %d", i), CA: r})
	}
	c, err := route.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestNextRoadOnlyWhenNothingWasSubmitted(t *testing.T) {
	for _, row := range []struct {
		name  string
		first error
		next  bool
	}{
		{"unavailable", fmt.Errorf("refused: %w", ca.ErrUnavailable), true},
		{"outcome unknown", ca.ErrOutcomeUnknown, false},
		{"denied", &ca.Denied{Text: "no"}, false},
		{"pending", &ca.Pending{RequestID: "7"}, false},
		{"issued", nil, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			first, second := &fake{err: row.first}, &fake{}
			_, err := newCA(t, route.Config{}, first, second).Issue(t.Context(), ca.Request{})
			if row.next != (second.count() == 1) {
				t.Errorf("the second road was asked %d times", second.count())
			}
			if row.next && err != nil || !row.next && !errors.Is(err, row.first) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestDeadRoadIsLeftOutForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := &fake{err: ca.ErrUnavailable}, &fake{}
		c := newCA(t, route.Config{}, first, second)
		issue := func(n int) {
			t.Helper()
			for range n {
				if _, err := c.Issue(t.Context(), ca.Request{}); err != nil {
					t.Fatal(err)
				}
			}
		}
		issue(10)
		if n := first.count(); n != 3 {
			t.Fatalf("the dead road was asked %d times, want 3", n)
		}
		time.Sleep(15 * time.Second)
		issue(10)
		if n := first.count(); n != 4 {
			t.Fatalf("after a pause: asked %d times, want one probe more", n)
		}
		time.Sleep(15 * time.Second) // the pause has doubled
		issue(1)
		if n := first.count(); n != 4 {
			t.Fatalf("the pause did not grow: asked %d times", n)
		}
		first.set(nil)
		time.Sleep(15 * time.Second)
		issue(5)
		if first.count() != 9 {
			t.Errorf("healed: asked %d times, want 9", first.count())
		}
	})
}

// A CA that swallows requests is dead too, and a caller who gave up says
// nothing of it.
func TestSilentRoadIsLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		only := &fake{err: ca.ErrOutcomeUnknown}
		c := newCA(t, route.Config{}, only)
		for range 3 {
			_, _ = c.Issue(t.Context(), ca.Request{})
		}
		if _, err := c.Issue(t.Context(), ca.Request{}); !errors.Is(err, ca.ErrUnavailable) || only.count() != 3 {
			t.Errorf("got %v after %d calls", err, only.count())
		}
		patient := &fake{slow: time.Minute}
		c = newCA(t, route.Config{}, patient)
		for range 5 {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			_, _ = c.Issue(ctx, ca.Request{})
		}
		if patient.count() != 5 {
			t.Errorf("callers who gave up closed the road after %d calls", patient.count())
		}
	})
}

func TestCallsAndLineAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &fake{slow: 5 * time.Second}
		c := newCA(t, route.Config{Concurrent: 2, Queue: 3, Patience: 8 * time.Second}, slow)
		var mu sync.Mutex
		var refused, issued int
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				_, err := c.Issue(t.Context(), ca.Request{})
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					issued++
				case errors.Is(err, ca.ErrUnavailable):
					refused++
				default:
					t.Error(err)
				}
			})
		}
		all.Wait()
		// Two at once, three wait: of those the first two get their turn after 5 s,
		// the last one loses patience.
		if issued != 4 || refused != 16 || slow.most != 2 {
			t.Errorf("issued %d, refused %d, at most %d at once", issued, refused, slow.most)
		}
	})
}

func TestChainByAnyRoad(t *testing.T) {
	c := newCA(t, route.Config{}, &fake{err: errors.New("no")}, &fake{})
	if chain, err := c.Chain(t.Context()); err != nil || len(chain) != 1 {
		t.Errorf("%d certificates, %v", len(chain), err)
	}
	if _, err := route.New(route.Config{Name: "none"}); err == nil {
		t.Error("a CA without a road")
	}
}

// The contract holds through a road: nothing is lost or added on the way.
func TestContract(t *testing.T) {
	dir := t.TempDir()
	if _, err := embedded.Create(dir, embedded.Options{Subject: pkix.Name{CommonName: "Routed CA"}, KeyKind: embedded.P256}); err != nil {
		t.Fatal(err)
	}
	key, err := embedded.LoadKey(dir + "/" + embedded.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := embedded.LoadChain(dir + "/" + embedded.ChainFile)
	if err != nil {
		t.Fatal(err)
	}
	sealer, err := secret.NewSealer(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	catest.Run(t, catest.Harness{
		Abilities:     []catest.Ability{catest.CanRevoke, catest.CanCollect, catest.CanFind, catest.CanCheck, catest.CanPublish},
		KeepsValidity: true,
		New: func(t *testing.T) *catest.Bridge {
			issuer, err := embedded.Open(embedded.Config{
				Name: "lab", Key: key, Chain: chain, Register: catest.NewRegister(), Sealer: sealer,
				Profiles: []embedded.Profile{{Name: "Device"}, {Name: "Careful", Approval: embedded.Manual}, {Name: "Strict", MinRSABits: 8192}},
			})
			if err != nil {
				t.Fatal(err)
			}
			c, err := route.New(route.Config{Name: "issuing", Roads: []route.Road{{Name: "embedded", CA: issuer}}, Concurrent: 64})
			if err != nil {
				t.Fatal(err)
			}
			return &catest.Bridge{
				Authority: c, Templates: catest.Templates{Issue: "Device", Park: "Careful", Deny: "Strict", Unknown: "Nobody"},
				Approve: issuer.Approve, Deny: func(ctx context.Context, id string) error { return issuer.Deny(ctx, id, "not ours") },
			}
		},
	})
}
