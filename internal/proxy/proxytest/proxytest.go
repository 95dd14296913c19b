// Package proxytest is an HTTP proxy for tests: it opens tunnels, wants a user
// and a password, refuses, and opens TLS in between as one that inspects does.
package proxytest

import (
	"cmp"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/certconnector/certconnector/internal/testkeys"
)

// Options say how a proxy behaves. The zero value opens every tunnel.
type Options struct {
	User, Password string   // wanted by Basic authentication; "": nobody is asked
	Offers         []string // Proxy-Authenticate headers of a refusal; nil: Basic
	Status         int      // answers every CONNECT with it; 0: tunnels are opened
	TLS            bool     // speak TLS with clients; see Proxy.Roots
	Inspect        bool     // open the TLS inside of tunnels; see Proxy.RootPEM
	Rename         string   // the name in certificates of a proxy that inspects; "": the target's
}

// Proxy is a proxy that runs until its test ends.
type Proxy struct {
	URL   string         // without a user
	Roots *x509.CertPool // vouch for it where it speaks TLS

	options Options
	mu      sync.Mutex
	asked   int
	tunnels []string
	root    *x509.Certificate
}

// New starts a proxy on loopback.
func New(t testing.TB, o Options) *Proxy {
	t.Helper()
	p := &Proxy{options: o}
	s := httptest.NewUnstartedServer(http.HandlerFunc(p.serve))
	if o.Inspect {
		p.root = p.makeRoot(t)
	}
	if o.TLS {
		s.StartTLS()
		p.Roots = x509.NewCertPool()
		p.Roots.AddCert(s.Certificate())
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	p.URL = s.URL
	return p
}

// Address is the proxy's host:port, as errors name it.
func (p *Proxy) Address() string {
	u, _ := url.Parse(p.URL)
	return u.Host
}

// Tunnels are the targets that were connected to.
func (p *Proxy) Tunnels() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.tunnels...)
}

// Asked is how many tunnels were asked for.
func (p *Proxy) Asked() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked
}

// RootPEM is the root of a proxy that inspects.
func (p *Proxy) RootPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.root.Raw})
}

// IssuerName is the common name of that root.
const IssuerName = "Contoso Web Filter"

func (p *Proxy) serve(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodConnect {
		http.Error(w, "only tunnels", http.StatusMethodNotAllowed)
		return
	}
	p.mu.Lock()
	p.asked++
	p.mu.Unlock()
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte(p.options.User+":"+p.options.Password))
	if p.options.User != "" && r.Header.Get("Proxy-Authorization") != want {
		w.Header()["Proxy-Authenticate"] = []string{`Basic realm="proxy"`}
		if p.options.Offers != nil {
			w.Header()["Proxy-Authenticate"] = p.options.Offers
		}
		http.Error(w, "who are you?", http.StatusProxyAuthRequired)
		return
	}
	if p.options.Status != 0 {
		http.Error(w, "a page for people", p.options.Status)
		return
	}
	p.mu.Lock()
	p.tunnels = append(p.tunnels, r.Host)
	p.mu.Unlock()
	there, err := net.Dial("tcp", r.Host)
	if err != nil {
		http.Error(w, "unreachable", http.StatusBadGateway)
		return
	}
	here, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		_ = there.Close() // nobody uses it
		return
	}
	if _, err := io.WriteString(here, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	if p.options.Inspect {
		here, there = p.between(here, there, cmp.Or(p.options.Rename, r.URL.Hostname()))
	}
	go func() { _, _ = io.Copy(there, here); _ = there.Close() }()
	go func() { _, _ = io.Copy(here, there); _ = here.Close() }()
}

// between ends TLS on both sides.
func (p *Proxy) between(here, there net.Conn, host string) (net.Conn, net.Conn) {
	shown := tls.Server(here, &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return p.forge(host) }})
	asked := tls.Client(there, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // an inspecting proxy of a test
	return shown, asked
}

func (p *Proxy) makeRoot(t testing.TB) *x509.Certificate {
	key := testkeys.P256(0)
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: IssuerName, Organization: []string{"Contoso"}, OrganizationalUnit: []string{"Security"}, Country: []string{"DE"}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	return certify(t.Fatalf, c, c, key.Public(), key)
}

func (p *Proxy) forge(host string) (*tls.Certificate, error) {
	c := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(host); ip != nil {
		c.IPAddresses = []net.IP{ip}
	} else {
		c.DNSNames = []string{host}
	}
	var err error
	leaf := certify(func(format string, a ...any) { err = fmt.Errorf(format, a...) }, c, p.root, testkeys.P256(1).Public(), testkeys.P256(0))
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: testkeys.P256(1)}, nil
}

func certify(fail func(string, ...any), c, issuer *x509.Certificate, public crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	der, err := x509.CreateCertificate(rand.Reader, c, issuer, public, key)
	if err != nil {
		fail("making a certificate: %v", err)
		return nil
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		fail("reading a certificate: %v", err)
	}
	return made
}
