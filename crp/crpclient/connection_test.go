package crpclient_test

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/crp/crpclient"
	"github.com/certconnector/certconnector/internal/proxy"
	"github.com/certconnector/certconnector/internal/proxy/proxytest"
	"github.com/certconnector/certconnector/policymodule"
)

// None of these is an answer, and none a refusal.
func TestNoConnection(t *testing.T) {
	r := request(t)
	fails := func(t *testing.T, c *crpclient.Client) {
		t.Helper()
		if d, err := c.Verify(t.Context(), r); err == nil {
			t.Errorf("decided %+v", d)
		}
		err := c.Notify(t.Context(), policymodule.Outcome{Endpoint: "corp", TransactionID: "1", CSR: r.CSR.Raw})
		if err == nil || errors.Is(err, policymodule.ErrNotifyRefused) {
			t.Errorf("told: %v", err)
		}
		if err := c.Check(t.Context()); err == nil {
			t.Error("Check is content")
		}
	}
	granting := func(t *testing.T, change ...func(*httptest.Server)) *point {
		p := newPoint(t, change...)
		p.answer(201, jsonType, `{"verdict":"granted"}`)
		return p
	}
	t.Run("down", func(t *testing.T) {
		p := granting(t)
		c := p.client(t)
		p.Close()
		fails(t, c)
	})
	t.Run("slow", func(t *testing.T) {
		p := granting(t)
		p.hold = true
		fails(t, p.client(t, func(config *crpclient.Config) { config.Timeout = 50 * time.Millisecond }))
	})
	t.Run("TLS 1.1", func(t *testing.T) {
		fails(t, granting(t, func(s *httptest.Server) { s.TLS.MinVersion, s.TLS.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }).client(t))
	})
	t.Run("a certificate of others", func(t *testing.T) {
		fails(t, granting(t).client(t, func(config *crpclient.Config) { config.RootCAs = x509.NewCertPool() }))
	})
	t.Run("a certificate that is not pinned", func(t *testing.T) {
		fails(t, granting(t).client(t, func(config *crpclient.Config) { config.Pins = [][32]byte{{1}} }))
	})
	t.Run("no certificate of our own", func(t *testing.T) {
		fails(t, granting(t).client(t, func(config *crpclient.Config) {
			config.Certificate = func() (*tls.Certificate, error) { return nil, errors.New("key file is gone") }
		}))
	})
	t.Run("no certificate and no error", func(t *testing.T) {
		fails(t, granting(t).client(t, func(config *crpclient.Config) {
			config.Certificate = func() (*tls.Certificate, error) { return nil, nil }
		}))
	})
	t.Run("plain text", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = io.WriteString(conn, "HTTP/1.1 201 Created\r\nContent-Type: application/json\r\n\r\n{\"verdict\":\"granted\"}")
				_ = conn.Close()
			}
		}()
		fails(t, granting(t).client(t, func(config *crpclient.Config) { config.URL = "https://" + l.Addr().String() }))
	})
	t.Run("a redirect", func(t *testing.T) {
		elsewhere, p := granting(t), newPoint(t)
		p.answer(307, "", "")
		p.header.Set("Location", elsewhere.URL)
		fails(t, p.client(t))
		if len(elsewhere.asked) != 0 {
			t.Error("the challenge went elsewhere")
		}
	})
	t.Run("a proxy that refuses us", func(t *testing.T) {
		between := proxytest.New(t, proxytest.Options{User: "connector", Password: "x"})
		fails(t, granting(t).client(t, func(config *crpclient.Config) {
			config.Dial = proxy.Config{URL: between.URL}.Through(nil)
		}))
		if between.Asked() == 0 {
			t.Error("the configured proxy was not asked")
		}
	})
}

func TestPinned(t *testing.T) {
	p := newPoint(t)
	p.answer(400, problemType, `{"rule":"body_malformed"}`)
	pin := sha256.Sum256(p.certificate.Raw)
	if err := p.client(t, func(config *crpclient.Config) { config.Pins = [][32]byte{{1}, pin} }).Check(t.Context()); err != nil {
		t.Error(err)
	}
}

// Readiness is about us: it ends with a refusal of our certificate, and comes
// back with the next answer that shows we are known.
func TestReady(t *testing.T) {
	p := newPoint(t)
	c, r := p.client(t), request(t)
	for _, row := range []struct {
		name   string
		status int
		body   string
		ready  bool
	}{
		{"granted", 201, `{"verdict":"granted"}`, true},
		{"certificate refused", 403, `{"rule":"client_certificate_pin"}`, false},
		{"a page of a proxy", 502, `<html>`, false},
		{"the cloud is down", 503, `{"rule":"could_not_ask"}`, true},
		{"tenant refused", 403, `{"rule":"tenant_not_allowed"}`, false},
		{"granted again", 201, `{"verdict":"granted"}`, true},
		{"an outcome without a verdict", 403, `{"rule":"notify_without_verdict"}`, true},
	} {
		p.answer(row.status, map[bool]string{true: jsonType, false: problemType}[row.status == 201], row.body)
		_, _ = c.Verify(t.Context(), r)
		if err := c.Ready(); (err == nil) != row.ready {
			t.Errorf("%s: %v", row.name, err)
		}
	}
}

// Only the refusal of an empty question shows that we are known.
func TestCheck(t *testing.T) {
	p := newPoint(t)
	c := p.client(t)
	for _, row := range []struct {
		name        string
		status      int
		contentType string
		body        string
		good        bool
	}{
		{"known", 400, problemType, `{"rule":"body_malformed"}`, true},
		{"another 400", 400, "text/html", `<html>`, false},
		{"not known", 403, problemType, `{"rule":"client_certificate_name"}`, false},
		{"not there", 404, problemType, `{"rule":"not_found"}`, false},
		{"busy", 503, problemType, `{"rule":"too_many_requests"}`, false},
		{"granted", 201, jsonType, `{"verdict":"granted"}`, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			p.answer(row.status, row.contentType, row.body)
			if err := c.Check(t.Context()); (err == nil) != row.good {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestNewRefusesNonsense(t *testing.T) {
	good := newPoint(t).config(t)
	for name, change := range map[string]func(*crpclient.Config){
		"no address":        func(c *crpclient.Config) { c.URL = "" },
		"plain HTTP":        func(c *crpclient.Config) { c.URL = "http://127.0.0.1:8443" },
		"no scheme":         func(c *crpclient.Config) { c.URL = "crp.corp.example:8443" },
		"no host":           func(c *crpclient.Config) { c.URL = "https:///path" },
		"a password":        func(c *crpclient.Config) { c.URL = "https://a:b@crp.corp.example" },
		"a query":           func(c *crpclient.Config) { c.URL = "https://crp.corp.example/?x=1" },
		"no certificate":    func(c *crpclient.Config) { c.Certificate = nil },
		"nothing to digest": func(c *crpclient.Config) { c.Sealer = nil },
	} {
		config := good
		change(&config)
		if _, err := crpclient.New(config); err == nil || strings.Contains(err.Error(), "a:b") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}
