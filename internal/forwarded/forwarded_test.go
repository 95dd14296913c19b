package forwarded_test

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/certconnector/certconnector/internal/forwarded"
	"github.com/certconnector/certconnector/internal/testkeys"
)

func networks(t testing.TB, list ...string) []netip.Prefix {
	t.Helper()
	n, err := forwarded.ParseNetworks(list)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// seen is what a handler is told of a request.
type seen struct {
	request *http.Request
	status  int
}

func send(c forwarded.Config, remote string, headers http.Header) seen {
	var s seen
	h := c.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { s.request = r }))
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.RemoteAddr = remote
	for name, values := range headers {
		r.Header[name] = values
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	s.status = w.Code
	return s
}

// The device is the last hop that is no proxy of ours, and only where a proxy
// of ours says so.
func TestDevice(t *testing.T) {
	const device, other, proxy = "198.51.100.7", "203.0.113.9", "10.0.0.5:4711"
	xff := func(values ...string) http.Header { return http.Header{"X-Forwarded-For": values} }
	rfc := func(values ...string) http.Header { return http.Header{"Forwarded": values} }
	for _, row := range []struct {
		name    string
		header  string // configured
		remote  string
		headers http.Header
		want    string // RemoteAddr
	}{
		{"a stranger's header is not read", "", device + ":4711", xff(other), device + ":4711"},
		{"a stranger that says it is a proxy", "", device + ":4711", xff("10.0.0.5"), device + ":4711"},
		{"no header", "", proxy, nil, proxy},
		{"one hop", "", proxy, xff(device), device + ":0"},
		{"what a device forged stands to the left", "", proxy, xff(other + ", " + device), device + ":0"},
		{"a forged loopback address", "", proxy, xff("127.0.0.1, " + device), device + ":0"},
		{"a forged header of its own line", "", proxy, xff(other, device), device + ":0"},
		{"a chain of proxies", "", proxy, xff(other + ", " + device + ", 10.0.0.9"), device + ":0"},
		{"only proxies: the first of them asks", "", proxy, xff("10.0.0.8, 10.0.0.9"), "10.0.0.8:0"},
		{"rubbish hides nobody behind it", "", proxy, xff(other + ", unknown, 10.0.0.9"), "10.0.0.9:0"},
		{"rubbish alone", "", proxy, xff("unknown"), proxy},
		{"an empty element", "", proxy, xff(device + ","), proxy},
		{"a port", "", proxy, xff(device + ":5555"), device + ":5555"},
		{"IPv6", "", proxy, xff("2001:db8::7"), "[2001:db8::7]:0"},
		{"IPv6 in brackets with a port", "", proxy, xff("[2001:db8::7]:99"), "[2001:db8::7]:99"},
		{"an IPv4 address in IPv6", "", proxy, xff("::ffff:198.51.100.7"), device + ":0"},
		{"a zone tells nothing here", "", proxy, xff("fe80::1%eth0"), "[fe80::1]:0"},
		{"a proxy in IPv6 form", "", "[::ffff:10.0.0.5]:1", xff(device), device + ":0"},
		{"the other header is the device's", "", proxy, http.Header{"X-Forwarded-For": {device}, "Forwarded": {"for=" + other}}, device + ":0"},
		{"the other header, the other way", "Forwarded", proxy, http.Header{"X-Forwarded-For": {other}, "Forwarded": {"for=" + device}}, device + ":0"},
		{"RFC 7239", "Forwarded", proxy, rfc(`for=192.0.2.43, for="` + device + `:4711";proto=https;by=203.0.113.43`), device + ":4711"},
		{"RFC 7239 with IPv6", "Forwarded", proxy, rfc(`For="[2001:db8:cafe::17]:4711"`), "[2001:db8:cafe::17]:4711"},
		{"RFC 7239 in several lines", "Forwarded", proxy, rfc("for="+other, "proto=http; for="+device), device + ":0"},
		{"RFC 7239, a hidden hop", "Forwarded", proxy, rfc("for=_hidden"), proxy},
		{"RFC 7239, a hop without for", "Forwarded", proxy, rfc("for=" + other + ", proto=https"), proxy},
		{"RFC 7239, an open quote of the device", "Forwarded", proxy, rfc(`for="x, for=` + device), device + ":0"},
		{"RFC 7239, a quote that would swallow", "Forwarded", proxy, rfc(`for=` + other + `;x=", for=` + device + `;y="1"`), device + ":0"},
		{"RFC 7239, a host with an escaped quote and comma", "Forwarded", proxy, rfc(`for=` + device + `;host="a\",for=6.6.6.6;x=\"";proto=https`), device + ":0"},
		{"RFC 7239, a host with an escaped quote and semicolon", "Forwarded", proxy, rfc(`for=` + device + `;host="a\";for=6.6.6.6;x=\"";proto=https`), device + ":0"},
		{"RFC 7239, a host that ends after an escaped quote", "Forwarded", proxy, rfc(`for=` + device + `;host="a\";for=6.6.6.6;x=\"b"`), device + ":0"},
		{"RFC 7239, a host that ends with a backslash", "Forwarded", proxy, rfc(`for=` + other + `, host="a\\";for=` + device), device + ":0"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := send(forwarded.Config{Trusted: networks(t, "10.0.0.0/24"), Header: row.header}, row.remote, row.headers)
			if s.request == nil || s.request.RemoteAddr != row.want {
				t.Fatalf("taken for %+v, want %s", s.request, row.want)
			}
			if peer := forwarded.Peer(s.request); peer != netip.MustParseAddrPort(row.remote).Addr().Unmap() {
				t.Errorf("the connection is said to be from %s", peer)
			}
		})
	}
}

func TestParseNetworks(t *testing.T) {
	for _, row := range []struct{ text, want, err string }{
		{"127.0.0.1", "127.0.0.1/32", ""},
		{"::1", "::1/128", ""},
		{"10.0.0.0/8", "10.0.0.0/8", ""},
		{"2001:db8::/32", "2001:db8::/32", ""},
		{"0.0.0.0/0", "", "trusts nearly everybody"},
		{"::/0", "", "trusts nearly everybody"},
		{"128.0.0.0/1", "", "trusts nearly everybody"},
		{"2000::/3", "", "trusts nearly everybody"},
		{"10.1.2.3/8", "", "did you mean 10.0.0.0/8, or the one address 10.1.2.3"},
		{"0.0.0.0", "", "is no address"},
		{"nginx.corp.example", "", "is no address"},
		{"unix", "", "is no address"},
		{"fe80::1%eth0", "", "is no address"},
		{"::ffff:10.0.0.0/104", "", "is no address"},
	} {
		t.Run(row.text, func(t *testing.T) {
			n, err := forwarded.ParseNetworks([]string{row.text})
			switch {
			case row.err != "" && (err == nil || !strings.Contains(err.Error(), row.err)):
				t.Errorf("error %v, want one with %q", err, row.err)
			case row.err == "" && (err != nil || n[0].String() != row.want):
				t.Errorf("%v, %v", n, err)
			}
		})
	}
}

func certificate(t testing.TB, name string) *x509.Certificate {
	t.Helper()
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, testkeys.P256(0).Public(), testkeys.P256(0))
	if err != nil {
		t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// escaped is a certificate as $ssl_client_escaped_cert of nginx has it.
func escaped(c *x509.Certificate) string {
	return strings.ReplaceAll(url.QueryEscape(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))), "+", "%20")
}

// A certificate in a header counts from a trusted proxy and where it is
// configured; everybody else's is as if it had not been sent.
func TestClientCertificateHeader(t *testing.T) {
	const name = "X-Ssl-Client-Cert"
	phone, proxysOwn := certificate(t, "phone"), certificate(t, "nginx")
	text := escaped(phone)
	for _, row := range []struct {
		name       string
		configured bool
		remote     string
		values     []string
		tls        *x509.Certificate // shown on the connection
		want       string            // common name; "": none
		status     int
	}{
		{"from the proxy", true, "10.0.0.5:1", []string{text}, nil, "phone", 200},
		{"with the chain behind it", true, "10.0.0.5:1", []string{text + text}, nil, "phone", 200},
		{"forged by a device", true, "198.51.100.7:1", []string{text}, nil, "", 200},
		{"forged by a device that shows its own", true, "198.51.100.7:1", []string{text}, proxysOwn, "nginx", 200},
		{"from the proxy, not configured", false, "10.0.0.5:1", []string{text}, nil, "", 200},
		{"the proxy's own identifies nobody", true, "10.0.0.5:1", nil, proxysOwn, "", 200},
		{"the proxy's own beside the client's", true, "10.0.0.5:1", []string{text}, proxysOwn, "phone", 200},
		{"an empty header: the client showed none", true, "10.0.0.5:1", []string{""}, nil, "", 200},
		{"twice: one of them is the client's", true, "10.0.0.5:1", []string{text, text}, nil, "", 400},
		{"no certificate", true, "10.0.0.5:1", []string{"hello"}, nil, "", 400},
		{"not escaped", true, "10.0.0.5:1", []string{"%zz"}, nil, "", 400},
		{"a key", true, "10.0.0.5:1", []string{strings.ReplaceAll(text, "CERTIFICATE", "PRIVATE%20KEY")}, nil, "", 400},
		{"too long", true, "10.0.0.5:1", []string{strings.Repeat("A", 40<<10)}, nil, "", 400},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := forwarded.Config{Trusted: networks(t, "10.0.0.0/24")}
			if row.configured {
				c.CertificateHeader = "X-SSL-Client-Cert"
			}
			var got *http.Request
			h := c.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r }))
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.RemoteAddr, r.Header[name] = row.remote, row.values
			if row.tls != nil {
				r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{row.tls}}
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != row.status || (got == nil) != (row.status != 200) {
				t.Fatalf("status %d", w.Code)
			}
			if got == nil {
				return
			}
			if row.configured && got.Header.Get(name) != "" {
				t.Error("the header was passed on")
			}
			cn := ""
			if shown := forwarded.ClientCertificates(got); len(shown) > 0 {
				cn = shown[0].Subject.CommonName
			}
			if cn != row.want {
				t.Errorf("the client is %q, want %q", cn, row.want)
			}
		})
	}
}

// A proxy that names nobody is one source for all limits: that is said, once.
func TestSilentProxyIsNoticed(t *testing.T) {
	core, lines := observer.New(zap.WarnLevel)
	var last seen
	h := forwarded.Config{Trusted: networks(t, "127.0.0.1"), Log: zap.New(core)}.Handler(
		http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { last.request = r }))
	for range 3 {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = "127.0.0.1:1"
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
	if last.request.RemoteAddr != "127.0.0.1:1" || lines.Len() != 1 {
		t.Errorf("taken for %s, %d lines", last.request.RemoteAddr, lines.Len())
	}
}

// Where a proxy hands on what devices write, they fill no disk.
func TestUnusableCertificateIsSaidOnce(t *testing.T) {
	const name = "X-Ssl-Client-Cert"
	core, lines := observer.New(zap.WarnLevel)
	h := forwarded.Config{Trusted: networks(t, "127.0.0.1"), CertificateHeader: name, Log: zap.New(core)}.Handler(http.NotFoundHandler())
	for range 3 {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = "127.0.0.1:1"
		r.Header[name] = []string{"forged"}
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code != http.StatusBadRequest {
			t.Errorf("status %d", w.Code)
		}
	}
	if lines.FilterMessage("proxy handed on no usable client certificate").Len() != 1 {
		t.Errorf("%d lines", lines.Len())
	}
}
