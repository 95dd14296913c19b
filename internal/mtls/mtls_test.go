package mtls_test

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certconnector/certconnector/internal/mtls"
	"github.com/certconnector/certconnector/internal/proxy"
	"github.com/certconnector/certconnector/internal/proxy/proxytest"
	"github.com/certconnector/certconnector/internal/testkeys"
)

const jsonType, problemType = "application/json", "application/problem+json"

// peer answers what a test wants and notes who asked.
type peer struct {
	*httptest.Server
	certificate *x509.Certificate

	mu     sync.Mutex
	status int
	header http.Header
	body   string
	asked  []ask
}

type ask struct{ path, contentType, userAgent, certificate, body string }

func newPeer(t *testing.T) *peer {
	t.Helper()
	p := &peer{}
	p.Server = httptest.NewUnstartedServer(p)
	pair := selfSigned(t, "peer", 0, x509.ExtKeyUsageServerAuth)
	p.certificate = pair.Leaf
	p.TLS = &tls.Config{Certificates: []tls.Certificate{*pair}, ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS12}
	p.EnableHTTP2 = true
	p.StartTLS()
	t.Cleanup(p.Close)
	p.answer(200, jsonType, `{}`)
	return p
}

func selfSigned(t *testing.T, name string, key int, usage x509.ExtKeyUsage) *tls.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{usage},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, testkeys.P256(key).Public(), testkeys.P256(key))
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: testkeys.P256(key), Leaf: cert}
}

func (p *peer) answer(status int, contentType, body string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status, p.body, p.header = status, body, http.Header{"Content-Type": {contentType}}
}

func (p *peer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	content, _ := io.ReadAll(r.Body)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, ask{r.URL.Path, r.Header.Get("Content-Type"), r.UserAgent(), r.TLS.PeerCertificates[0].Subject.CommonName, string(content)})
	for name, values := range p.header {
		w.Header()[name] = values
	}
	w.WriteHeader(p.status)
	_, _ = io.WriteString(w, p.body)
}

func (p *peer) client(t *testing.T, change ...func(*mtls.Config)) *mtls.Client {
	t.Helper()
	us := selfSigned(t, "us", 1, x509.ExtKeyUsageClientAuth)
	roots := x509.NewCertPool()
	roots.AddCert(p.certificate)
	config := mtls.Config{
		Peer: "peer", Example: "https://peer.corp.example", URL: p.URL, RootCAs: roots, ConnectTimeout: time.Minute, Timeout: 2 * time.Minute,
		Certificate: func() (*tls.Certificate, error) { return us, nil },
	}
	for _, f := range change {
		f(&config)
	}
	c, err := mtls.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Reconnect)
	return c
}

func TestQuestion(t *testing.T) {
	p := newPeer(t)
	c := p.client(t, func(config *mtls.Config) { config.URL += "/base/" })
	p.answer(201, jsonType+"; charset=utf-8", `{"a":1}`)
	answer, err := c.Post(t.Context(), "/path", map[string]int{"b": 2})
	if err != nil || answer.Status != 201 || string(answer.Content) != `{"a":1}` {
		t.Errorf("%d %s, error %v", answer.Status, answer.Content, err)
	}
	want := ask{"/base/path", jsonType, "certconnector", "us", `{"b":2}`}
	if len(p.asked) != 1 || p.asked[0] != want {
		t.Errorf("asked %+v", p.asked)
	}
}

// A renewed certificate is shown once connections are closed.
func TestReconnect(t *testing.T) {
	p := newPeer(t)
	now := selfSigned(t, "old", 1, x509.ExtKeyUsageClientAuth)
	c := p.client(t, func(config *mtls.Config) {
		config.Certificate = func() (*tls.Certificate, error) { return now, nil }
	})
	post := func() {
		t.Helper()
		if _, err := c.Post(t.Context(), "/", nil); err != nil {
			t.Fatal(err)
		}
	}
	post()
	now = selfSigned(t, "new", 1, x509.ExtKeyUsageClientAuth)
	post()
	c.Reconnect()
	post()
	var shown []string
	for _, a := range p.asked {
		shown = append(shown, a.certificate)
	}
	if got := strings.Join(shown, " "); got != "old old new" {
		t.Errorf("shown: %s", got)
	}
}

func TestPins(t *testing.T) {
	p := newPeer(t)
	pin := sha256.Sum256(p.certificate.Raw)
	for name, row := range map[string]struct {
		pins [][32]byte
		good bool
	}{"none": {nil, true}, "one of two": {[][32]byte{{1}, pin}, true}, "another": {[][32]byte{{1}}, false}} {
		_, err := p.client(t, func(config *mtls.Config) { config.Pins = row.pins }).Post(t.Context(), "/", nil)
		if (err == nil) != row.good || err != nil && !strings.Contains(err.Error(), "pinned") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What is no JSON is no answer, and what is no problem document names no rule.
func TestAnswers(t *testing.T) {
	p := newPeer(t)
	c := p.client(t, func(config *mtls.Config) { config.MostAnswer = 100 })
	for _, row := range []struct {
		name        string
		status      int
		contentType string
		body        string
		refused     int // 0: no refusal
		rule        string
		fails       bool
	}{
		{"JSON", 200, jsonType, `{}`, 0, "", false},
		{"nothing", 204, "", "", 0, "", false},
		{"a page", 200, "text/html", `<html>`, 0, "", true},
		{"no type", 200, "", `{}`, 0, "", true},
		{"as long as may be", 200, jsonType, strings.Repeat(" ", 100), 0, "", false},
		{"too long", 200, jsonType, strings.Repeat(" ", 101), 0, "", true},
		{"a redirect", 307, "", "", 307, "", true},
		{"a problem", 403, problemType, `{"rule":"not_you"}`, 403, "not_you", true},
		{"a problem without a rule", 403, problemType, `{}`, 403, "", true},
		{"a problem with prose", 403, problemType, `{"rule":"Not you\n"}`, 403, "", true},
		{"a rule in what is no problem document", 403, jsonType, `{"rule":"not_you"}`, 403, "", true},
		{"a page that refuses", 502, "text/html", `<html>`, 502, "", true},
	} {
		t.Run(row.name, func(t *testing.T) {
			p.answer(row.status, row.contentType, row.body)
			_, err := c.Post(t.Context(), "/", nil)
			refused, ok := errors.AsType[*mtls.Refusal](err)
			if (err != nil) != row.fails || ok != (row.refused != 0) || ok && (refused.Status != row.refused || refused.Rule != row.rule) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	p := newPeer(t)
	now := time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)
	c := p.client(t, func(config *mtls.Config) {
		config.Clock, config.MostRetryAfter = func() time.Time { return now }, time.Hour
	})
	for value, want := range map[string]time.Duration{
		"120": 2 * time.Minute, "": 0, "-1": 0, "soon": 0, "86400": time.Hour, "99999999999": 0,
		"Mon, 01 Mar 2027 12:03:00 GMT": 3 * time.Minute, "Mon, 01 Mar 2027 11:00:00 GMT": 0,
	} {
		p.answer(503, problemType, `{}`)
		p.header.Set("Retry-After", value)
		_, err := c.Post(t.Context(), "/", nil)
		if e, ok := errors.AsType[*mtls.Refusal](err); !ok || e.RetryAfter() != want {
			t.Errorf("%q: %v", value, err)
		}
	}
}

// Only what met nobody surely did not get there.
func TestNotReached(t *testing.T) {
	p := newPeer(t)
	c := p.client(t)
	strangers := p.client(t, func(config *mtls.Config) { config.RootCAs = x509.NewCertPool() })
	if _, err := strangers.Post(t.Context(), "/", nil); err == nil || errors.Is(err, mtls.ErrNotReached) {
		t.Errorf("a certificate of others: %v", err)
	}
	unarmed := p.client(t, func(config *mtls.Config) {
		config.Certificate = func() (*tls.Certificate, error) { return nil, nil }
	})
	if _, err := unarmed.Post(t.Context(), "/", nil); err == nil || errors.Is(err, mtls.ErrNotReached) {
		t.Errorf("no certificate to show: %v", err)
	}
	p.Close()
	if _, err := c.Post(t.Context(), "/", nil); !errors.Is(err, mtls.ErrNotReached) {
		t.Errorf("nobody there: %v", err)
	}
}

// Behind a proxy the peer is known by the same pin and roots, and knows us by
// our certificate; what the proxy refuses did not reach the peer.
func TestProxies(t *testing.T) {
	p := newPeer(t)
	open := proxytest.New(t, proxytest.Options{TLS: true, User: "us", Password: "right"})
	pin := sha256.Sum256(p.certificate.Raw)
	c := p.client(t, func(config *mtls.Config) {
		config.Pins = [][32]byte{pin}
		config.Dial = proxy.Config{URL: open.URL, RootCAs: open.Roots, User: "us", Password: "right"}.Through(nil)
	})
	if _, err := c.Post(t.Context(), "/", nil); err != nil || len(open.Tunnels()) != 1 || p.asked[0].certificate != "us" {
		t.Errorf("error %v, tunnels %v, asked %v", err, open.Tunnels(), p.asked)
	}
	closed := proxytest.New(t, proxytest.Options{Status: 403})
	c = p.client(t, func(config *mtls.Config) { config.Dial = proxy.Config{URL: closed.URL}.Through(nil) })
	_, err := c.Post(t.Context(), "/", nil)
	if !errors.Is(err, mtls.ErrNotReached) || !strings.Contains(err.Error(), "the proxy "+closed.Address()+" forbids") {
		t.Errorf("error %v", err)
	}
}

func TestNewRefusesNonsense(t *testing.T) {
	certificate := func() (*tls.Certificate, error) { return nil, nil }
	for name, config := range map[string]mtls.Config{
		"no address":     {Certificate: certificate},
		"plain HTTP":     {URL: "http://127.0.0.1", Certificate: certificate},
		"no host":        {URL: "https:///path", Certificate: certificate},
		"a password":     {URL: "https://a:b@peer.corp.example", Certificate: certificate},
		"a query":        {URL: "https://peer.corp.example/?x=1", Certificate: certificate},
		"a fragment":     {URL: "https://peer.corp.example/#x", Certificate: certificate},
		"no certificate": {URL: "https://peer.corp.example"},
	} {
		if _, err := mtls.New(config); err == nil || strings.Contains(err.Error(), "a:b") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}
