package agent_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent"
	"github.com/certconnector/certconnector/internal/proxy/proxytest"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/scep"
)

// clientCertificate makes a CA, and a client certificate of it as a reverse
// proxy writes it into a header. The CA's file is the first value.
func clientCertificate(t *testing.T, host string, key int) (roots, header string) {
	t.Helper()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Clients"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: []string{host}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	signer := testkeys.P256(key)
	text := func(c *x509.Certificate) []byte {
		der, err := x509.CreateCertificate(rand.Reader, c, ca, signer.Public(), signer)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	roots = filepath.Join(t.TempDir(), "clients.pem")
	if err := os.WriteFile(roots, text(ca), 0o600); err != nil {
		t.Fatal(err)
	}
	return roots, url.PathEscape(string(text(leaf)))
}

// A reverse proxy may hand on the certificate of an MDM server; nobody else may,
// and what it hands on is verified.
func TestClientCertificateOfAReverseProxy(t *testing.T) {
	s, page := installOnetime(t)
	roots, jamf := clientCertificate(t, "jamf.corp.example", 0)
	_, forged := clientCertificate(t, "jamf.corp.example", 1)
	_, stranger := clientCertificate(t, "phone.corp.example", 0)
	l := &s.cfg.Listeners[len(s.cfg.Listeners)-1]
	l.ClientCA, l.TrustedProxies, l.ClientCertificateHeader = roots, []string{"127.0.0.1"}, "X-SSL-Client-Cert"
	s.cfg.Principals[0].Password, s.cfg.Principals[0].Certificate = nil, &agent.ClientCertificate{DNSName: "jamf.corp.example"}
	if err := s.cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	s.start()
	defer s.mustStop()
	for _, row := range []struct {
		name, from, header string
		status             int
		rule               string
	}{
		{"handed on by the proxy", "127.0.0.1", jamf, 200, ""},
		{"the client showed none", "127.0.0.1", "", 403, "client_certificate_missing"},
		{"of another CA", "127.0.0.1", forged, 403, "client_certificate_untrusted"},
		{"of another host", "127.0.0.1", stranger, 403, "client_certificate_name"},
		{"no certificate", "127.0.0.1", "hello", 400, ""},
		{"sent by somebody who is no proxy", "127.0.0.2", jamf, 403, "client_certificate_missing"},
	} {
		t.Run(row.name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, page, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("X-Forwarded-For", "198.51.100.7")
			if row.header != "" {
				r.Header.Set("X-SSL-Client-Cert", row.header)
			}
			transport := &http.Transport{DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(row.from)}}).DialContext}
			defer transport.CloseIdleConnections()
			answer, err := transport.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			b, err := io.ReadAll(answer.Body)
			if err != nil || answer.StatusCode != row.status || !strings.Contains(string(b), row.rule) {
				t.Errorf("status %d %.200q, %v; want %d %s", answer.StatusCode, b, err, row.status, row.rule)
			}
		})
	}
}

// What stands in the way to the cloud is told by the page for operators, in
// full: who refuses, or who opens TLS.
func TestReadinessNamesTheProxy(t *testing.T) {
	for _, row := range []struct {
		name  string
		proxy proxytest.Options
		want  string // PROXY is its address
	}{
		{"a proxy that wants a password", proxytest.Options{User: "u", Password: "p"}, "network (the proxy PROXY wants a user and a password (HTTP 407); set proxy.user and proxy.password)"},
		{"a proxy that opens TLS", proxytest.Options{Inspect: true}, `was issued by "CN=Contoso Web Filter,OU=Security,O=Contoso,C=DE", which nobody here vouches for; name its root in the tenant's ca_file`},
	} {
		t.Run(row.name, func(t *testing.T) {
			s, cloud := installIntune(t)
			status := s.withStatus()
			p := proxytest.New(t, row.proxy)
			s.cfg.Tenants[0].Proxy = &agent.Proxy{URL: p.URL, NoProxy: []string{"nothing.example"}}
			s.start()
			defer s.mustStop()
			if _, text := page(t, status+"/readyz?verbose"); !strings.Contains(text, "\nnotify: ok\ninspection: ok\n") {
				t.Errorf("before\n%s", text)
			}
			if err := cloudRefuses(t, s, cloud); err == nil {
				t.Error("a device was answered")
			}
			code, text := page(t, status+"/readyz?verbose")
			if want := strings.ReplaceAll(row.want, "PROXY", p.Address()); code != http.StatusOK || !strings.Contains(text, want) {
				t.Errorf("HTTP %d, want %q in\n%s", code, want, text)
			}
		})
	}
}

// Behind the proxy that its own rules allow, everything works.
func TestEnrolmentThroughAProxy(t *testing.T) {
	s, cloud := installIntune(t)
	p := proxytest.New(t, proxytest.Options{User: "connector", Password: "pass~word-of-proxy"})
	t.Setenv("PROXY_PASSWORD", "pass~word-of-proxy")
	s.cfg.Tenants[0].Proxy = &agent.Proxy{
		URL: p.URL, User: "connector", Password: &agent.SecretRef{Env: "PROXY_PASSWORD"}, NoProxy: []string{"nothing.example"},
	}
	if err := s.cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	s.start()
	defer s.mustStop()
	if reply := s.enrolIntune(cloud, "windows", testkeys.RSA2048(0)); reply.Status != scep.Success {
		t.Fatalf("%v", reply.Status)
	}
	if n := len(p.Tunnels()); n != 3 {
		t.Errorf("%d tunnels, want sign-in, Graph and Intune", n)
	}
}
