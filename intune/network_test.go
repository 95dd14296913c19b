package intune_test

import (
	"context"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/certconnector/certconnector/intune"
	"github.com/certconnector/certconnector/intune/intunetest"
)

// proxy is a CONNECT proxy that asks for a user.
func proxy(t *testing.T, user, password string, tunnels *atomic.Int64) string {
	t.Helper()
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			http.Error(w, "only tunnels", http.StatusMethodNotAllowed)
			return
		}
		if r.Header.Get("Proxy-Authorization") != want {
			http.Error(w, "who are you?", http.StatusProxyAuthRequired)
			return
		}
		tunnels.Add(1)
		there, err := net.Dial("tcp", r.Host)
		if err != nil {
			http.Error(w, "unreachable", http.StatusBadGateway)
			return
		}
		here, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			there.Close()
			return
		}
		_, _ = io.WriteString(here, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { _, _ = io.Copy(there, here); there.Close() }()
		go func() { _, _ = io.Copy(here, there); here.Close() }()
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// All calls go through the proxy, and its password is not shown when it is
// wrong.
func TestProxy(t *testing.T) {
	w := newWorld(t, intunetest.Options{})
	var tunnels atomic.Int64
	address := proxy(t, "connector", "pass~word-of-proxy", &tunnels)
	with := func(p intune.Proxy) { w.client = w.newClient(t, func(cfg *intune.Config) { cfg.Proxy = p }) }

	with(intune.Proxy{URL: address, User: "connector", Password: "pass~word-of-proxy"})
	if err := w.validate(t, "t"); err != nil {
		t.Fatal(err)
	}
	if n := tunnels.Load(); n != 3 {
		t.Errorf("%d tunnels, want one each for sign-in, Graph and Intune", n)
	}
	with(intune.Proxy{URL: address, User: "connector", Password: "another~password"})
	err := w.validate(t, "t")
	if err == nil || strings.Contains(err.Error(), "another~password") || !strings.Contains(err.Error(), "Proxy Authentication Required") {
		t.Errorf("error %v", err)
	}
}

// J6 as the reference tests it: the host of the service is not known any more.
func TestUnknownHost(t *testing.T) {
	var unknown atomic.Bool
	var w *world
	w = newWorld(t, intunetest.Options{}, func(cfg *intune.Config) {
		cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if unknown.Load() && strings.Contains(w.cloud.ServiceURL(), address) {
				unknown.Store(false) // the new list names one that is known
				return nil, &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: address, IsNotFound: true}}
			}
			return (&net.Dialer{}).DialContext(ctx, network, address)
		}
	})
	unknown.Store(true)
	if err := w.validate(t, "t"); err != nil {
		t.Fatal(err)
	}
	if n := w.counts(); n[intunetest.Discovery] != 2 || n[intunetest.Validate] != 1 || n[intunetest.Token] != 2 {
		t.Errorf("calls %v, want 2 look-ups, 2 tokens", n)
	}
}
