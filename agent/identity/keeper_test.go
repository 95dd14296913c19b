package identity_test

import (
	"context"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/identity"
	"github.com/certconnector/certconnector/internal/testkeys"
)

func (w *world) keeper() *identity.Keeper {
	return identity.NewKeeper(identity.Config{Clock: w.clock.Now, Log: w.logger})
}

// certificate is one that ends so many days after the start.
func (w *world) certificate(days int) *x509.Certificate {
	w.t.Helper()
	issuer, _ := w.ca.state()
	w.clock.Add(time.Duration(days-397) * day)
	cert, err := issuer.IssueTLS(w.t.Context(), []string{"a.example"}, testkeys.RSA2048(0).Public())
	w.clock.Add(time.Duration(397-days) * day)
	if err != nil {
		w.t.Fatal(err)
	}
	return cert
}

func TestWarnsOnceAtEachStageAndDailyAtTheEnd(t *testing.T) {
	w := newWorld(t)
	w.clock.Add(-500 * day)
	w.ca.renew(10*365*day, "Issuing CA")
	w.clock.Add(500 * day)
	cert := w.certificate(100)
	keeper := w.keeper()
	keeper.Add(identity.Note(func(time.Time) []identity.Item {
		return []identity.Item{identity.Describe("front end", identity.KindCRPClient, cert, "a file")}
	}, w.clock.Now))
	var warned, failed []int
	for n := range 103 * 24 {
		before := w.log.Len()
		keeper.Tend(t.Context())
		for _, e := range w.log.All()[before:] {
			left := int(cert.NotAfter.Sub(w.clock.Now()) / day)
			switch e.Message {
			case "own certificate ends soon":
				warned = append(warned, left)
			case "own certificate has expired":
				failed = append(failed, left)
			default:
				t.Errorf("hour %d: %s", n, e.Message)
			}
		}
		w.clock.Add(time.Hour)
	}
	if want := []int{60, 30, 14, 6, 5, 4, 3, 2, 1, 0}; !slices.Equal(trimmed(warned), want) {
		t.Errorf("warned with %v days left, want %v", warned, want)
	}
	if !slices.Equal(failed, []int{0, -1, -2}) {
		t.Errorf("errors with %v days left", failed)
	}
	if p := keeper.Problems(); len(p) != 1 || !strings.HasPrefix(p[0].Problem, "expired on") {
		t.Errorf("problems %+v", p)
	}
}

// trimmed takes 59 for 60 and so on: the hours of a day do not matter here.
func trimmed(days []int) []int {
	out := slices.Clone(days)
	for i, d := range out {
		if slices.Contains([]int{59, 29, 13}, d) {
			out[i]++
		}
	}
	return out
}

func TestWhatIsRenewedIsNoNewsUntilItFails(t *testing.T) {
	w := newWorld(t)
	cert := w.certificate(397)
	problem := ""
	keeper := w.keeper()
	keeper.Add(identity.Note(func(time.Time) []identity.Item {
		i := identity.Describe("endpoint", identity.KindRASigning, cert, "made here")
		i.Managed, i.Problem = true, problem
		return []identity.Item{i}
	}, w.clock.Now))
	w.clock.Add(360 * day)
	keeper.Tend(t.Context())
	if w.log.Len() != 0 {
		t.Errorf("warned of what is renewed: %v", w.log.All())
	}
	problem = "the CA is down"
	for range 3 {
		keeper.Tend(t.Context())
	}
	if got := w.log.FilterMessage("own certificate ends soon").All(); len(got) != 1 || got[0].ContextMap()["problem"] != problem {
		t.Errorf("warned %d times: %v", len(got), got)
	}
}

func TestInventoryIsSortedByWhatEndsFirst(t *testing.T) {
	w := newWorld(t)
	keeper := w.keeper()
	keeper.Add(identity.Note(identity.Secret("tenant contoso", identity.KindEntraSecret, "a file", time.Time{}), w.clock.Now))
	for _, days := range []int{397, 405, 400} {
		cert := w.certificate(days)
		keeper.Add(identity.Note(func(time.Time) []identity.Item {
			return []identity.Item{identity.Describe("x", identity.KindTLS, cert, "a file")}
		}, w.clock.Now))
	}
	chain, err := w.ca.Chain(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	keeper.Add(identity.Note(identity.EmbeddedCA("lab", "ca.crt.pem", chain), w.clock.Now))
	keeper.Add(identity.Note(identity.OCSPSigner("lab", func() *x509.Certificate { return nil }), w.clock.Now))
	var got []string
	for _, i := range keeper.Inventory() {
		got = append(got, string(i.Kind))
	}
	if want := []string{"tls", "tls", "tls", "embedded-ca", "ocsp-signer", "entra-secret"}; !slices.Equal(got, want) {
		t.Errorf("order %v, want %v", got, want)
	}
	if i := keeper.Inventory(); !i[0].NotAfter.Before(i[1].NotAfter) || !i[1].NotAfter.Before(i[2].NotAfter) {
		t.Error("what ends first is not first")
	}
	w.clock.Add(9 * 365 * day)
	last := keeper.Inventory()
	if n := slices.IndexFunc(last, func(i identity.Item) bool { return i.Kind == identity.KindEmbeddedCA }); !strings.Contains(last[n].Problem, "cut short") {
		t.Errorf("row %+v", last[n])
	}
}

// counting counts, and fails when it is told.
type counting struct {
	tended, looked, renewed int
	err                     error
}

func (c *counting) Items() []identity.Item      { return nil }
func (c *counting) Tend(context.Context) error  { c.tended++; return c.err }
func (c *counting) Look() error                 { c.looked++; return nil }
func (c *counting) Named(name string) bool      { return name == "endpoint corp" }
func (c *counting) Renew(context.Context) error { c.renewed++; return nil }

func TestRunTendsHourlyAndLooksEveryMinute(t *testing.T) {
	w := newWorld(t)
	own := &counting{err: errors.New("the CA is down")}
	ctx, stop := context.WithCancel(t.Context())
	keeper := identity.NewKeeper(identity.Config{Clock: w.clock.Now, Log: w.logger, Wait: func(ctx context.Context, d time.Duration) error {
		w.clock.Add(d)
		if w.clock.Now().Sub(start) > 25*time.Hour+30*time.Second {
			stop()
		}
		return ctx.Err()
	}})
	keeper.Add(own)
	if err := keeper.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if own.tended != 26 || own.looked != 25*59 {
		t.Errorf("tended %d times and looked %d times in 25 hours", own.tended, own.looked)
	}
	// The same failure is said once a day, and a look does not hide it.
	if n := w.log.FilterMessage("own certificate needs attention").Len(); n != 2 {
		t.Errorf("said %d times", n)
	}
}

func TestRenewByName(t *testing.T) {
	w := newWorld(t)
	own := &counting{}
	keeper := w.keeper()
	keeper.Add(own)
	if err := keeper.Renew(t.Context(), "endpoint corp"); err != nil || own.renewed != 1 {
		t.Errorf("%v, renewed %d times", err, own.renewed)
	}
	if err := keeper.Renew(t.Context(), "endpoint other"); !errors.Is(err, identity.ErrUnknown) {
		t.Errorf("got %v", err)
	}
}

func TestChainIsAskedOnceADay(t *testing.T) {
	w := newWorld(t)
	asked := 0
	chain := identity.NewChain(func(ctx context.Context) ([]*x509.Certificate, error) {
		asked++
		return w.ca.Chain(ctx)
	}, w.clock.Now)
	for range 72 {
		if c, err := chain.Get(t.Context()); err != nil || len(c) != 1 {
			t.Fatal(c, err)
		}
		w.clock.Add(time.Hour)
	}
	if asked != 3 {
		t.Errorf("asked %d times in three days", asked)
	}
	w.ca.set(errors.New("down"))
	if c, err := chain.Get(t.Context()); err == nil || len(c) != 1 {
		t.Errorf("what was known is forgotten: %v, %v", c, err)
	}
}
