package intune_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/certconnector/certconnector/internal/proxy"
	"github.com/certconnector/certconnector/internal/proxy/proxytest"
	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/intune"
	"github.com/certconnector/certconnector/intune/intunetest"
)

const proxyPassword = "pass~word-of-proxy"

// All calls go through the proxy: sign-in, Graph and Intune. What the proxy
// refuses is told as the proxy's, with a way out, and without its password; a
// refused password is sent once, and the call not repeated.
func TestProxy(t *testing.T) {
	signIn := proxytest.Options{User: "connector", Password: proxyPassword}
	for _, row := range []struct {
		name     string
		proxy    proxytest.Options
		password secret.Text
		want     string // in the error; "": a verdict
		repeat   bool
	}{
		{"user and password", signIn, proxyPassword, "", false},
		{"a wrong password", signIn, "another~password", "refused user and password (HTTP 407)", false},
		{"no way to this host", proxytest.Options{Status: 403}, "", "forbids", true},
		{"no way out", proxytest.Options{Status: 502}, "", "(HTTP 502); look into its log", true},
		{"a proxy that nobody vouches for", proxytest.Options{TLS: true}, "", "name the root of its certificate in proxy.ca_file", true},
	} {
		t.Run(row.name, func(t *testing.T) {
			w, p := newWorld(t, intunetest.Options{}), proxytest.New(t, row.proxy)
			w.client = w.newClient(t, func(cfg *intune.Config) {
				cfg.Proxy = proxy.Config{URL: p.URL, Password: row.password}
				if row.password != "" {
					cfg.Proxy.User = "connector"
				}
			})
			err := w.validate(t, "t")
			if row.want == "" {
				if n := len(p.Tunnels()); err != nil || n != 3 {
					t.Errorf("error %v, %d tunnels, want one each for sign-in, Graph and Intune", err, n)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), row.want) || !strings.Contains(err.Error(), "the proxy "+p.Address()) {
				t.Fatalf("error %v, want one with %q", err, row.want)
			}
			if e, ok := errors.AsType[*intune.NetworkError](err); !ok || !e.Connect || intune.Retryable(err) != row.repeat {
				t.Errorf("error %#v", err)
			}
			if !row.proxy.TLS && (p.Asked() > 1) != row.repeat {
				t.Errorf("the proxy was asked %d times", p.Asked())
			}
			for _, text := range []string{err.Error(), logText(w)} {
				if strings.Contains(text, "another~password") || strings.Contains(text, proxyPassword) {
					t.Errorf("a password is told: %s", text)
				}
			}
		})
	}
}

func logText(w *world) string {
	var b strings.Builder
	for _, l := range w.logs.All() {
		fmt.Fprintln(&b, l.Message, l.ContextMap())
	}
	return b.String()
}

// Where the environment names a proxy and the configuration none, that one is
// used; a loopback cloud is reached directly.
func TestProxyOfTheEnvironment(t *testing.T) {
	w := newWorld(t, intunetest.Options{})
	t.Setenv("HTTPS_PROXY", "http://me:"+proxyPassword+"@proxy.example:%zz")
	cfg := w.cloud.ClientConfig()
	if _, err := intune.New(cfg); err == nil || strings.Contains(err.Error(), proxyPassword) || !strings.Contains(err.Error(), "HTTPS_PROXY") {
		t.Errorf("error %v", err)
	}
	p := proxytest.New(t, proxytest.Options{Status: 503})
	t.Setenv("HTTPS_PROXY", p.URL)
	t.Setenv("NO_PROXY", "")
	t.Setenv("no_proxy", "")
	w.client = w.newClient(t)
	if err := w.validate(t, "t"); err != nil || p.Asked() != 0 {
		t.Errorf("a cloud on this machine: %v, the proxy was asked %d times", err, p.Asked())
	}
	w.client = w.newClient(t, func(cfg *intune.Config) {
		cfg.Endpoints.Authority = "https://login.contoso.example/"
	})
	if err := w.validate(t, "t"); err == nil || !strings.Contains(err.Error(), "does not reach login.contoso.example:443 (HTTP 503)") {
		t.Errorf("error %v", err)
	}
}

// A proxy that opens TLS: who issued its certificates is named, and the way out.
func TestInspection(t *testing.T) {
	w, p := newWorld(t, intunetest.Options{}), proxytest.New(t, proxytest.Options{Inspect: true})
	through := func(cfg *intune.Config) { cfg.Proxy = proxy.Config{URL: p.URL} }
	w.client = w.newClient(t, through)
	err := w.validate(t, "t")
	opened, ok := errors.AsType[*intune.InspectionError](err)
	if !ok || !strings.Contains(opened.Issuer, "CN="+proxytest.IssuerName) || !strings.Contains(err.Error(), "ca_file") {
		t.Fatalf("error %v", err)
	}
	if e, ok := errors.AsType[*intune.NetworkError](err); !ok || !e.Connect {
		t.Errorf("error %#v: nothing was sent", err)
	}
	w.client = w.newClient(t, through, func(cfg *intune.Config) {
		cfg.RootCAs = x509.NewCertPool()
		cfg.RootCAs.AppendCertsFromPEM(p.RootPEM())
	})
	if err := w.validate(t, "t"); err != nil {
		t.Errorf("with the proxy's root: %v", err)
	}
	if list := w.client.Inspections(); len(list) != 0 {
		t.Errorf("inspections %v of hosts that are not Microsoft's", list)
	}
}

// The same with Microsoft's own names, which a test reaches by a dialler of its
// own: a root that is not public is remembered and logged once.
func TestInspectionOfMicrosoft(t *testing.T) {
	for _, name := range []string{"HTTPS_PROXY", "https_proxy"} { // that of whoever runs this would be used
		t.Setenv(name, "")
	}
	w, p := newWorld(t, intunetest.Options{}), proxytest.New(t, proxytest.Options{Inspect: true, Rename: "graph.microsoft.com"})
	toGraph := func(cfg *intune.Config) {
		graph, _ := url.Parse(cfg.Endpoints.Graph)
		cfg.Endpoints.Graph = "https://graph.microsoft.com/"
		direct := (&net.Dialer{}).DialContext
		inspected := proxy.Config{URL: p.URL}.Through(nil)
		cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if address == "graph.microsoft.com:443" {
				return inspected(ctx, network, graph.Host)
			}
			return direct(ctx, network, address)
		}
	}
	w.client = w.newClient(t, toGraph)
	want := "TLS is opened on the way to graph.microsoft.com: its certificate was issued by \"CN=Contoso Web Filter,OU=Security,O=Contoso,C=DE\""
	if err := w.validate(t, "t"); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "exempt the host from TLS inspection") {
		t.Errorf("error %v, want one with %s", err, want)
	}
	w.client = w.newClient(t, toGraph, func(cfg *intune.Config) { cfg.RootCAs.AppendCertsFromPEM(p.RootPEM()) })
	for range 2 {
		_ = w.validate(t, "t") // the simulated Graph does not know this audience; its certificate was seen
	}
	list := w.client.Inspections()
	if len(list) != 1 || list[0] != (intune.Inspection{Host: "graph.microsoft.com", Issuer: "CN=Contoso Web Filter,OU=Security,O=Contoso,C=DE"}) {
		t.Errorf("inspections %v", list)
	}
	if n := w.logs.FilterMessageSnippet("TLS to the cloud is opened").Len(); n != 1 {
		t.Errorf("said %d times", n)
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
