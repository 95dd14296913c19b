package intune_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certconnector/certconnector/intune"
	"github.com/certconnector/certconnector/intune/intunetest"
)

const scepService = "ScepRequestValidationFEService"

func TestDiscoveryTolerates(t *testing.T) {
	const dead = "https://127.0.0.1:1/RACerts"
	for _, row := range []struct {
		name     string
		pageSize int
		services func(good string) []intunetest.Service
	}{
		{"a slash at the end", 0, func(good string) []intunetest.Service {
			return []intunetest.Service{{Provider: scepService, URI: good + "/"}}
		}},
		{"a name in another case", 0, func(good string) []intunetest.Service {
			return []intunetest.Service{{Provider: strings.ToUpper(scepService), URI: good}}
		}},
		{"the old name of the name", 0, func(good string) []intunetest.Service {
			return []intunetest.Service{{Legacy: scepService, URI: good}}
		}},
		{"the first of two is dead", 0, func(good string) []intunetest.Service {
			return []intunetest.Service{{Provider: scepService, URI: dead}, {Provider: scepService, URI: good}}
		}},
		{"the second of two is dead", 0, func(good string) []intunetest.Service {
			return []intunetest.Service{{Provider: scepService, URI: good}, {Provider: scepService, URI: dead}}
		}},
		{"an entry at a host that is not allowed", 0, func(good string) []intunetest.Service {
			return []intunetest.Service{{Provider: scepService, URI: "https://evil.example/"}, {Provider: scepService, URI: good}}
		}},
		{"an entry without an address", 0, func(good string) []intunetest.Service {
			return []intunetest.Service{{Provider: scepService}, {Provider: scepService, URI: good}}
		}},
		{"on the third page", 1, func(good string) []intunetest.Service {
			return []intunetest.Service{{Provider: "A", URI: good}, {Provider: "B", URI: good}, {Provider: scepService, URI: good}}
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t, intunetest.Options{PageSize: row.pageSize})
			w.cloud.SetServices(row.services(w.cloud.ServiceURL()))
			for range 2 {
				if err := w.validate(t, "t"); err != nil {
					t.Fatal(err)
				}
			}
			if n := w.counts(); n[intunetest.Validate] != 2 || n["unknown"] != 0 {
				t.Errorf("calls %v", n)
			}
			// The address that answered comes first from then on.
			if n := w.logs.FilterMessage("address of the service cannot be reached, trying its next").Len(); n > 1 {
				t.Errorf("the dead address was tried %d times", n)
			}
		})
	}
}

func TestDiscoveryPagesEnd(t *testing.T) {
	w := newWorld(t, intunetest.Options{PageSize: 1})
	var services []intunetest.Service
	for range 20 {
		services = append(services, intunetest.Service{Provider: "Other", URI: "https://127.0.0.1/other"})
	}
	w.cloud.SetServices(services)
	if _, ok := errors.AsType[*intune.ServiceNotFoundError](w.validate(t, "t")); !ok {
		t.Error("want a ServiceNotFoundError")
	}
	if n := w.counts()[intunetest.Discovery]; n != 10 {
		t.Errorf("%d pages were asked for, want 10", n)
	}
}

// While Graph is out of order the old list serves, and Graph is left alone for
// a minute.
func TestDiscoveryOutage(t *testing.T) {
	w := newWorld(t, intunetest.Options{})
	if err := w.validate(t, "t"); err != nil {
		t.Fatal(err)
	}
	w.cloud.Fail(intunetest.Discovery, intunetest.Always, intunetest.Fault{Status: http.StatusServiceUnavailable})
	step := func(d time.Duration, lookups int) {
		t.Helper()
		w.clock.Advance(d)
		if err := w.validate(t, "t"); err != nil {
			t.Fatal(err)
		}
		if n := w.counts()[intunetest.Discovery]; n != lookups {
			t.Errorf("%d look-ups, want %d", n, lookups)
		}
	}
	step(29*time.Minute, 1)
	step(time.Minute, 4) // three attempts
	step(59*time.Second, 4)
	step(time.Second, 7)
	w.cloud.Heal()
	step(time.Minute, 8)
	step(time.Minute, 8)
}

// A Graph or a sign-in that hangs does not hold up enrolments while the old
// list and token serve.
func TestHangingNeighbours(t *testing.T) {
	for _, row := range []struct {
		hangs   intunetest.Endpoint
		advance time.Duration
	}{{intunetest.Discovery, 31 * time.Minute}, {intunetest.Token, 56 * time.Minute}} {
		t.Run(string(row.hangs), func(t *testing.T) {
			w := newWorld(t, intunetest.Options{}, func(cfg *intune.Config) { cfg.Timeouts.Renewal = 100 * time.Millisecond })
			if err := w.validate(t, "t"); err != nil {
				t.Fatal(err)
			}
			w.clock.Advance(row.advance)
			w.cloud.Fail(row.hangs, intunetest.Always, intunetest.Fault{Delay: time.Hour})
			for range 2 {
				if err := w.validate(t, "t"); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestDiscoveryFails(t *testing.T) {
	for _, row := range []struct {
		name     string
		fault    intunetest.Fault
		attempts int
		hint     string
	}{
		{"503", intunetest.Fault{Status: 503}, 3, ""},
		{"429 with a long wait", intunetest.Fault{Status: 429, RetryAfter: "30"}, 1, ""},
		{"403 after one renewal", intunetest.Fault{Status: 403}, 2, "Application.Read.All"},
		{"401 after one renewal", intunetest.Fault{Status: 401}, 2, "belong to one cloud"},
		{"404", intunetest.Fault{Status: 404}, 1, "has Intune"},
		{"no JSON", intunetest.Fault{BadJSON: true}, 1, "not JSON"},
		{"no value", intunetest.Fault{Body: `{"values":[]}`}, 1, "no value"},
		{"a value that is no list", intunetest.Fault{Body: `{"value":{}}`}, 1, "not JSON of the expected form"},
		{"five megabytes", intunetest.Fault{Huge: true}, 1, "too long"},
		{"empty", intunetest.Fault{Empty: true}, 1, "not JSON"},
		{"truncated", intunetest.Fault{Truncated: true}, 3, "broke off"},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t, intunetest.Options{})
			w.cloud.Fail(intunetest.Discovery, intunetest.Always, row.fault)
			err := w.validate(t, "t")
			if err == nil || !strings.Contains(err.Error(), row.hint) {
				t.Errorf("error %v, want one about %q", err, row.hint)
			}
			if n := w.counts(); n[intunetest.Discovery] != row.attempts || n[intunetest.Validate] != 0 {
				t.Errorf("calls %v, want %d look-ups", n, row.attempts)
			}
		})
	}
}

// R7: neither a service list nor a redirect takes a token to another host.
func TestTokenStaysAtHome(t *testing.T) {
	var visits atomic.Int64
	other := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { visits.Add(1) }))
	defer other.Close()
	elsewhere := strings.Replace(other.URL, "127.0.0.1", "localhost", 1)
	trust := func(cfg *intune.Config) { cfg.RootCAs.AddCert(other.Certificate()) }

	t.Run("a service at a host that is not allowed", func(t *testing.T) {
		for _, uri := range []string{elsewhere, strings.Replace(other.URL, "https", "http", 1), "https://user@127.0.0.1/x", other.URL + "?q=1"} {
			w := newWorld(t, intunetest.Options{}, trust)
			w.cloud.SetServices([]intunetest.Service{{Provider: scepService, URI: uri}})
			err := w.validate(t, "t")
			if e, ok := errors.AsType[*intune.ServiceNotFoundError](err); !ok || len(e.Refused) != 1 {
				t.Errorf("%s: error %v", uri, err)
			}
		}
	})
	for _, e := range []intunetest.Endpoint{intunetest.Metadata, intunetest.Token, intunetest.Discovery, intunetest.Validate} {
		t.Run("a redirect of "+string(e), func(t *testing.T) {
			w := newWorld(t, intunetest.Options{}, trust)
			w.cloud.Fail(e, intunetest.Always, intunetest.Fault{Redirect: elsewhere})
			if err := w.validate(t, "t"); err == nil {
				t.Error("no error")
			}
		})
	}
	t.Run("metadata that name another host", func(t *testing.T) {
		w := newWorld(t, intunetest.Options{}, trust)
		own := w.cloud.AuthorityURL() + intunetest.ContosoID
		w.cloud.Fail(intunetest.Metadata, intunetest.Always, intunetest.Fault{
			Body: `{"issuer":"` + own + `","authorization_endpoint":"` + own + `/a","token_endpoint":"` + elsewhere + `/t"}`,
		})
		if err := w.validate(t, "t"); err == nil || !strings.Contains(err.Error(), "not its own") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("pages at another host", func(t *testing.T) {
		w := newWorld(t, intunetest.Options{}, trust)
		w.cloud.Fail(intunetest.Discovery, 1, intunetest.Fault{
			Body: `{"value":[{"providerName":"` + scepService + `","uri":"` + w.cloud.ServiceURL() + `"}],"@odata.nextLink":"` + elsewhere + `"}`,
		})
		if err := w.validate(t, "t"); err != nil {
			t.Errorf("the first page serves: %v", err)
		}
	})
	if n := visits.Load(); n != 0 {
		t.Errorf("the other host was visited %d times", n)
	}
}
