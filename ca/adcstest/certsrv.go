package adcstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"strings"
	"time"
)

// WebOptions describe a web enrollment face.
type WebOptions struct {
	WebAuth
	// ClientCAs are who issues client certificates; nil: the CA itself.
	ClientCAs *x509.CertPool
	// German has the pages in German; their links, scripts and codes are the same.
	German bool
}

// Web is a web server in front of the CA.
type Web struct {
	URL         string // https://127.0.0.1:port
	Roots       *x509.CertPool
	Certificate *x509.Certificate // of the server: its own root, for the CA's host and 127.0.0.1

	gate *webGate
	http *http.Server
	done chan struct{}
}

// Host is the address with its port.
func (w *Web) Host() string { return strings.TrimPrefix(w.URL, "https://") }

// SignedIn counts the requests that a mechanism let in: "Kerberos", "NTLM",
// "Basic" or "certificate".
func (w *Web) SignedIn(mechanism string) int { return w.gate.signedIn(mechanism) }

// Close ends the server and its connections.
func (w *Web) Close() error {
	err := w.http.Close()
	<-w.done
	return err
}

// ServeCertsrv starts web enrollment (/certsrv/) on a port of 127.0.0.1.
func (c *CA) ServeCertsrv(o WebOptions) (*Web, error) {
	p := pages{ca: c, words: english}
	if o.German {
		p.words = german
	}
	return c.serveWeb(o, p.serve)
}

// serveWeb starts a TLS server whose callers sign in first.
func (c *CA) serveWeb(o WebOptions, app func(w http.ResponseWriter, r *http.Request, account string)) (*Web, error) {
	pair, err := c.webCertificate()
	if err != nil {
		return nil, err
	}
	gate, err := newWebGate(c, o.WebAuth, pair.Leaf.Raw)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	if o.ClientCertificate {
		config.ClientAuth, config.ClientCAs = tls.VerifyClientCertIfGiven, o.ClientCAs
		if config.ClientCAs == nil {
			config.ClientCAs = x509.NewCertPool()
			config.ClientCAs.AddCert(c.cert)
		}
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		return nil, err
	}
	w := &Web{
		URL: "https://" + listener.Addr().String(), Roots: x509.NewCertPool(), Certificate: pair.Leaf,
		gate: gate, done: make(chan struct{}),
	}
	w.Roots.AddCert(pair.Leaf)
	w.http = &http.Server{
		Handler: gate.guard(app), ConnContext: gate.connContext,
		ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0),
	}
	go func() {
		defer close(w.done)
		if err := w.http.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			panic(fmt.Sprintf("web face: %v", err))
		}
	}()
	return w, nil
}

// webCertificate is the server's own.
func (c *CA) webCertificate() (pair tls.Certificate, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pair, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: c.host},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		DNSNames: []string{c.host, "localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true, IsCA: true,
	}
	cert, err := certify(template, template, key.Public(), key)
	if err != nil {
		return pair, err
	}
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}, nil
}

// cut ends a request's connection without an answer.
func cut(w http.ResponseWriter) {
	if h, ok := w.(http.Hijacker); ok {
		if conn, _, err := h.Hijack(); err == nil {
			conn.Close()
			return
		}
	}
	panic(http.ErrAbortHandler)
}
