package proxy_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/certconnector/certconnector/internal/freeport"
	"github.com/certconnector/certconnector/internal/proxy"
	"github.com/certconnector/certconnector/internal/proxy/proxytest"
	"github.com/certconnector/certconnector/internal/secret"
)

const password = "pass~word-of-proxy"

// patience is for what takes a moment on a machine that does nothing else.
const patience = time.Minute

// another is a wrong password that no other test has sent: a refusal rests in
// the whole process, by address and password, and ports come again.
func another() string { return "another~" + rand.Text() }

// ask gets a page of a TLS server through a proxy.
func ask(t *testing.T, c proxy.Config, s *httptest.Server) error {
	t.Helper()
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	c.Timeout = patience
	transport := s.Client().Transport.(*http.Transport).Clone()
	transport.DialContext = c.Through(nil)
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := transport.RoundTrip(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if string(b) != "hello" {
		t.Errorf("the neighbour answered %q", b)
	}
	return err
}

func neighbour(t *testing.T) *httptest.Server {
	t.Helper()
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }))
	t.Cleanup(s.Close)
	return s
}

// What a proxy says, and what becomes of it. An error names the proxy and no
// password; it looks like that of a host that cannot be reached, since nothing
// was sent.
func TestTunnels(t *testing.T) {
	signIn, wrong := proxytest.Options{User: "connector", Password: password}, another()
	for _, row := range []struct {
		name     string
		proxy    proxytest.Options
		user, pw string
		want     string // in the error; "": a tunnel
	}{
		{"no sign-in", proxytest.Options{}, "", "", ""},
		{"the right password", signIn, "connector", password, ""},
		{"a proxy that is spoken to by TLS", proxytest.Options{TLS: true, User: "connector", Password: password}, "connector", password, ""},
		{"a wrong password", signIn, "connector", wrong, "refused user and password (HTTP 407); check proxy.user and proxy.password"},
		{"no password", signIn, "", "", "wants a user and a password (HTTP 407); set proxy.user and proxy.password"},
		{
			"a sign-in that is not spoken here",
			proxytest.Options{User: "connector", Password: password, Offers: []string{"Negotiate", `NTLM`, "<script> x"}},
			"connector", "x", "it takes Negotiate and NTLM, and only Basic is spoken here",
		},
		{"forbidden", proxytest.Options{Status: 403}, "", "", "forbids TARGET (HTTP 403); have it allow CONNECT"},
		{"a proxy without a way out", proxytest.Options{Status: 502}, "", "", "does not reach TARGET (HTTP 502); look into its log"},
		{"a proxy that waits in vain", proxytest.Options{Status: 504}, "", "", "does not reach TARGET (HTTP 504)"},
		{"a web server", proxytest.Options{Status: 405}, "", "", "opens no tunnel to TARGET (HTTP 405); check that proxy.url"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s, p := neighbour(t), proxytest.New(t, row.proxy)
			c := proxy.Config{URL: p.URL, User: row.user, Password: secret.Text(row.pw), RootCAs: p.Roots}
			err := ask(t, c, s)
			target := s.Listener.Addr().String()
			if row.want == "" {
				if err != nil || len(p.Tunnels()) != 1 || p.Tunnels()[0] != target {
					t.Errorf("error %v, tunnels %v", err, p.Tunnels())
				}
				return
			}
			want := strings.ReplaceAll(row.want, "TARGET", target)
			if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "the proxy "+p.Address()) {
				t.Fatalf("error %v, want one with %q", err, want)
			}
			for _, text := range []string{password, wrong, "connector:"} {
				if strings.Contains(err.Error(), text) {
					t.Errorf("the error tells a secret: %v", err)
				}
			}
			if op, ok := errors.AsType[*net.OpError](err); !ok || op.Op != "dial" {
				t.Errorf("error %#v is not one of dialling", err)
			}
		})
	}
}

// A proxy that is not there, one that speaks another protocol and one whose
// certificate nobody vouches for.
func TestUnusableProxies(t *testing.T) {
	garbage, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer garbage.Close()
	go func() {
		for {
			conn, err := garbage.Accept()
			if err != nil {
				return
			}
			_, _ = http.ReadRequest(bufio.NewReader(conn))
			_, _ = io.WriteString(conn, "220 mail.example ESMTP\r\n")
			_ = conn.Close()
		}
	}()
	for _, row := range []struct{ name, url, want string }{
		{"nobody listens", "http://" + freeport.ForTest(t), "cannot be reached"},
		{"another protocol", "http://" + garbage.Addr().String(), "gave no answer of HTTP"},
		{"an unknown certificate", proxytest.New(t, proxytest.Options{TLS: true}).URL, "name the root of its certificate in proxy.ca_file"},
		{"plain HTTP where TLS is spoken", strings.Replace(proxytest.New(t, proxytest.Options{TLS: true}).URL, "https", "http", 1), "https:// for a proxy that speaks TLS"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if err := ask(t, proxy.Config{URL: row.url}, neighbour(t)); err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("error %v, want one with %q", err, row.want)
			}
		})
	}
}

// A proxy that says nothing is given up, at its own time or the caller's.
func TestSilentProxy(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // the backlog accepts, nobody answers
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dial := proxy.Config{URL: "http://" + l.Addr().String(), Timeout: 50 * time.Millisecond}.Through(nil)
	if _, err := dial(t.Context(), "tcp", "graph.example:443"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	dial = proxy.Config{URL: "http://" + l.Addr().String(), Timeout: time.Hour}.Through(nil)
	if _, err := dial(ctx, "tcp", "graph.example:443"); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// A neighbour that speaks first, with the proxy's answer in one packet, loses
// nothing.
func TestEarlyOctets(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err == nil {
			_, _ = http.ReadRequest(bufio.NewReader(conn))
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\nearly")
			_, _ = io.WriteString(conn, " and late")
			_ = conn.Close()
		}
	}()
	conn, err := proxy.Config{URL: "http://" + l.Addr().String(), Timeout: patience}.Through(nil)(t.Context(), "tcp", "x.example:1")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if b, err := io.ReadAll(conn); err != nil || string(b) != "early and late" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestNoProxy(t *testing.T) {
	for _, row := range []struct {
		name, entry, target string
		direct              bool
	}{
		{"the name itself", "corp.example", "corp.example:443", true},
		{"a name below it", "corp.example", "crp.Corp.Example.:443", true},
		{"a name that only ends so", "corp.example", "notcorp.example:443", false},
		{"a leading dot leaves out the name itself", ".corp.example", "corp.example:443", false},
		{"a leading dot takes those below", ".corp.example", "a.corp.example:443", true},
		{"a leading star and dot", "*.corp.example", "a.corp.example:443", true},
		{"an address", "192.0.2.1", "192.0.2.1:443", true},
		{"another address", "192.0.2.1", "192.0.2.10:443", false},
		{"an IPv6 address", "[2001:db8::1]", "[2001:db8::1]:443", true},
		{"a network", "10.0.0.0/8", "10.1.2.3:443", true},
		{"a network and a name", "10.0.0.0/8", "ten.example:443", false},
		{"a port", "corp.example:8443", "corp.example:8443", true},
		{"another port", "corp.example:8443", "corp.example:443", false},
		{"everything", "*", "graph.microsoft.com:443", true},
		{"nothing", "", "graph.microsoft.com:443", false},
		{"a dot", ".", "graph.microsoft.com:443", false},
		{"a star and a dot", "*.", "graph.microsoft.com:443", false},
		{"blanks around a name", " corp.example\t", "crp.corp.example:443", true},
		{"blanks around a star", " * ", "graph.microsoft.com:443", true},
		{"a dot that ends a name", "corp.example.", "crp.corp.example:443", true},
		{"a dot that ends a name, and a port", "corp.example.:443", "corp.example:443", true},
	} {
		t.Run(row.name, func(t *testing.T) {
			var dialled string
			stop := errors.New("far enough")
			dial := proxy.Config{URL: "http://proxy.example:3128", NoProxy: []string{row.entry}}.Through(
				func(_ context.Context, _, address string) (net.Conn, error) { dialled = address; return nil, stop })
			if _, err := dial(t.Context(), "tcp", row.target); !errors.Is(err, stop) {
				t.Fatal(err)
			}
			if (dialled == row.target) != row.direct {
				t.Errorf("dialled %s", dialled)
			}
		})
	}
}

func TestEnvironment(t *testing.T) {
	for _, row := range []struct {
		name, https, lower, no string
		url, user              string
		bad                    string // in the error
	}{
		{name: "none"},
		{name: "a URL", https: "http://proxy.example:3128", url: "http://proxy.example:3128"},
		{name: "without a scheme", https: "proxy.example:3128", url: "http://proxy.example:3128"},
		{name: "in small letters", lower: "https://proxy.example/", url: "https://proxy.example"},
		{name: "with a user", https: "http://me:pass~word-of-proxy@proxy.example:3128", url: "http://proxy.example:3128", user: "me"},
		{name: "another kind", https: "socks5://me:pass~word-of-proxy@proxy.example", bad: "HTTPS_PROXY in the environment: the proxy URL is not an http or https URL"},
		{name: "no URL", https: "http://me:pass~word-of-proxy@proxy.example:%zz", bad: "HTTPS_PROXY in the environment is no URL"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Setenv("HTTPS_PROXY", row.https)
			t.Setenv("https_proxy", row.lower)
			t.Setenv("NO_PROXY", "a.example,\tb.example\n")
			c, err := proxy.Environment()
			if row.bad != "" {
				if err == nil || !strings.Contains(err.Error(), row.bad) || strings.Contains(err.Error(), password) {
					t.Errorf("error %v, want one with %q", err, row.bad)
				}
				return
			}
			if err != nil || c.URL != row.url || c.User != row.user || (c.Password.Reveal() == password) != (row.user != "") {
				t.Errorf("%q user %q, error %v", c.URL, c.User, err)
			}
			if row.url != "" && strings.Join(c.NoProxy[:2], " ") != "a.example b.example" {
				t.Errorf("no proxy for %q", c.NoProxy)
			}
		})
	}
}

func TestMistakes(t *testing.T) {
	for _, row := range []struct {
		name string
		c    proxy.Config
		want string
	}{
		{"no URL", proxy.Config{URL: "proxy:8080"}, "not an http or https URL"},
		{"a user in the URL", proxy.Config{URL: "http://me:pass~word-of-proxy@proxy:8080"}, "contains a user"},
		{"a path", proxy.Config{URL: "http://proxy:8080/proxy.pac"}, "has a path"},
		{"a password without user", proxy.Config{URL: "http://proxy:8080", Password: password}, "no proxy user"},
		{"a user without URL", proxy.Config{User: "me"}, "no proxy URL"},
		{"a colon in the user", proxy.Config{URL: "http://proxy:8080", User: "a:b", Password: password}, "has a colon"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if err := row.c.Check(); err == nil || !strings.Contains(err.Error(), row.want) || strings.Contains(err.Error(), password) {
				t.Errorf("error %v, want one with %q", err, row.want)
			}
		})
	}
}

// The neighbour's client certificate is not for the proxy.
func TestClientCertificateIsForTheNeighbour(t *testing.T) {
	s, p := neighbour(t), proxytest.New(t, proxytest.Options{TLS: true})
	transport := s.Client().Transport.(*http.Transport).Clone()
	transport.TLSClientConfig.VerifyConnection = func(state tls.ConnectionState) error {
		if !state.PeerCertificates[0].Equal(s.Certificate()) {
			t.Error("a pin of the neighbour was held against the proxy")
		}
		return nil
	}
	transport.DialContext = proxy.Config{URL: p.URL, RootCAs: p.Roots, Timeout: patience}.Through(nil)
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
}

// After five minutes it is tried once more: somebody may have unlocked it.
func TestRefusedPasswordIsTriedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		dial := proxy.Config{URL: "http://proxy.example:3128", User: rand.Text(), Password: password}.Through( // a run of its own
			func(context.Context, string, string) (net.Conn, error) {
				asked++
				here, there := net.Pipe()
				go func() {
					_, _ = http.ReadRequest(bufio.NewReader(there))
					_, _ = io.WriteString(there, "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n")
					_ = there.Close()
				}()
				return here, nil
			})
		for _, row := range []struct {
			after time.Duration
			asked int
		}{{0, 1}, {4 * time.Minute, 1}, {time.Minute + time.Second, 2}} {
			time.Sleep(row.after)
			if _, err := dial(t.Context(), "tcp", "graph.example:443"); err == nil || asked != row.asked {
				t.Errorf("asked %d times, want %d; error %v", asked, row.asked, err)
			}
		}
	})
}

// A refused password is not sent again and again: the directory behind a proxy
// locks accounts.
func TestRefusedPasswordRests(t *testing.T) {
	s, p := neighbour(t), proxytest.New(t, proxytest.Options{User: "connector", Password: password})
	dial := proxy.Config{URL: p.URL, User: "connector", Password: secret.Text(another()), Timeout: patience}.Through(nil)
	for range 5 {
		if _, err := dial(t.Context(), "tcp", s.Listener.Addr().String()); err == nil || !strings.Contains(err.Error(), "refused user and password") {
			t.Errorf("error %v", err)
		}
	}
	if n := p.Asked(); n != 1 {
		t.Errorf("the proxy was asked %d times", n)
	}
}

// However many dial at once, for however many tenants: a wrong password is sent
// once. The right one is waited for, and then nobody waits.
func TestManyDialAtOnce(t *testing.T) {
	for _, row := range []struct {
		name     string
		password secret.Text
		asked    int
		want     string
	}{
		{"a wrong password", secret.Text(another()), 1, "refused user and password (HTTP 407)"},
		{"the right password", password, 30, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			s, p := neighbour(t), proxytest.New(t, proxytest.Options{User: "connector", Password: password})
			var all sync.WaitGroup
			for range 30 {
				dial := proxy.Config{URL: p.URL, User: "connector", Password: row.password, Timeout: patience}.Through(nil)
				all.Go(func() {
					conn, err := dial(t.Context(), "tcp", s.Listener.Addr().String())
					if err == nil {
						_ = conn.Close()
					}
					if (err == nil) != (row.want == "") || err != nil && !strings.Contains(err.Error(), row.want) {
						t.Errorf("error %v, want %q", err, row.want)
					}
				})
			}
			all.Wait()
			if n := p.Asked(); n != row.asked {
				t.Errorf("the proxy was asked %d times, want %d", n, row.asked)
			}
		})
	}
}

// Who waits for another's sign-in waits no longer than his own context, and a
// proxy that fails to answer one is asked again by the next.
func TestSignInsWaitForEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		c := proxy.Config{URL: "http://proxy.example:3128", User: rand.Text(), Password: password}
		silent := func(ctx context.Context, _, _ string) (net.Conn, error) {
			asked++
			<-ctx.Done()
			return nil, ctx.Err()
		}
		var first sync.WaitGroup
		first.Go(func() {
			if _, err := c.Through(silent)(t.Context(), "tcp", "graph.example:443"); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v", err)
			}
		})
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Through(silent)(ctx, "tcp", "graph.example:443"); !errors.Is(err, context.DeadlineExceeded) ||
			!strings.Contains(err.Error(), "leaves another sign-in unanswered") || asked != 1 {
			t.Errorf("error %v, asked %d times", err, asked)
		}
		first.Wait()
		if _, err := c.Through(silent)(t.Context(), "tcp", "graph.example:443"); err == nil || asked != 2 {
			t.Errorf("error %v, asked %d times", err, asked)
		}
	})
}
