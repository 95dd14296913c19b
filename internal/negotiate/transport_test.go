package negotiate

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certconnector/certconnector/internal/proxy"
	"github.com/certconnector/certconnector/internal/proxy/proxytest"
)

// serve starts a TLS server and returns its configuration's start.
func serve(t *testing.T, h http.HandlerFunc) (*httptest.Server, TransportConfig) {
	t.Helper()
	srv := httptest.NewTLSServer(h)
	t.Cleanup(srv.Close)
	roots := x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	return srv, TransportConfig{Host: strings.TrimPrefix(srv.URL, "https://"), Roots: roots}
}

func newTransport(t *testing.T, c TransportConfig) *Transport {
	t.Helper()
	rt, err := NewTransport(c)
	if err != nil {
		t.Fatalf("NewTransport: %v", err)
	}
	t.Cleanup(func() { rt.Close() })
	return rt
}

func post(t *testing.T, rt http.RoundTripper, url, body string) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := rt.RoundTrip(req)
	if err == nil {
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	return resp, err
}

func TestBasic(t *testing.T) {
	srv, c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if user, password, ok := r.BasicAuth(); !ok || user != `CORP\svc` || password != "right" || string(body) != "hello" {
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	c.Basic = &Basic{User: `CORP\svc`, Password: "right"}
	resp, err := post(t, newTransport(t, c), srv.URL, "hello")
	if err != nil || resp.StatusCode != http.StatusOK || resp.TLS == nil {
		t.Fatalf("got %v, %v", resp, err)
	}
}

// TestProxy: a session signs in through a tunnel as it does without one.
func TestProxy(t *testing.T) {
	srv, c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if _, password, _ := r.BasicAuth(); password != "right" {
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	between := proxytest.New(t, proxytest.Options{})
	c.Basic = &Basic{User: `CORP\svc`, Password: "right"}
	c.Dial = proxy.Config{URL: between.URL}.Through(nil)
	resp, err := post(t, newTransport(t, c), srv.URL, "hello")
	if err != nil || resp.StatusCode != http.StatusOK || len(between.Tunnels()) != 1 {
		t.Errorf("got %v, %v; tunnels %v", resp, err, between.Tunnels())
	}
	closed := proxytest.New(t, proxytest.Options{Status: 502})
	c.Dial = proxy.Config{URL: closed.URL}.Through(nil)
	if _, err := post(t, newTransport(t, c), srv.URL, "hello"); err == nil || !errors.Is(err, ErrNotSent) || !strings.Contains(err.Error(), "the proxy "+closed.Address()) {
		t.Errorf("error %v", err)
	}
}

// TestRefusedPasswordRests: a domain locks accounts after a few wrong ones.
func TestRefusedPasswordRests(t *testing.T) {
	var tries atomic.Int32
	srv, c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		tries.Add(1)
		w.WriteHeader(http.StatusUnauthorized)
	})
	now := time.Now()
	c.Now = func() time.Time { return now }
	c.Basic = &Basic{User: "svc", Password: "wrong"}
	rt := newTransport(t, c)
	if resp, err := post(t, rt, srv.URL, "x"); err != nil || resp.StatusCode != http.StatusUnauthorized {
		t.Fatalf("first: got %v, %v, want 401", resp, err)
	}
	for range 5 {
		if _, err := post(t, rt, srv.URL, "x"); !errors.Is(err, ErrRefused) || !errors.Is(err, ErrNotSent) {
			t.Fatalf("at rest: got %v, want ErrRefused and ErrNotSent", err)
		}
	}
	now = now.Add(holdFor)
	post(t, rt, srv.URL, "x")
	if n := tries.Load(); n != 2 {
		t.Errorf("the password was shown %d times, want 2", n)
	}
}

func TestCredentialsStayWithTheirHost(t *testing.T) {
	srv, c := serve(t, func(http.ResponseWriter, *http.Request) {})
	_, port, _ := strings.Cut(c.Host, ":")
	rt := newTransport(t, c)
	for _, url := range []string{"https://localhost:" + port, "http://" + c.Host, "https://127.0.0.1/", srv.URL + "0"} {
		if _, err := post(t, rt, url, "x"); !errors.Is(err, ErrNotSent) {
			t.Errorf("%s: got %v, want ErrNotSent", url, err)
		}
	}
}

func TestWhatWasSentIsKnown(t *testing.T) {
	srv, c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		io.ReadAll(r.Body)
		panic(http.ErrAbortHandler)
	})
	rt := newTransport(t, c)
	if _, err := post(t, rt, srv.URL, "x"); err == nil || errors.Is(err, ErrNotSent) {
		t.Errorf("cut off after the body: got %v, want an error without ErrNotSent", err)
	}
	srv.Close()
	if _, err := post(t, rt, srv.URL, "x"); !errors.Is(err, ErrNotSent) {
		t.Errorf("nobody listens: got %v, want ErrNotSent", err)
	}
	srv, c = serve(t, func(http.ResponseWriter, *http.Request) {})
	c.Roots = x509.NewCertPool()
	if _, err := post(t, newTransport(t, c), srv.URL, "x"); !errors.Is(err, ErrNotSent) {
		t.Errorf("unknown root: got %v, want ErrNotSent", err)
	}
}

func TestConfigurationsThatContradict(t *testing.T) {
	k := &Kerberos{Principal: "svc@CORP.TEST", Password: "x"}
	for name, c := range map[string]TransportConfig{
		"no host":                              {},
		"two mechanisms":                       {Host: "a.test", Kerberos: k, NTLM: &NTLM{User: "u", Password: "p"}},
		"kerberos for an address":              {Host: "192.0.2.1", Kerberos: k},
		"kerberos without key":                 {Host: "a.test", Kerberos: &Kerberos{Principal: "svc@CORP.TEST"}},
		"ntlm without password":                {Host: "a.test", NTLM: &NTLM{User: "u"}},
		"sspi and ntlm":                        {Host: "a.test", SSPI: &SSPI{}, NTLM: &NTLM{User: "u", Password: "p"}},
		"sspi with kerberos for an address":    {Host: "192.0.2.1", SSPI: &SSPI{}},
		"basic user with the separator":        {Host: "a.test", Basic: &Basic{User: "u:v", Password: "p"}},
		"client certificate that is not there": {Host: "a.test", Certificate: &Certificate{File: "no.pem", Key: "no.key"}},
	} {
		if _, err := NewTransport(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// FuzzChallenge: whatever a server sends as its challenge is refused or
// answered.
func FuzzChallenge(f *testing.F) {
	challenge := append([]byte("NTLMSSP\x00\x02\x00\x00\x00"), make([]byte, 36)...)
	challenge[40], challenge[42], challenge[44] = 4, 4, 48
	challenge[20], challenge[22] = 0x01, 0x80 // Unicode, target information
	f.Add(append(challenge, 0, 0, 0, 0))
	f.Add([]byte("NTLMSSP\x00"))
	n := NTLM{User: `CORP\svc`, Password: "x"}
	f.Fuzz(func(t *testing.T, b []byte) {
		message, err := n.authenticate(t.Context(), b, "HTTP/ca", nil)
		if (err == nil) != bytes.HasPrefix(message, []byte("NTLMSSP\x00\x03")) {
			t.Errorf("message %x, error %v", message, err)
		}
	})
}

func TestOldTLSIsRefused(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	srv.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	defer srv.Close()
	c := TransportConfig{Host: strings.TrimPrefix(srv.URL, "https://"), Roots: x509.NewCertPool()}
	c.Roots.AddCert(srv.Certificate())
	if _, err := post(t, newTransport(t, c), srv.URL, "x"); !errors.Is(err, ErrNotSent) {
		t.Errorf("got %v, want ErrNotSent", err)
	}
}
