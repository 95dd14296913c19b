package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/jobs"
	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/intune"
)

// TestCoolDown: a source is never asked within its interval, and soon after
// it, whatever happens in between.
func TestCoolDown(t *testing.T) {
	long(t)
	const interval, most = time.Hour, time.Hour + 5*time.Minute + 2*time.Second
	for name, between := range map[string]func(t *testing.T, w *world){
		"nothing happens": func(t *testing.T, w *world) { w.run(5 * time.Hour) },
		"restarted often": func(t *testing.T, w *world) {
			for range 20 {
				w.run(15 * time.Minute)
			}
		},
		"killed and opened": func(t *testing.T, w *world) {
			for range 20 {
				w.run(15 * time.Minute)
				w.close()
				w.open()
			}
		},
		"downloads that fail": func(t *testing.T, w *world) {
			w.cloud.down = func() error {
				return &intune.HTTPError{Call: "downloadRevocationRequests", Status: 500, After: time.Minute}
			}
			w.run(5 * time.Hour)
		},
		"downloads that get no answer": func(t *testing.T, w *world) {
			w.cloud.down = func() error {
				return &intune.NetworkError{Call: "downloadRevocationRequests", Err: errors.New("reset")}
			}
			w.run(5 * time.Hour)
		},
		"downloads that panic": func(t *testing.T, w *world) {
			w.cloud.down = func() error { panic("a bug") }
			w.run(5 * time.Hour)
		},
		"two instances": func(t *testing.T, w *world) {
			one := w.start()
			w.owner = "two"
			two := w.start()
			time.Sleep(150 * time.Minute)
			one()
			time.Sleep(150 * time.Minute)
			two()
		},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				between(t, w)
				asked := w.cloud.downloads()
				if len(asked) < 4 || len(asked) > 5 {
					t.Fatalf("asked %d times in five hours", len(asked))
				}
				for i, at := range asked[1:] {
					if d := at.Sub(asked[i]); d < interval || d > most && name == "nothing happens" {
						t.Errorf("asked again after %v", d)
					}
				}
			})
		})
	}
}

// TestNotReached: a question that surely did not get there is asked again
// soon, and with growing delays; the cool-down begins with the one that did.
func TestNotReached(t *testing.T) {
	long(t)
	for name, failure := range map[string]error{
		"no connection": &intune.NetworkError{Call: "downloadRevocationRequests", Connect: true, Err: errors.New("refused")},
		"no token":      &intune.AuthError{OAuth: "invalid_client"},
		"no address":    &intune.ServiceNotFoundError{Service: "PkiConnectorFEService"},
		"no Graph":      &intune.HTTPError{Call: "discovery", Status: 503},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.cloud.down = func() error { return failure }
				stop := w.start()
				defer stop()
				time.Sleep(90 * time.Second)
				if n := len(w.cloud.downloads()); n != 2 {
					t.Errorf("asked %d times in 90 s", n)
				}
				time.Sleep(5 * time.Hour)
				n := len(w.cloud.downloads())
				if n < 18 || n > 35 {
					t.Errorf("asked %d times in five hours", n)
				}
				w.cloud.set(func() { w.cloud.down = nil })
				time.Sleep(19 * time.Minute)
				if got := len(w.cloud.downloads()); got != n+1 {
					t.Errorf("asked %d times more when the network was back", got-n)
				}
				time.Sleep(40 * time.Minute)
				if got := len(w.cloud.downloads()); got != n+1 {
					t.Error("asked again within the cool-down")
				}
			})
		})
	}
}

// TestClockJumps: a clock that jumps neither asks within the cool-down for
// good nor stops asking.
func TestClockJumps(t *testing.T) {
	long(t)
	const year = 365 * 24 * time.Hour
	for name, by := range map[string]time.Duration{
		"a year ahead": year, "a year back": -year, "two minutes back": -2 * time.Minute, "an hour back": -time.Hour,
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				stop := w.start()
				time.Sleep(10 * time.Minute)
				w.jump(by)
				serial := w.issue(w.issuing, "issuing", tenant, 0x4711)
				w.cloud.ask(request("r", serial, "issuing"))
				time.Sleep(2 * time.Hour)
				w.answers(map[string]string{"r": "None"})
				n := len(w.cloud.downloads())
				if n < 2 || n > 3 {
					t.Errorf("asked %d times in two hours", n)
				}
				stop()
				w.jump(-by) // and right again, over a restart
				w.cloud.ask(request("s", serial, "issuing"))
				w.run(2 * time.Hour)
				w.answers(map[string]string{"s": "None"})
				if n := len(w.cloud.downloads()); n > 6 {
					t.Errorf("asked %d times in four hours", n)
				}
			})
		})
	}
}

// TestLeadIsHandedOver: of two instances one asks; the other takes over at
// once when the first one stops, and after its term when it dies.
func TestLeadIsHandedOver(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.polled.Interval, w.polled.Jitter = time.Hour, time.Second
		stopOne := w.start()
		time.Sleep(time.Second)
		w.owner = "two"
		stopTwo := w.start()
		time.Sleep(30 * time.Minute)
		if s := w.source(); s.Owner != "one" {
			t.Fatalf("led by %q", s.Owner)
		}
		stopOne()
		time.Sleep(16 * time.Second)
		if s := w.source(); s.Owner != "two" {
			t.Fatalf("led by %q", s.Owner)
		}
		stopTwo()

		// An instance that died without a word.
		if _, err := w.journal.Lead(context.Background(), jobs.RevocationSource(tenant), "dead", w.now(), 5*time.Minute); err != nil {
			t.Fatal(err)
		}
		stopTwo = w.start()
		defer stopTwo()
		time.Sleep(4 * time.Minute)
		if s := w.source(); s.Owner != "dead" {
			t.Fatalf("led by %q while the term runs", s.Owner)
		}
		time.Sleep(time.Minute + 16*time.Second)
		if s := w.source(); s.Owner != "two" {
			t.Fatalf("led by %q", s.Owner)
		}
		if n := len(w.cloud.downloads()); n != 1 {
			t.Errorf("asked %d times within an hour", n)
		}
	})
}

// TestLeadAfterAJump: whoever waits for the lead takes it also when the clock
// was put back meanwhile.
func TestLeadAfterAJump(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		one := w.start()
		time.Sleep(time.Second)
		w.owner = "two"
		two := w.start()
		defer two()
		time.Sleep(time.Minute)
		w.jump(-365 * 24 * time.Hour)
		time.Sleep(time.Minute)
		one()
		time.Sleep(time.Minute)
		if s := w.source(); s.Owner != "two" {
			t.Errorf("led by %q", s.Owner)
		}
	})
}

// TestNoJobTwiceWithTwoInstances: two instances share the jobs, and each is
// done by one.
func TestNoJobTwiceWithTwoInstances(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		want := map[string]string{}
		for i := range 40 {
			handle := fmt.Sprint("r", i)
			w.cloud.ask(request(handle, w.issue(w.issuing, "issuing", tenant, int64(0x9000+i)), "issuing"))
			want[handle] = "None"
		}
		w.issuing.hang = time.Second
		one := w.start()
		w.owner = "two"
		two := w.start()
		time.Sleep(30 * time.Second)
		one()
		// A job that found the CA busy waits for 36 s at the most, then for 72 s
		// and for 144 s, each time after five seconds at the door.
		time.Sleep(6 * time.Minute)
		two()
		w.answers(want)
		for serial, n := range w.issuing.revoked {
			if n != 1 {
				t.Errorf("serial %s was revoked %d times", serial, n)
			}
		}
		for handle, told := range w.cloud.told {
			if len(told) != 1 {
				t.Errorf("%s was reported %d times", handle, len(told))
			}
		}
	})
}

// stubborn is a journal whose disk is full.
type stubborn struct {
	journal.Jobs
	full *atomic.Bool
}

var errFull = errors.New("no space left on device")

func (s stubborn) AcceptJobs(ctx context.Context, l journal.Lead, list []journal.NewJob, now time.Time) (journal.Batch, error) {
	if s.full.Load() {
		return journal.Batch{}, errFull
	}
	return s.Jobs.AcceptJobs(ctx, l, list, now)
}

// TestFullDisk: what cannot be recorded is neither done nor answered, and
// asked for once; it is recorded as soon as there is room.
func TestFullDisk(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var full atomic.Bool
		full.Store(true)
		w.change = func(c *jobs.Config) { c.Journal = stubborn{w.journal, &full} }
		serial := w.issue(w.issuing, "issuing", tenant, 0x4711)
		w.cloud.ask(request("r", serial, "issuing"))
		stop := w.start()
		time.Sleep(3 * time.Hour)
		if w.issuing.asked() != 0 || len(w.cloud.sent()) != 0 || len(w.cloud.downloads()) != 1 {
			t.Errorf("%d calls to the CA, %d uploads, %d downloads with a full disk", w.issuing.asked(), len(w.cloud.sent()), len(w.cloud.downloads()))
		}
		if logged(w.logs, "a batch could not be recorded") == 0 || len(w.running.Problems()) == 0 {
			t.Error("nobody was told")
		}
		full.Store(false)
		time.Sleep(time.Minute)
		stop()
		w.answers(map[string]string{"r": "None"})
		if p := w.running.Problems(); len(p) != 0 {
			t.Errorf("problems %q", p)
		}
	})
}

// TestServiceGone: Microsoft has announced the end of the action that is
// asked. An operator must hear of it.
func TestServiceGone(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.cloud.down = func() error { return fmt.Errorf("HTTP 410: %w", intune.ErrActionGone) }
		stop := w.start()
		defer stop()
		time.Sleep(time.Minute)
		if p := w.running.Problems(); len(p) != 1 {
			t.Errorf("problems %q", p)
		}
		w.cloud.set(func() { w.cloud.down = nil })
		time.Sleep(2 * time.Hour)
		if p := w.running.Problems(); len(p) != 0 {
			t.Errorf("problems %q", p)
		}
		w.cloud.set(func() { w.cloud.down = func() error { return errors.New("HTTP 503") } })
		time.Sleep(5 * time.Hour)
		if p := w.running.Problems(); len(p) != 1 {
			t.Errorf("problems %q after five hours without an answer", p)
		}
	})
}

// TestFullBatch: a batch that is as large as it could be may hide others.
func TestFullBatch(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.polled.Batch = 5
		for i := range 7 {
			w.cloud.ask(request(fmt.Sprint(i), w.issue(w.issuing, "issuing", tenant, int64(0x100+i)), "issuing"))
		}
		w.run(3 * time.Hour)
		if n := logged(w.logs, "a source handed over as many jobs as were asked for"); n != 1 {
			t.Errorf("%d warnings", n)
		}
		for _, upload := range w.cloud.sent() {
			if len(upload) > 5 {
				t.Errorf("an upload of %d", len(upload))
			}
		}
		if len(w.cloud.told) != 7 {
			t.Errorf("%d answered", len(w.cloud.told))
		}
	})
}

// TestNew: what cannot work is refused before anything is asked.
func TestNew(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		for name, change := range map[string]func(*jobs.Config){
			"no owner":          func(c *jobs.Config) { c.Owner = "" },
			"no journal":        func(c *jobs.Config) { c.Journal = nil },
			"one name twice":    func(c *jobs.Config) { c.Sources = append(c.Sources, c.Sources[0]) },
			"no source":         func(c *jobs.Config) { c.Sources[0].Source = nil },
			"a batch too large": func(c *jobs.Config) { c.Sources[0].Batch = 501 },
			"a call too long":   func(c *jobs.Config) { c.CallWithin = time.Hour },
			"no handler":        func(c *jobs.Config) { c.Work[journal.IssueJob] = jobs.Work{} },
		} {
			w.change = func(c *jobs.Config) {
				change(c)
				if _, err := jobs.New(*c); err == nil {
					t.Errorf("%s: no error", name)
				}
				c.Sources, c.Work, c.Owner, c.Journal, c.CallWithin = nil, nil, "one", w.journal, 0
			}
			w.build()
		}
		if !slices.IsSorted(w.build().Problems()) {
			t.Error("problems out of order")
		}
	})
}
