package negotiate

import (
	"bytes"
	"context"
	"crypto/fips140"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/certconnector/certconnector/internal/secret"
)

const (
	dialTimeout = 10 * time.Second
	// holdFor is how long a refused password is not tried again. Domains lock
	// accounts after a few wrong ones.
	holdFor = time.Minute
	// maxBody bounds what is kept of a request to send it again.
	maxBody = 4 << 20
	// maxDrain bounds what is read of an answer to keep its connection.
	maxDrain = 256 << 10
)

var (
	// ErrNotSent says that the request's body surely did not reach the server.
	ErrNotSent = errors.New("request not sent")
	// ErrRefused says that the server or the KDC refuses the credentials. It
	// comes with ErrNotSent.
	ErrRefused = errors.New("credentials refused")
)

// Basic is a user name and a password that the server sees (RFC 7617).
type Basic struct {
	User     string
	Password secret.Text
}

// TransportConfig says to which server to sign in, and as whom: at most one of
// Kerberos, NTLM, SSPI and Basic, with or without a client certificate.
type TransportConfig struct {
	// Host is the only one that gets credentials, with its port if that is not
	// 443. Kerberos needs the name that its service principal has.
	Host string
	// Roots are what the server's certificate must chain to; nil: the system's.
	Roots *x509.CertPool

	Kerberos    *Kerberos
	NTLM        *NTLM
	SSPI        *SSPI // Windows only
	Basic       *Basic
	Certificate *Certificate

	// Connections is how many there are at most, one request on each; default 8.
	// More requests wait.
	Connections int
	// Dial opens connections below TLS, as through a proxy; nil: TCP. The
	// environment is not looked at.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// Transport is an http.RoundTripper for one server and one principal: HTTPS
// only, TLS 1.2 or later. It signs in before or when asked,
// never twice in a row with a password that was just refused, and sends a
// request's body only with credentials, where the server asks for any. Kerberos and NTLM name the TLS channel
// (tls-server-end-point, RFC 5929), as Extended Protection demands.
//
// Response bodies must be closed: the connection is taken until then. An
// answer of 401 means that the credentials do not do. An error that wraps
// ErrNotSent says that the server has not seen the request's body; after any
// other it may have.
type Transport struct {
	config  TransportConfig
	host    string // without port
	address string // with port
	spn     string
	tickets *tickets
	pair    *pair
	slots   chan struct{}

	scheme    atomic.Value // of NTLM: what the server understood last
	heldUntil atomic.Int64 // Unix nanoseconds: until when a refused password rests

	mu     sync.Mutex
	idle   []*session // the last used is the first taken
	closed bool
}

// NewTransport checks the configuration. It reads the client certificate and
// connects to nobody.
func NewTransport(c TransportConfig) (*Transport, error) {
	t := &Transport{config: c, host: c.Host, address: c.Host}
	if host, _, err := net.SplitHostPort(c.Host); err == nil {
		t.host = host
	} else {
		t.address = net.JoinHostPort(c.Host, "443")
	}
	if t.host == "" {
		return nil, errors.New("no host to sign in to")
	}
	if t.config.Now == nil {
		t.config.Now = time.Now
	}
	if err := t.readMechanism(); err != nil {
		return nil, err
	}
	if c.Certificate != nil {
		t.pair = &pair{files: *c.Certificate}
		if _, _, err := t.pair.current(); err != nil {
			return nil, err
		}
	}
	if t.config.Connections <= 0 {
		t.config.Connections = 8
	}
	t.slots = make(chan struct{}, t.config.Connections)
	t.scheme.Store("NTLM")
	return t, nil
}

func (t *Transport) readMechanism() error {
	c, n := &t.config, 0
	for _, given := range []bool{c.Kerberos != nil, c.NTLM != nil, c.SSPI != nil, c.Basic != nil} {
		if given {
			n++
		}
	}
	if n > 1 {
		return errors.New("name one of kerberos, ntlm, sspi and basic: falling back from one to the next would let a man in the middle choose")
	}
	if fips140.Enforced() && (c.Kerberos != nil || c.NTLM != nil) {
		return errors.New("kerberos and ntlm need algorithms that GODEBUG=fips140=only forbids: sign in with a client certificate")
	}
	switch {
	case c.Kerberos != nil:
		if err := c.Kerberos.Check(); err != nil {
			return fmt.Errorf("kerberos: %w", err)
		}
		t.spn = c.Kerberos.SPN
		if t.spn == "" {
			var err error
			if t.spn, err = spnFor(t.host); err != nil {
				return err
			}
		}
		t.tickets = &tickets{Kerberos: *c.Kerberos, spn: t.spn, now: c.Now, busy: make(chan struct{}, 1)}
	case c.NTLM != nil:
		if c.NTLM.User == "" || c.NTLM.Password == "" {
			return errors.New("ntlm: user or password is missing")
		}
		t.spn = "HTTP/" + t.host
	case c.SSPI != nil:
		return t.readSSPI()
	case c.Basic != nil:
		if c.Basic.User == "" || c.Basic.Password == "" || strings.Contains(c.Basic.User, ":") {
			return errors.New("basic: user or password is missing, or the user has a colon")
		}
	}
	return nil
}

func (t *Transport) readSSPI() error {
	s := t.config.SSPI
	if err := s.Check(); err != nil {
		return err
	}
	t.spn = s.SPN
	if t.spn != "" {
		return nil
	}
	var err error
	if t.spn, err = spnFor(t.host); err != nil && s.NTLM {
		t.spn, err = "HTTP/"+t.host, nil // NTLM takes any name
	}
	return err
}

// Mechanism names how the transport signs in, for the log.
func (t *Transport) Mechanism() string {
	switch {
	case t.config.Kerberos != nil:
		return "Kerberos"
	case t.config.NTLM != nil:
		return "NTLM"
	case t.config.SSPI != nil:
		return t.config.SSPI.Name()
	case t.config.Basic != nil:
		return "Basic"
	case t.pair != nil:
		return "client certificate"
	}
	return "none"
}

// notSent marks an error that came before the body could leave.
func notSent(err error) error { return fmt.Errorf("%w: %w", ErrNotSent, err) }

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := readBody(req)
	if err != nil {
		return nil, notSent(err)
	}
	if req.URL.Scheme != "https" || !t.owns(req.URL.Host) {
		return nil, notSent(fmt.Errorf("%s is not https://%s: credentials go nowhere else", req.URL.Redacted(), t.config.Host))
	}
	if t.held() {
		return nil, notSent(fmt.Errorf("%w: not tried again within %v of a refusal", ErrRefused, holdFor))
	}
	s, err := t.take(req.Context())
	if err != nil {
		return nil, notSent(err)
	}
	resp, err := t.send(&attempt{t: t, s: s, req: req, body: body})
	if err != nil {
		t.give(s)
		return nil, err
	}
	resp.Body = &giveBack{ReadCloser: resp.Body, give: func() { t.give(s) }}
	return resp, nil
}

func readBody(req *http.Request) ([]byte, error) {
	if req.Body == nil || req.Body == http.NoBody {
		return nil, nil
	}
	defer req.Body.Close()
	b, err := io.ReadAll(io.LimitReader(req.Body, maxBody+1))
	if err == nil && len(b) > maxBody {
		err = fmt.Errorf("body is longer than %d bytes", maxBody)
	}
	return b, err
}

// owns reports whether a URL's host is ours.
func (t *Transport) owns(host string) bool {
	if _, _, err := net.SplitHostPort(host); err != nil {
		host = net.JoinHostPort(strings.Trim(host, "[]"), "443")
	}
	return strings.EqualFold(host, t.address)
}

func (t *Transport) held() bool { return t.config.Now().UnixNano() < t.heldUntil.Load() }

// hold rests a password that was refused.
func (t *Transport) hold() { t.heldUntil.Store(t.config.Now().Add(holdFor).UnixNano()) }

// take returns a session that nobody uses, and waits for one if need be.
func (t *Transport) take(ctx context.Context) (*session, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case t.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	var with stamp
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: t.config.Roots, ServerName: t.host}
	if t.pair != nil {
		cert, seen, err := t.pair.current()
		if err != nil {
			<-t.slots
			return nil, err
		}
		with = seen
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
		// IIS asks for the certificate of a folder after it has seen the path.
		config.Renegotiation = tls.RenegotiateOnceAsClient
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		<-t.slots
		return nil, errors.New("transport is closed")
	}
	for len(t.idle) > 0 {
		s := t.idle[len(t.idle)-1]
		t.idle = t.idle[:len(t.idle)-1]
		if s.with == with {
			return s, nil
		}
		s.close() // signed in with a certificate that was replaced
	}
	s := newSession(config, t.config.Dial)
	s.with = with
	return s, nil
}

// give returns a session for the next request.
func (t *Transport) give(s *session) {
	t.mu.Lock()
	if t.closed {
		s.close()
	} else {
		t.idle = append(t.idle, s)
	}
	t.mu.Unlock()
	<-t.slots
}

// CloseIdleConnections closes the connections that nobody uses.
func (t *Transport) CloseIdleConnections() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.idle {
		s.close()
	}
	t.idle = nil
}

// Close closes the transport: requests under way end first, new ones fail.
func (t *Transport) Close() error {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.CloseIdleConnections()
	return nil
}

// giveBack returns the session when the response's body is closed.
type giveBack struct {
	io.ReadCloser
	once sync.Once
	give func()
}

func (b *giveBack) Close() error {
	err := b.ReadCloser.Close()
	b.once.Do(b.give)
	return err
}

// attempt is one request on one session.
type attempt struct {
	t    *Transport
	s    *session
	req  *http.Request
	body []byte
}

// do sends the request with an Authorization header, or without one when it
// is "". Without body it only starts a handshake.
func (a *attempt) do(authorization string, body []byte) (*http.Response, error) {
	connected := false
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected = true }}
	req := a.req.Clone(httptrace.WithClientTrace(a.req.Context(), trace))
	req.Header.Del("Authorization")
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	req.Body, req.ContentLength, req.TransferEncoding = http.NoBody, 0, nil
	req.GetBody = func() (io.ReadCloser, error) { return http.NoBody, nil }
	if len(body) > 0 {
		req.ContentLength = int64(len(body))
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		req.Body, _ = req.GetBody()
	}
	resp, err := a.s.http.RoundTrip(req)
	if err != nil && (!connected || len(body) == 0 && len(a.body) > 0) {
		return nil, notSent(err)
	}
	if resp != nil {
		resp.TLS = a.s.state() // net/http does not see it in a connection of ours
	}
	return resp, err
}

// drain reads what is left of an answer that only said 401, so that its
// connection can go on.
func drain(resp *http.Response) {
	io.Copy(io.Discard, io.LimitReader(resp.Body, maxDrain))
	resp.Body.Close()
}
