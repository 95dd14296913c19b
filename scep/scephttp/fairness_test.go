package scephttp_test

import (
	"context"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/certconnector/certconnector/internal/admission"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/scep"
	"github.com/certconnector/certconnector/scep/scepclient"
	"github.com/certconnector/certconnector/scep/scephttp"
)

// named builds the message of a device of its own: its transaction ID is its
// key's, so each has another key.
func (a *authority) named(t testing.TB, device int) []byte {
	t.Helper()
	tr, err := (&scepclient.Client{}).Prepare(t.Context(), scepclient.EnrollRequest{
		Key: testkeys.RSA2048(3 + device), Service: a.service(),
		CSR: scepclient.CSR{Subject: pkix.Name{CommonName: fmt.Sprintf("device %d", device)}, Challenge: "open sesame"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return tr.Message.Raw
}

// crowded is an endpoint whose key takes a second for each message, and which
// answers at once when it was opened.
func crowded(t testing.TB, a *authority) scephttp.Endpoint {
	e := a.endpoint()
	slow := a.slow(t, time.Second)
	e.RA = func() *scep.RA { return slow }
	return e
}

// TestShed: whoever is sent away hears why, and when to come again.
func TestShed(t *testing.T) {
	a := newAuthority(t, false)
	messages := [][]byte{a.named(t, 0), a.named(t, 1), a.named(t, 2)}
	synctest.Test(t, func(t *testing.T) {
		h, w := handler(t, scephttp.Limits{Concurrency: 1, Queue: 1}, crowded(t, a))
		var all sync.WaitGroup
		for _, m := range messages[:2] {
			all.Go(func() {
				if r := from(h, "192.0.2.1:1", m); r.StatusCode != 200 {
					t.Errorf("status %d", r.StatusCode)
				}
			})
			synctest.Wait()
		}
		time.Sleep(100 * time.Millisecond)
		if s := h.Queue(); s.InUse != 1 || s.Devices != 1 || s.Oldest != 100*time.Millisecond {
			t.Errorf("queue %+v", s)
		}
		r := from(h, "192.0.2.1:1", messages[2])
		after, err := strconv.Atoi(r.Header.Get("Retry-After"))
		body, _ := io.ReadAll(r.Body)
		if r.StatusCode != 503 || err != nil || after < 5 || after > 10 || string(body) != "service unavailable: queue_full\n" {
			t.Errorf("status %d, Retry-After %q, %q", r.StatusCode, r.Header.Get("Retry-After"), body)
		}
		if e := w.last(t); e.Limited != "queue_full" || e.Replied || e.MessageType != scep.PKCSReq {
			t.Errorf("%+v", e)
		}
		all.Wait()
		if s := h.Queue(); s.InUse != 0 || s.Devices != 0 || s.Shed[admission.QueueFull] != 1 {
			t.Errorf("afterwards %+v", s)
		}
	})
}

// TestSentAwayGoesFirst: a device that was sent away before takes the place of a
// newcomer, whose challenge has more time left.
func TestSentAwayGoesFirst(t *testing.T) {
	a := newAuthority(t, false)
	messages := [][]byte{a.named(t, 0), a.named(t, 1), a.named(t, 2), a.named(t, 3), a.named(t, 4)}
	synctest.Test(t, func(t *testing.T) {
		h, _ := handler(t, scephttp.Limits{Concurrency: 1, Queue: 1}, crowded(t, a))
		var all sync.WaitGroup
		status := make([]atomic.Int32, len(messages))
		send := func(i int) {
			all.Go(func() { status[i].Store(int32(from(h, "192.0.2.1:1", messages[i]).StatusCode)) })
			synctest.Wait()
		}
		send(0) // inside
		send(1) // waits
		send(2) // is sent away
		if status[2].Load() != 503 {
			t.Fatalf("status %d, want 503", status[2].Load())
		}
		all.Wait()
		time.Sleep(10 * time.Second)
		send(3) // inside
		send(4) // waits
		send(2) // comes again
		if status[4].Load() != 503 {
			t.Errorf("the newcomer is answered with %d, want 503", status[4].Load())
		}
		all.Wait()
		if status[2].Load() != 200 {
			t.Errorf("who was sent away before is answered with %d", status[2].Load())
		}

		// With its answer it is forgotten: the next time it is a newcomer.
		send(3)
		send(4) // was sent away, and waits
		send(2)
		if status[2].Load() != 503 {
			t.Errorf("who was served is answered with %d, want 503", status[2].Load())
		}
		all.Wait()
	})
}

// TestRefusedIsForgotten: nobody keeps a place by sending forged messages.
func TestRefusedIsForgotten(t *testing.T) {
	a := newAuthority(t, false)
	messages := [][]byte{a.named(t, 0), a.named(t, 1), a.named(t, 2)}
	forged := messages[2]
	forged[len(forged)-1] ^= 1
	synctest.Test(t, func(t *testing.T) {
		h, w := handler(t, scephttp.Limits{Concurrency: 1, Queue: 1}, crowded(t, a))
		var all sync.WaitGroup
		busy := func() {
			for _, m := range messages[:2] {
				all.Go(func() { from(h, "192.0.2.1:1", m) })
				synctest.Wait()
			}
		}
		for range 2 { // the second time it would be served before one that waits, if it were remembered
			busy()
			if r := from(h, "192.0.2.2:1", forged); r.StatusCode != 503 {
				t.Errorf("status %d, want 503", r.StatusCode)
			}
			all.Wait()
			if r := from(h, "192.0.2.2:1", forged); r.StatusCode != 200 || w.last(t).Status != scep.Failure {
				t.Errorf("status %d, %+v", r.StatusCode, w.last(t))
			}
		}
	})
}

// TestStress: many devices, of which some hang up, leave no place taken.
func TestStress(t *testing.T) {
	a := newAuthority(t, false)
	messages := [][]byte{a.named(t, 0), a.named(t, 1), a.named(t, 2)}
	e := a.endpoint()
	e.Concurrent, e.Held = 1, 12
	h, w := handler(t, scephttp.Limits{Concurrency: 2, Queue: 3, QueueTime: 20 * time.Millisecond, PerSource: 8, FailuresPerMinute: -1, Transactions: 2}, e)
	// Exchanges are held until somebody was sent away, on a quick machine as on a
	// slow one: there are more devices than places.
	a.before = func(ctx context.Context) {
		for limited, _ := w.endings(); limited == 0 && ctx.Err() == nil; limited, _ = w.endings() {
			time.Sleep(time.Millisecond)
		}
	}
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			for n := range 20 {
				ctx, cancel := context.WithCancel(t.Context())
				if n%4 == 0 {
					time.AfterFunc(time.Duration(i)*200*time.Microsecond, cancel)
				}
				r := httptest.NewRequest("POST", path+"?operation=PKIOperation", strings.NewReader(string(messages[(i+n)%3])))
				r.RemoteAddr = fmt.Sprintf("192.0.2.%d:1", i%2)
				h.ServeHTTP(httptest.NewRecorder(), r.WithContext(ctx))
				cancel()
			}
		})
	}
	all.Wait()
	if s := h.Queue(); s.InUse != 0 || s.Devices != 0 || s.Answers != 0 {
		t.Errorf("left behind: %+v", s)
	}
	if limited, served := w.endings(); limited == 0 || served == 0 {
		t.Errorf("%d limited, %d served", limited, served)
	}
	var last sync.WaitGroup
	for range 8 { // as many as the source may have
		last.Go(func() {
			if r := from(h, "192.0.2.1:1", messages[0]); r.StatusCode == 503 && w.last(t).Limited == "source_limit" {
				t.Error("a place of the source is taken for good")
			}
		})
	}
	last.Wait()
}

// TestPendingGoesFirst: a device that was told PENDING goes before newcomers,
// until its challenge must have ended.
func TestPendingGoesFirst(t *testing.T) {
	a := newAuthority(t, false)
	messages := [][]byte{a.named(t, 0), a.named(t, 1), a.named(t, 2)}
	for name, row := range map[string]struct {
		later time.Duration
		first bool
	}{"within the hour": {59 * time.Minute, true}, "after it": {61 * time.Minute, false}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a.set(func() { a.pending, a.asked = 1, nil })
				h, w := handler(t, scephttp.Limits{Concurrency: 1}, crowded(t, a))
				if from(h, "192.0.2.1:1", messages[2]); w.last(t).Status != scep.Pending {
					t.Fatalf("%+v", w.last(t))
				}
				time.Sleep(row.later)
				var all sync.WaitGroup
				for _, m := range messages {
					all.Go(func() { from(h, "192.0.2.1:1", m) })
					synctest.Wait()
				}
				all.Wait()
				second := a.requests()[2].CSR.SubjectString()
				if (second == "CN=device 2") != row.first {
					t.Errorf("after %s was served next", second)
				}
			})
		})
	}
}

// TestPerSource: one address, or one /64, cannot take all exchanges; loopback is
// a proxy's.
func TestPerSource(t *testing.T) {
	a := newAuthority(t, false)
	good := a.message(t, scepclient.Quirks{}, "open sesame").Raw
	for name, row := range map[string]struct {
		limits        scephttp.Limits
		source, other string
		refused       bool
	}{
		"an address":    {scephttp.Limits{PerSource: 3}, "192.0.2.1:1", "192.0.2.2:1", true},
		"a /64":         {scephttp.Limits{PerSource: 3}, "[2001:db8::1]:1", "[2001:db8:0:1::1]:1", true},
		"half of all":   {scephttp.Limits{Held: 6}, "192.0.2.1:1", "192.0.2.2:1", true},
		"no limit":      {scephttp.Limits{PerSource: -1}, "192.0.2.1:1", "192.0.2.2:1", false},
		"local proxies": {scephttp.Limits{PerSource: 3}, "127.0.0.1:1", "192.0.2.2:1", false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a.set(func() { a.before = func(context.Context) { time.Sleep(25 * time.Second) } })
				h, w := handler(t, row.limits, a.endpoint())
				var all sync.WaitGroup
				for range 3 {
					all.Go(func() { from(h, row.source, good) })
				}
				synctest.Wait()
				if row.refused {
					if r := from(h, row.source, good); r.StatusCode != 503 || w.last(t).Limited != "source_limit" {
						t.Errorf("the fourth: %d, %+v", r.StatusCode, w.last(t))
					}
				}
				start := time.Now()
				if r := from(h, row.other, good); r.StatusCode != 200 || time.Since(start) != 25*time.Second {
					t.Errorf("another source: %d after %v", r.StatusCode, time.Since(start))
				}
				all.Wait()
				if r := from(h, row.source, good); r.StatusCode != 200 {
					t.Errorf("afterwards: %d", r.StatusCode)
				}
				if n := h.Queue().Shed[admission.SourceLimit]; (n == 1) != row.refused {
					t.Errorf("counted %d", n)
				}
			})
		})
	}
}

// TestPerEndpoint: an endpoint that is flooded takes neither all exchanges nor
// all of the cryptography from another.
func TestPerEndpoint(t *testing.T) {
	a := newAuthority(t, false)
	good := a.message(t, scepclient.Quirks{}, "open sesame").Raw
	to := func(h http.Handler, path string) (int, time.Duration) {
		start := time.Now()
		r := answerOf(h, "192.0.2.1:1", path+"?operation=PKIOperation", good)
		return r.StatusCode, time.Since(start)
	}
	synctest.Test(t, func(t *testing.T) {
		loud, quiet := crowded(t, a), crowded(t, a)
		loud.Name, loud.Path, loud.Concurrent, loud.Held = "loud", "/loud", 1, 4
		quiet.Name, quiet.Path = "quiet", "/quiet"
		h, w := handler(t, scephttp.Limits{Concurrency: 2, Held: 20}, loud, quiet)
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				if status, _ := to(h, "/loud"); status != 200 {
					t.Errorf("status %d", status)
				}
			})
		}
		synctest.Wait()
		if s := h.Queue(); s.InUse != 1 || s.Devices != 3 {
			t.Errorf("queue %+v", s)
		}
		if status, _ := to(h, "/loud"); status != 503 || w.last(t).Limited != "endpoint_limit" {
			t.Errorf("one too many: %d, %+v", status, w.last(t))
		}
		if status, waited := to(h, "/quiet"); status != 200 || waited != time.Second {
			t.Errorf("the other endpoint: %d after %v", status, waited)
		}
		all.Wait()
		if status, _ := to(h, "/loud"); status != 200 {
			t.Errorf("afterwards: %d", status)
		}
	})
}

// TestFloodIsNotLogged line by line, and not lost either.
func TestFloodIsNotLogged(t *testing.T) {
	a := newAuthority(t, false)
	good := a.message(t, scepclient.Quirks{}, "open sesame").Raw
	synctest.Test(t, func(t *testing.T) {
		a.set(func() { a.before = func(context.Context) { time.Sleep(25 * time.Second) } })
		h, w := handler(t, scephttp.Limits{PerSource: 1}, a.endpoint())
		var held sync.WaitGroup
		held.Go(func() { from(h, "192.0.2.1:1", good) })
		synctest.Wait()
		for range 50 {
			from(h, "192.0.2.1:1", good)
		}
		time.Sleep(time.Second)
		from(h, "192.0.2.1:1", good)
		lines := w.logs.FilterMessage("scep message answered").All()
		if len(lines) != 2 {
			t.Fatalf("%d lines, want 2", len(lines))
		}
		if fields := lines[1].ContextMap(); fields["unlogged"] != int64(49) || fields["reason"] != "limit: source_limit" {
			t.Errorf("the second line has %v", fields)
		}
		held.Wait()
	})
}

// TestNonsenseWaitsForNobody: what is no message needs no turn.
func TestNonsenseWaitsForNobody(t *testing.T) {
	a := newAuthority(t, false)
	good := a.message(t, scepclient.Quirks{}, "open sesame").Raw
	synctest.Test(t, func(t *testing.T) {
		h, _ := handler(t, scephttp.Limits{Concurrency: 1}, crowded(t, a))
		var first sync.WaitGroup
		first.Go(func() { from(h, "192.0.2.1:1", good) })
		synctest.Wait()
		start := time.Now()
		if r := from(h, "192.0.2.1:1", []byte(strings.Repeat("0", 300))); r.StatusCode != 400 || time.Since(start) != 0 {
			t.Errorf("status %d after %v", r.StatusCode, time.Since(start))
		}
		first.Wait()
	})
}

// TestEnrollerHearsTheDeadline: what orders devices here orders them at the CA.
func TestEnrollerHearsTheDeadline(t *testing.T) {
	a := newAuthority(t, false)
	good := a.message(t, scepclient.Quirks{}, "open sesame").Raw
	synctest.Test(t, func(t *testing.T) {
		var ends []time.Time
		a.set(func() {
			a.pending = 1
			a.before = func(ctx context.Context) {
				end, _ := admission.Deadline(ctx)
				ends = append(ends, end)
			}
		})
		h, _ := handler(t, scephttp.Limits{ChallengeLife: 30 * time.Minute}, a.endpoint())
		start := time.Now()
		from(h, "192.0.2.1:1", good)
		time.Sleep(time.Minute)
		from(h, "192.0.2.1:1", good)
		for _, end := range ends {
			if !end.Equal(start.Add(30 * time.Minute)) {
				t.Errorf("the challenge ends at %v", end)
			}
		}
		if len(ends) != 2 {
			t.Errorf("asked %d times", len(ends))
		}
	})
}
