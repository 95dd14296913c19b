package onetime_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/internal/webauth"
	"github.com/certconnector/certconnector/policymodule"
	"github.com/certconnector/certconnector/policymodule/onetime"
)

const (
	jamfPassword    = secret.Text("0123456789abcdef0123456789abcdef")
	visitorPassword = secret.Text("fedcba9876543210fedcba9876543210")
)

// site is the page as the service builds it: passwords, principals, a module.
type site struct {
	*onetime.Page
	module *onetime.Module
	clock  *at
	logs   *observer.ObservedLogs
}

func newSite(t testing.TB, change func(*onetime.Config, *onetime.PageConfig)) *site {
	t.Helper()
	clock := newClock()
	core, logs := observer.New(zapcore.DebugLevel)
	auth := &webauth.Authenticator{}
	var err error
	if auth.Passwords, err = webauth.NewPasswords([]webauth.Account{{Name: "jamf", Password: jamfPassword}, {Name: "visitor", Password: visitorPassword}}, clock.Now); err != nil {
		t.Fatal(err)
	}
	c := config(t, newJournal(t, clock), clock)
	c.Log = zap.New(core)
	p := onetime.PageConfig{
		Endpoint: endpoint, Refuse: auth.Refuse, Log: zap.New(core),
		CA: func() (*x509.Certificate, error) { return authority(), nil },
		Authenticate: func(r *http.Request) (policymodule.Principal, error) {
			name, err := auth.Identify(r)
			if err != nil || name == "visitor" {
				return policymodule.Principal{Name: name}, err
			}
			return principal(name, endpoint), nil
		},
	}
	change(&c, &p)
	m := module(t, c)
	if p.Challenger == nil {
		p.Challenger = m
	}
	page, err := onetime.NewPage(p)
	if err != nil {
		t.Fatal(err)
	}
	return &site{Page: page, module: m, clock: clock, logs: logs}
}

func plain(*onetime.Config, *onetime.PageConfig) {}

// get asks as jamf over TLS.
func get(path string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "https://scep.corp.example"+path, nil)
	r.TLS = &tls.ConnectionState{}
	r.RemoteAddr = "192.0.2.7:40000"
	r.SetBasicAuth(`CORP\jamf`, jamfPassword.Reveal())
	return r
}

func (s *site) ask(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func TestPageHeaders(t *testing.T) {
	s := newSite(t, plain)
	w := s.ask(get("/certsrv/mscep_admin"))
	for name, want := range map[string]string{
		"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
		"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'", "Content-Length": fmt.Sprint(w.Body.Len()),
	} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	for name := range w.Header() {
		if strings.HasPrefix(name, "Access-Control-") {
			t.Errorf("the page has the header %s", name)
		}
	}
}

func TestPagePaths(t *testing.T) {
	s := newSite(t, plain)
	renamed := newSite(t, func(_ *onetime.Config, p *onetime.PageConfig) { p.Path = "/Jamf/Admin/" })
	for _, row := range []struct {
		site   *site
		path   string
		served bool
	}{
		{s, "/certsrv/mscep_admin", true},
		{s, "/certsrv/mscep_admin/", true},
		{s, "/certsrv/mscep_admin/mscep.dll", true},
		{s, "/CertSrv/mscep_admin/MSCEP.dll", true},
		{s, "/certsrv/mscep_admin/mscep.dll/", false},
		{s, "/certsrv/mscep_admin/other", false},
		{s, "/certsrv/mscep/mscep.dll", false},
		{s, "/cert\u017frv/mscep_admin", false},
		{s, "/", false},
		{s, "", false},
		{renamed, "/jamf/admin", true},
		{renamed, "/JAMF/ADMIN/mscep.dll", true},
		{renamed, "/certsrv/mscep_admin", false},
	} {
		if got := row.site.Serves(row.path); got != row.served {
			t.Errorf("%q: served %v", row.path, got)
		}
		r := get("/")
		r.URL.Path = row.path
		if w := row.site.ask(r); (w.Code == http.StatusOK) != row.served {
			t.Errorf("%q: status %d", row.path, w.Code)
		}
	}
}

// TestPageMakesNothing is about requests after which no password is there.
func TestPageMakesNothing(t *testing.T) {
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	for _, row := range []struct {
		name   string
		change func(*http.Request)
		status int
	}{
		{"no credentials", func(r *http.Request) { r.Header.Del("Authorization") }, 401},
		{"NTLM, as an MDM begins that knows NDES", header("Authorization", "NTLM TlRMTVNTUAABAAAA"), 401},
		{"a wrong password", func(r *http.Request) { r.SetBasicAuth("jamf", visitorPassword.Reveal()) }, 401},
		{"no TLS", func(r *http.Request) { r.TLS = nil }, 403},
		{"HEAD", func(r *http.Request) { r.Method = http.MethodHead }, 405},
		{"POST", func(r *http.Request) { r.Method = http.MethodPost }, 405},
		{"OPTIONS, as before a script of another site", func(r *http.Request) { r.Method = http.MethodOptions }, 405},
		{"from another site", header("Sec-Fetch-Site", "cross-site"), 403},
		{"from a neighbouring site", header("Sec-Fetch-Site", "same-site"), 403},
		{"from an unknown kind of site", header("Sec-Fetch-Site", "?"), 403},
		{"from two kinds of site", func(r *http.Request) { r.Header["Sec-Fetch-Site"] = []string{"none", "cross-site"} }, 403},
		{"a browser that fetches ahead", header("Sec-Purpose", "prefetch;prerender"), 403},
		{"an old browser with a script of another site", header("Origin", "https://evil.example"), 403},
		{"a sandboxed script", header("Origin", "null"), 403},
		{"a known caller without a right", func(r *http.Request) { r.SetBasicAuth("visitor", visitorPassword.Reveal()) }, 200},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := newSite(t, func(c *onetime.Config, _ *onetime.PageConfig) { c.MaxOutstanding = 1 })
			r := get("/certsrv/mscep_admin/")
			row.change(r)
			w := s.ask(r)
			if w.Code != row.status || w.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("status %d, want %d; Cache-Control %q", w.Code, row.status, w.Header().Get("Cache-Control"))
			}
			if len(passwords(decode(w.Body.Bytes()))) > 0 || len(passwords(w.Body.String())) > 0 {
				t.Error("there is a password in the answer")
			}
			if row.status == 200 && !strings.Contains(decode(w.Body.Bytes()), "You do not have sufficient permission to enroll with SCEP.") {
				t.Error("the page does not say that there is no permission")
			}
			if row.status == 401 && !strings.HasPrefix(w.Header().Get("WWW-Authenticate"), "Basic realm=") {
				t.Error("the answer asks for no password")
			}
			generate(t, s.module) // the only place is free
		})
	}
}

func TestPageIsMeant(t *testing.T) {
	for _, row := range []struct{ name, header, value string }{
		{"a program", "", ""},
		{"an address typed into a browser", "Sec-Fetch-Site", "none"},
		{"loaded again from the page itself", "Sec-Fetch-Site", "same-origin"},
		{"a script of the page's own origin", "Origin", "https://scep.corp.example"},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := get("/certsrv/mscep_admin")
			if row.header != "" {
				r.Header.Set(row.header, row.value)
			}
			if w := newSite(t, plain).ask(r); w.Code != http.StatusOK {
				t.Errorf("status %d", w.Code)
			}
		})
	}
}

func TestPageFull(t *testing.T) {
	s := newSite(t, func(c *onetime.Config, _ *onetime.PageConfig) { c.MaxOutstanding = 2 })
	var first string
	for i := range 3 {
		w := s.ask(get("/certsrv/mscep_admin/mscep.dll"))
		page := decode(w.Body.Bytes())
		full := strings.Contains(page, "The password cache is full.")
		if w.Code != http.StatusOK || full != (i == 2) || (len(passwords(page)) == 0) != full {
			t.Errorf("time %d: status %d, full %v", i+1, w.Code, full)
		}
		if i == 0 {
			first = passwords(page)["label and digits"]
		}
	}
	if d := verify(t, s.module, request("a", secret.Text(first))); !d.Granted {
		t.Errorf("the first password was dropped: %s", d.Rule)
	}
	s.clock.Pass(time.Hour)
	if page := decode(s.ask(get("/certsrv/mscep_admin")).Body.Bytes()); len(passwords(page)) == 0 {
		t.Error("still full when all have expired")
	}
}

func TestPageTooFast(t *testing.T) {
	s := newSite(t, func(c *onetime.Config, _ *onetime.PageConfig) {
		rights := c.Rights["jamf"]
		rights.PerMinute = 1
		c.Rights["jamf"] = rights
	})
	s.ask(get("/certsrv/mscep_admin"))
	w := s.ask(get("/certsrv/mscep_admin"))
	page := decode(w.Body.Bytes())
	if w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") != "60" ||
		!strings.Contains(page, "The password cache is full.") || len(passwords(page)) != 0 {
		t.Errorf("status %d, Retry-After %q", w.Code, w.Header().Get("Retry-After"))
	}
}

// TestPageAtOnce asks 64 times at the same time for the last 16 places.
func TestPageAtOnce(t *testing.T) {
	s := newSite(t, func(c *onetime.Config, _ *onetime.PageConfig) {
		c.MaxOutstanding = 16
		rights := c.Rights["jamf"]
		rights.PerMinute = 1000
		c.Rights["jamf"] = rights
	})
	server := httptest.NewTLSServer(s)
	defer server.Close()
	var mu sync.Mutex
	seen, full := map[string]bool{}, 0
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, server.URL+"/CERTSRV/mscep_admin/", nil)
			if err != nil {
				t.Error(err)
				return
			}
			r.SetBasicAuth("jamf@corp.example", jamfPassword.Reveal())
			answer, err := server.Client().Do(r)
			if err != nil {
				t.Error(err)
				return
			}
			defer answer.Body.Close()
			body, err := io.ReadAll(answer.Body)
			if err != nil || answer.StatusCode != http.StatusOK {
				t.Errorf("status %d, error %v", answer.StatusCode, err)
				return
			}
			page := decode(body)
			mu.Lock()
			defer mu.Unlock()
			if strings.Contains(page, "The password cache is full.") {
				full++
			} else if password := passwords(page)["label and digits"]; password != "" {
				seen[password] = true
			}
		})
	}
	wg.Wait()
	if len(seen) != 16 || full != 48 {
		t.Errorf("%d different passwords and %d times full, want 16 and 48", len(seen), full)
	}
}

// TestPageOfAKnownCaller has whoever tells callers apart say that one has no
// right here; the credentials were right, so nothing asks for others.
func TestPageOfAKnownCaller(t *testing.T) {
	s := newSite(t, func(_ *onetime.Config, p *onetime.PageConfig) {
		p.Authenticate = func(*http.Request) (policymodule.Principal, error) {
			return policymodule.Principal{}, fmt.Errorf("front end: %w", policymodule.ErrNoRight)
		}
	})
	w := s.ask(get("/certsrv/mscep_admin"))
	if w.Code != http.StatusOK || !strings.Contains(decode(w.Body.Bytes()), "You do not have sufficient permission to enroll with SCEP.") {
		t.Errorf("status %d", w.Code)
	}
}

// TestPageFaults fails before or after the password is made.
func TestPageFaults(t *testing.T) {
	noCA := newSite(t, func(c *onetime.Config, p *onetime.PageConfig) {
		c.MaxOutstanding = 1
		p.CA = func() (*x509.Certificate, error) { return nil, errors.New("the CA is not there") }
	})
	if w := noCA.ask(get("/certsrv/mscep_admin")); w.Code != http.StatusInternalServerError {
		t.Errorf("without a CA: status %d", w.Code)
	}
	generate(t, noCA.module) // its place is free

	noLedger := newSite(t, func(c *onetime.Config, _ *onetime.PageConfig) {
		c.Ledger = &cuttable{Ledger: c.Ledger, cut: true}
	})
	w := noLedger.ask(get("/certsrv/mscep_admin"))
	if w.Code != http.StatusInternalServerError || len(passwords(w.Body.String())) > 0 {
		t.Errorf("without a ledger: status %d", w.Code)
	}
	if w.Header().Get("Cache-Control") != "no-store" || strings.Contains(w.Body.String(), "deadline") {
		t.Error("the answer may be stored, or tells what is none of the caller's business")
	}
}

func TestPageLogs(t *testing.T) {
	s := newSite(t, plain)
	page := decode(s.ask(get("/certsrv/mscep_admin?secret=query")).Body.Bytes())
	bad := get("/certsrv/mscep_admin")
	bad.SetBasicAuth("jamf", visitorPassword.Reveal())
	s.ask(bad)
	if level := s.logs.FilterMessage("challenge page refused: caller not identified").All()[0].Level; level != zap.WarnLevel {
		t.Errorf("a wrong password is a line of level %s", level)
	}
	stranger := get("/certsrv/mscep_admin")
	stranger.Header.Del("Authorization")
	s.ask(stranger)
	if level := s.logs.All()[s.logs.Len()-1].Level; level != zap.DebugLevel {
		t.Errorf("no password is a line of level %s", level)
	}
	visitor := get("/certsrv/mscep_admin")
	visitor.SetBasicAuth("visitor", visitorPassword.Reveal())
	s.ask(visitor)

	var messages []string
	for _, line := range s.logs.All() {
		messages = append(messages, line.Message)
		said := strings.ToUpper(fmt.Sprint(line.Message, line.ContextMap()))
		for _, hidden := range []string{passwords(page)["label and digits"], jamfPassword.Reveal(), visitorPassword.Reveal(), "secret=query"} {
			if strings.Contains(said, strings.ToUpper(hidden)) {
				t.Errorf("the line %q shows a secret", line.Message)
			}
		}
	}
	want := []string{"challenge made", "challenge shown", "challenge page refused: caller not identified", "challenge page refused: caller not identified", "no challenge made: no right"}
	if !slices.Equal(messages, want) {
		t.Errorf("lines %q, want %q", messages, want)
	}
	shown := s.logs.FilterMessage("challenge shown").All()[0].ContextMap()
	if shown["principal"] != "jamf" || shown["source"] != "192.0.2.7:40000" || shown["challenge_id"] == "" {
		t.Errorf("fields %v", shown)
	}
	if gone := s.logs.FilterMessage("no challenge made: no right").All()[0].ContextMap(); gone["ndes_event"] != int64(6) || gone["principal"] != "visitor" {
		t.Errorf("fields %v", gone)
	}
}

// Strangers fill no disk, whatever they are refused for.
func TestPageLogsFewStrangers(t *testing.T) {
	s := newSite(t, plain)
	for range 30 {
		r := get("/certsrv/mscep_admin")
		r.TLS = nil // the password is not read
		s.ask(r)
		r = get("/certsrv/mscep_admin")
		r.Header.Set("Sec-Fetch-Site", "cross-site")
		s.ask(r)
	}
	for message, level := range map[string]zapcore.Level{
		"challenge page refused: caller not identified": zap.WarnLevel, "challenge page refused: sent by another site": zap.InfoLevel,
	} {
		lines := s.logs.FilterMessage(message)
		if n := lines.FilterLevelExact(level).Len(); lines.Len() != 30 || n == 0 || n > 15 {
			t.Errorf("%q: %d of %d lines are %s", message, n, lines.Len(), level)
		}
	}
}

func TestNewPageRefuses(t *testing.T) {
	good := onetime.PageConfig{
		Challenger: newSite(t, plain).module, Endpoint: endpoint, CA: func() (*x509.Certificate, error) { return authority(), nil },
		Authenticate: func(*http.Request) (policymodule.Principal, error) { return policymodule.Principal{}, nil },
		Refuse:       func(http.ResponseWriter, *http.Request, error) {},
	}
	for _, row := range []struct {
		name   string
		change func(*onetime.PageConfig)
		want   string // in the error; "": none
	}{
		{"defaults", func(*onetime.PageConfig) {}, ""},
		{"no way to know callers", func(c *onetime.PageConfig) { c.Authenticate = nil }, "know callers"},
		{"nobody who makes challenges", func(c *onetime.PageConfig) { c.Challenger = nil }, "challenger"},
		{"an unknown charset", func(c *onetime.PageConfig) { c.Charset = "utf16be" }, "charset"},
		{"a relative path", func(c *onetime.PageConfig) { c.Path = "certsrv/mscep_admin" }, "slash"},
		{"the root", func(c *onetime.PageConfig) { c.Path = "/" }, "slash"},
		{"seconds, which the page cannot tell", func(c *onetime.PageConfig) { c.Lifetime = 90 * time.Second }, "whole minutes"},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := good
			row.change(&c)
			_, err := onetime.NewPage(c)
			if (err == nil) != (row.want == "") || err != nil && !strings.Contains(err.Error(), row.want) {
				t.Errorf("error %v, want one about %q", err, row.want)
			}
		})
	}
}
