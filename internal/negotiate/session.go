package negotiate

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"
)

// session is one TCP connection at a time and what was said on it. NTLM signs
// in a connection, not a request; so one session serves one request, and only
// requests of its transport's one principal.
type session struct {
	http *http.Transport
	tls  *tls.Config
	tcp  func(ctx context.Context, network, address string) (net.Conn, error) // what TLS is spoken over

	mu       sync.Mutex
	open     net.Conn          // the connection in use, nil when it was closed
	spare    net.Conn          // dialled, not yet taken by http
	server   *x509.Certificate // of the connection in use, or of the last
	tlsState *tls.ConnectionState
	signedIn net.Conn // the connection that NTLM signed in
	with     stamp    // the client certificate's
}

func newSession(config *tls.Config, dial func(ctx context.Context, network, address string) (net.Conn, error)) *session {
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	s := &session{tls: config, tcp: dial}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true) // NTLM and renegotiation know nothing else
	s.http = &http.Transport{
		Protocols:       protocols,
		MaxConnsPerHost: 1,
		// Below IIS's 120 s: whoever closes first must be us, or a request
		// meets a connection that is just being closed.
		IdleConnTimeout:        60 * time.Second,
		MaxResponseHeaderBytes: 128 << 10,
		DialTLSContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			s.mu.Lock()
			conn := s.spare
			s.spare = nil
			s.mu.Unlock()
			if conn != nil {
				return conn, nil
			}
			return s.dial(ctx, address)
		},
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("only TLS is spoken here")
		},
	}
	return s
}

// watched tells its session when it is closed.
type watched struct {
	*tls.Conn
	session *session
}

func (c *watched) Close() error {
	c.session.mu.Lock()
	if c.session.open == net.Conn(c) {
		c.session.open = nil
	}
	c.session.mu.Unlock()
	return c.Conn.Close()
}

func (s *session) dial(ctx context.Context, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	raw, err := s.tcp(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, s.tls)
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, err
	}
	w := &watched{conn, s}
	s.mu.Lock()
	state := conn.ConnectionState()
	s.open, s.server, s.tlsState = w, state.PeerCertificates[0], &state
	s.mu.Unlock()
	return w, nil
}

// prepare sees to it that there is a connection, so that the server's
// certificate is known before a request is made for it.
func (s *session) prepare(ctx context.Context, address string) error {
	s.mu.Lock()
	there := s.open != nil
	s.mu.Unlock()
	if there {
		return nil
	}
	conn, err := s.dial(ctx, address)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.spare = conn
	s.mu.Unlock()
	return nil
}

// certificate is the server's, of the connection in use.
func (s *session) certificate() *x509.Certificate {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.server
}

// state is the TLS state of the connection in use, or of the last.
func (s *session) state() *tls.ConnectionState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tlsState
}

// connection returns the connection in use, to be compared.
func (s *session) connection() net.Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}

func (s *session) isSignedIn() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open != nil && s.signedIn == s.open
}

func (s *session) signIn(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.signedIn = conn
}

// close drops the connection, if there is one.
func (s *session) close() {
	s.mu.Lock()
	spare := s.spare
	s.spare, s.signedIn = nil, nil
	s.mu.Unlock()
	if spare != nil {
		spare.Close()
	}
	s.http.CloseIdleConnections()
}
