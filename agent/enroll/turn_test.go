package enroll_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/internal/admission"
	"github.com/certconnector/certconnector/scep"
)

// turnCA is a CA behind turns, as ca/route is: it notes whose each call is.
type turnCA struct {
	core *fakeCA

	mu      sync.Mutex
	full    bool // no turns
	issues  []admission.Ticket
	turns   []admission.Ticket
	patient time.Duration // of the last turn; 0: the context has no end
	inside  int
}

func (c *turnCA) Chain(ctx context.Context) ([]*x509.Certificate, error) { return c.core.Chain(ctx) }
func (c *turnCA) Roads() []ca.Authority                                  { return []ca.Authority{c.core} }

func (c *turnCA) Issue(ctx context.Context, r ca.Request) (*ca.Issued, error) {
	c.mu.Lock()
	c.issues = append(c.issues, admission.TicketOf(ctx))
	held := c.inside
	c.mu.Unlock()
	if held > 0 {
		return nil, errors.New("a turn is held while Issue waits for its own")
	}
	return c.core.Issue(ctx, r)
}

func (c *turnCA) Turn(ctx context.Context) (func(), error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.turns, c.patient = append(c.turns, admission.TicketOf(ctx)), 0
	if end, ok := ctx.Deadline(); ok {
		c.patient = time.Until(end)
	}
	if c.full {
		return nil, fmt.Errorf("%w: %w", ca.ErrUnavailable, &admission.Shed{Reason: admission.QueueFull, After: time.Second})
	}
	c.inside++
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.inside--
	}, nil
}

func (c *turnCA) set(change func(*turnCA)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(c)
}

// last is whose the newest of some calls was.
func (c *turnCA) last(t *testing.T, of func(*turnCA) []admission.Ticket) admission.Ticket {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	all := of(c)
	if len(all) == 0 {
		t.Fatal("the CA was not asked")
	}
	return all[len(all)-1]
}

func issues(c *turnCA) []admission.Ticket { return c.issues }
func turns(c *turnCA) []admission.Ticket  { return c.turns }

// behindTurns runs a test with a CA behind turns.
func behindTurns(t *testing.T, test func(t *testing.T, w *world, c *turnCA)) {
	t.Helper()
	inWorld(t, func(t *testing.T, w *world) {
		w.stop()
		c := &turnCA{core: w.core}
		w.ca = c
		w.start()
		test(t, w, c)
	})
}

// A device's call to the CA says how long it is of use; a job's that it can wait.
func TestCallsSayWhoseTheyAre(t *testing.T) {
	behindTurns(t, func(t *testing.T, w *world, c *turnCA) {
		began := time.Now()
		w.want(w.ask(newDevice(0, "good")), scep.Success)
		if got := c.last(t, issues); got.Class != admission.Device || !got.Deadline.Equal(began.Add(50*time.Minute)) {
			t.Errorf("a device: %+v", got)
		}

		early := began.Add(3 * time.Minute) // it was sent away for most of its time
		result, err := w.endpoint.Enroll(admission.Until(t.Context(), early), newDevice(1, "good 1").request(t, scep.PKCSReq))
		if err != nil {
			t.Fatal(err)
		}
		w.want(result, scep.Success)
		if got := c.last(t, issues); !got.Deadline.Equal(early) {
			t.Errorf("a device that came before: %+v", got)
		}

		if _, err := w.endpoint.Enroll(admission.Background(t.Context()), newDevice(2, "good 2").request(t, scep.PKCSReq)); err != nil {
			t.Fatal(err)
		}
		if got := c.last(t, issues); got.Class != admission.Job {
			t.Errorf("a job: %+v", got)
		}
	})
}

// What the settle worker takes up is a device's as long as its challenge lives,
// and a job's from then on; jobs' entries are jobs' whoever takes them up.
func TestSettleWorkerSaysWhoseItIs(t *testing.T) {
	for name, row := range map[string]struct {
		jobs  bool
		later time.Duration
		want  admission.Class
	}{
		"while the challenge lives": {false, 10 * time.Minute, admission.Device},
		"an entry of a job":         {true, 10 * time.Minute, admission.Job},
	} {
		t.Run(name, func(t *testing.T) {
			behindTurns(t, func(t *testing.T, w *world, c *turnCA) {
				w.stop()
				w.config.Jobs = row.jobs
				w.start()
				w.core.set(func(f *fakeCA) { f.deafTo, f.search = true, ca.ErrUnavailable })
				w.want(w.ask(newDevice(0, "good")), scep.Pending)
				w.later(row.later)
				if got := c.last(t, turns); got.Class != row.want {
					t.Errorf("searching: %+v", got)
				}
				w.core.set(func(f *fakeCA) { f.deafTo, f.search = false, nil })
				w.later(2 * time.Minute)
				if got := c.last(t, issues); got.Class != row.want || w.entries(1)[0].State != journal.Released {
					t.Errorf("submitting again: %+v, %v", got, w.entries(1)[0].State)
				}
			})
		})
	}
}

// A parked request is polled for nobody, until a device asks for it.
func TestParkedRequestIsADevicesWhileItAsks(t *testing.T) {
	behindTurns(t, func(t *testing.T, w *world, c *turnCA) {
		w.core.park = true
		d := newDevice(0, "good")
		w.want(w.ask(d), scep.Pending)
		w.later(2 * time.Hour)
		if got := c.last(t, turns); got.Class != admission.Job || c.patient > 3*time.Second {
			t.Errorf("polled by the settle worker: %+v, waits up to %v", got, c.patient)
		}
		c.set(func(c *turnCA) { c.turns = nil })
		asked := false
		for range 5 { // the settle worker may have the entry in hand at that moment
			w.later(11 * time.Second) // the last news is old enough to ask again
			w.want(w.send(d.request(t, scep.CertPoll)), scep.Pending)
			c.set(func(c *turnCA) {
				for _, ticket := range c.turns {
					asked = asked || ticket.Class == admission.Device && ticket.Deadline.After(time.Now())
				}
			})
		}
		if !asked {
			t.Errorf("while the device asked: %+v", c.turns)
		}
	})
}

// A search that got no turn found nothing out: the entry stays as it is, also
// when nobody waits for it any more, and ends when the CA has time.
func TestNoTurnIsNoAnswer(t *testing.T) {
	behindTurns(t, func(t *testing.T, w *world, c *turnCA) {
		w.core.set(func(f *fakeCA) { f.mute = true })
		c.set(func(c *turnCA) { c.full = true })
		w.want(w.ask(newDevice(0, "good")), scep.Pending)
		w.later(2 * time.Hour)
		if e := w.entries(1)[0]; e.State != journal.Unknown {
			t.Fatalf("without a turn the entry became %v", e.State)
		}
		if got := c.last(t, turns); got.Class != admission.Job {
			t.Errorf("long after the device gave up: %+v", got)
		}
		c.set(func(c *turnCA) { c.full = false })
		w.later(2 * time.Minute)
		if e := w.entries(1)[0]; e.State != journal.Abandoned || e.Certificate == nil {
			t.Errorf("with a turn: %v", e.State)
		}
	})
}
