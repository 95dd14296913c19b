package scephttp_test

import (
	"context"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/certconnector/certconnector/scep"
	"github.com/certconnector/certconnector/scep/scepclient"
	"github.com/certconnector/certconnector/scep/scephttp"
)

// from posts a message as if it came from an address.
func from(h http.Handler, address string, message []byte) *http.Response {
	return answerOf(h, address, path+"?operation=PKIOperation", message)
}

func answerOf(h http.Handler, address, target string, message []byte) *http.Response {
	r := httptest.NewRequest("POST", target, strings.NewReader(string(message)))
	r.RemoteAddr = address
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

// TestFailureLimit refuses a source that fails too often, only that source,
// only PKIOperation, and only for a while.
func TestFailureLimit(t *testing.T) {
	a := newAuthority(t, false)
	good := a.message(t, scepclient.Quirks{}, "open sesame").Raw
	refused := a.message(t, scepclient.Quirks{}, "wrong").Raw
	forged := a.message(t, scepclient.Quirks{}, "open sesame").Raw
	forged[len(forged)-1] ^= 1 // the signature
	undecryptable := a.message(t, scepclient.Quirks{}, "x")
	undecryptable.Recipients = undecryptable.Service.Certificates[:1] // the signing certificate
	if _, err := undecryptable.Build(); err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{"refused": refused, "forged": forged, "undecryptable": undecryptable.Raw} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, w := handler(t, scephttp.Limits{FailuresPerMinute: 6}, a.endpoint())
				const source, neighbour, stranger = "[2001:db8::1]:5", "[2001:db8::ffff:2]:6", "[2001:db8:0:1::1]:5"
				for range 6 {
					if r := from(h, source, bad); r.StatusCode != 200 || w.last(t).Status != scep.Failure {
						t.Fatalf("status %d, %+v; want a signed FAILURE", r.StatusCode, w.last(t))
					}
				}
				if r := from(h, neighbour, good); r.StatusCode != 503 || r.Header.Get("Retry-After") != "60" || w.last(t).Limited != "failures" {
					t.Errorf("the /64 is answered with %d, %+v", r.StatusCode, w.last(t))
				}
				if r := from(h, stranger, good); r.StatusCode != 200 {
					t.Errorf("another source is answered with %d", r.StatusCode)
				}
				caps := httptest.NewRequest("GET", path+"?operation=GetCACaps", nil)
				caps.RemoteAddr = source
				rec := httptest.NewRecorder()
				if h.ServeHTTP(rec, caps); rec.Code != 200 {
					t.Errorf("GetCACaps is answered with %d", rec.Code)
				}
				time.Sleep(10 * time.Second)
				if r := from(h, source, good); r.StatusCode != 200 {
					t.Errorf("after the time of one failure: %d", r.StatusCode)
				}
			})
		})
	}
}

// TestSuccessesAreNotCounted however many there are.
func TestSuccessesAreNotCounted(t *testing.T) {
	a := newAuthority(t, false)
	good := a.message(t, scepclient.Quirks{}, "open sesame").Raw
	h, _ := handler(t, scephttp.Limits{FailuresPerMinute: 1}, a.endpoint())
	for range 20 {
		if r := from(h, "192.0.2.1:5", good); r.StatusCode != 200 {
			t.Fatalf("status %d", r.StatusCode)
		}
	}
}

// The configuration is replaced: who failed too often is still turned away, by
// the limit of the new one.
func TestFailuresAreInherited(t *testing.T) {
	a := newAuthority(t, false)
	refused := a.message(t, scepclient.Quirks{}, "wrong").Raw
	synctest.Test(t, func(t *testing.T) {
		old, _ := handler(t, scephttp.Limits{FailuresPerMinute: 6}, a.endpoint())
		next, _ := handler(t, scephttp.Limits{FailuresPerMinute: 6}, a.endpoint())
		lenient, _ := handler(t, scephttp.Limits{FailuresPerMinute: -1}, a.endpoint())
		for range 6 {
			from(old, "192.0.2.1:1", refused)
		}
		next.Inherit(old)
		lenient.Inherit(old)
		if r := from(next, "192.0.2.1:1", refused); r.StatusCode != 503 {
			t.Errorf("the failures are forgotten: HTTP %d", r.StatusCode)
		}
		if r := from(next, "192.0.2.2:1", refused); r.StatusCode != 200 {
			t.Errorf("another source: HTTP %d", r.StatusCode)
		}
		if r := from(lenient, "192.0.2.1:1", refused); r.StatusCode != 200 {
			t.Errorf("without a limit: HTTP %d", r.StatusCode)
		}
	})
}

// TestFailureLimitOptions covers what an operator can change.
func TestFailureLimitOptions(t *testing.T) {
	a := newAuthority(t, false)
	bad := a.message(t, scepclient.Quirks{}, "wrong").Raw
	proxied := func(r *http.Request) netip.Addr { return netip.MustParseAddr("192.0.2.77") }
	for name, row := range map[string]struct {
		limits scephttp.Limits
		second string
		want   int
	}{
		"loopback counts":            {scephttp.Limits{FailuresPerMinute: 1}, "127.0.0.1:2", 503},
		"loopback exempted":          {scephttp.Limits{FailuresPerMinute: 1, ExemptLoopback: true}, "127.0.0.1:2", 200},
		"no limit":                   {scephttp.Limits{FailuresPerMinute: -1}, "127.0.0.1:2", 200},
		"mapped IPv4 is IPv4":        {scephttp.Limits{FailuresPerMinute: 1}, "[::ffff:127.0.0.1]:2", 503},
		"another IPv4":               {scephttp.Limits{FailuresPerMinute: 1}, "127.0.0.2:2", 200},
		"the proxy tells the source": {scephttp.Limits{FailuresPerMinute: 1, Source: proxied}, "198.51.100.1:2", 503},
	} {
		t.Run(name, func(t *testing.T) {
			h, _ := handler(t, row.limits, a.endpoint())
			if r := from(h, "127.0.0.1:1", bad); r.StatusCode != 200 {
				t.Fatalf("first failure: %d", r.StatusCode)
			}
			if r := from(h, row.second, bad); r.StatusCode != row.want {
				t.Errorf("second failure: %d, want %d", r.StatusCode, row.want)
			}
		})
	}
}

// TestFailuresFromEverywhere: many sources together use up the openings of the
// RA key. Then those that failed are slowed down, the others are not.
func TestFailuresFromEverywhere(t *testing.T) {
	a := newAuthority(t, false)
	good := a.message(t, scepclient.Quirks{}, "open sesame").Raw
	bad := a.message(t, scepclient.Quirks{}, "x")
	bad.Recipients = bad.Service.Certificates[:1]
	if _, err := bad.Build(); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		h, _ := handler(t, scephttp.Limits{FailuresPerMinute: 10, OpeningsPerMinute: 30, Sources: 20}, a.endpoint())
		for i := range 30 {
			if r := from(h, fmt.Sprintf("192.0.2.%d:1", i), bad.Raw); r.StatusCode != 200 {
				t.Fatalf("failure %d: %d", i, r.StatusCode)
			}
		}
		if r := from(h, "192.0.2.29:1", good); r.StatusCode != 503 {
			t.Errorf("a source that failed: %d, want 503", r.StatusCode)
		}
		if r := from(h, "203.0.113.1:1", good); r.StatusCode != 200 {
			t.Errorf("a source that never failed: %d, want 200", r.StatusCode)
		}
	})
}

// TestHeldExchanges: a held exchange takes no slot of the cryptography, but
// there is an end to how many are held.
func TestHeldExchanges(t *testing.T) {
	a := newAuthority(t, false)
	good := a.message(t, scepclient.Quirks{}, "open sesame").Raw
	synctest.Test(t, func(t *testing.T) {
		a.before = func(context.Context) { time.Sleep(25 * time.Second) }
		h, w := handler(t, scephttp.Limits{Concurrency: 1, Queue: 10, Held: 10, PerSource: -1}, a.endpoint())
		var group sync.WaitGroup
		for range 10 {
			group.Go(func() {
				if r := from(h, "192.0.2.1:1", good); r.StatusCode != 200 {
					t.Errorf("held exchange: %d", r.StatusCode)
				}
			})
		}
		time.Sleep(time.Second)
		if r := from(h, "192.0.2.2:1", good); r.StatusCode != 503 || w.last(t).Limited != "held" {
			t.Errorf("one too many: %d, %+v", r.StatusCode, w.last(t))
		}
		group.Wait()
		if r := from(h, "192.0.2.2:1", good); r.StatusCode != 200 {
			t.Errorf("afterwards: %d", r.StatusCode)
		}
	})
}

// TestBusy: when all slots are taken a message waits for a while, then the
// device is sent away.
func TestBusy(t *testing.T) {
	a := newAuthority(t, false)
	good := a.message(t, scepclient.Quirks{}, "open sesame").Raw
	synctest.Test(t, func(t *testing.T) {
		e := a.endpoint()
		slow := a.slow(t, 20*time.Second)
		e.RA = func() *scep.RA { return slow }
		h, w := handler(t, scephttp.Limits{Concurrency: 1, QueueTime: 3 * time.Second}, e)
		var first sync.WaitGroup
		first.Go(func() {
			if r := from(h, "192.0.2.1:1", good); r.StatusCode != 200 {
				t.Errorf("the one in the slot: %d", r.StatusCode)
			}
		})
		synctest.Wait()
		start := time.Now()
		if r := from(h, "192.0.2.2:1", good); r.StatusCode != 503 || w.last(t).Limited != "too_slow" {
			t.Errorf("the next: %d, %+v", r.StatusCode, w.last(t))
		}
		if waited := time.Since(start); waited != 3*time.Second {
			t.Errorf("it waited %v", waited)
		}
		first.Wait()
	})
}

// TestLargeBodies may not fill the memory: few are under way at a time, and
// they are in nobody's way.
func TestLargeBodies(t *testing.T) {
	a := newAuthority(t, false)
	small := a.message(t, scepclient.Quirks{}, "open sesame").Raw
	req := device("open sesame")
	req.Service = a.service()
	req.CSR.Extensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: make([]byte, 80<<10)}}
	tr, err := (&scepclient.Client{}).Prepare(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	large := tr.Message.Raw
	synctest.Test(t, func(t *testing.T) {
		a.before = func(context.Context) { time.Sleep(time.Second) }
		h, w := handler(t, scephttp.Limits{Large: 1}, a.endpoint())
		var first sync.WaitGroup
		first.Go(func() {
			if r := from(h, "192.0.2.1:1", large); r.StatusCode != 200 {
				t.Errorf("the first: %d", r.StatusCode)
			}
		})
		synctest.Wait()
		if r := from(h, "192.0.2.1:1", large); r.StatusCode != 503 || w.last(t).Limited != "large" {
			t.Errorf("the second: %d, %+v", r.StatusCode, w.last(t))
		}
		if r := from(h, "192.0.2.1:1", small); r.StatusCode != 200 {
			t.Errorf("a usual one: %d", r.StatusCode)
		}
		first.Wait()
		if r := from(h, "192.0.2.1:1", large); r.StatusCode != 200 {
			t.Errorf("afterwards: %d", r.StatusCode)
		}
	})
}

// patience is an error that says when to come again.
type patience struct{ error }

func (patience) RetryAfter() time.Duration { return 1500 * time.Millisecond }

// TestTransientErrors send the device away with 503 and no CertRep.
func TestTransientErrors(t *testing.T) {
	for name, row := range map[string]struct {
		err   error
		after time.Duration
		want  string
	}{
		"default":             {errDown, 0, "60"},
		"endpoint's":          {errDown, 5 * time.Minute, "300"},
		"error's own, up":     {patience{errDown}, 5 * time.Minute, "2"},
		"wrapped error's own": {fmt.Errorf("issuing: %w", patience{errDown}), 0, "2"},
		"joined error's own":  {errors.Join(errDown, patience{errDown}), 0, "2"},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAuthority(t, false)
			a.err = row.err
			e := a.endpoint()
			e.RetryAfter = row.after
			h, w := handler(t, scephttp.Limits{FailuresPerMinute: 1}, e)
			m := a.message(t, scepclient.Quirks{}, "open sesame").Raw
			for range 3 { // not the device's fault: no token is taken
				r := from(h, "192.0.2.1:1", m)
				if r.StatusCode != 503 || r.Header.Get("Retry-After") != row.want || w.last(t).Replied {
					t.Errorf("status %d, Retry-After %q, %+v; want 503, %s", r.StatusCode, r.Header.Get("Retry-After"), w.last(t), row.want)
				}
			}
		})
	}
}
