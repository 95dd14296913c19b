package webserver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"sync"
	"time"
)

// settings are what Switch replaces: everything of a Config that new requests
// and new connections can obey without the address being opened again.
type settings struct {
	handler http.Handler
	tls     *tls.Config // nil: plain HTTP
	clients *x509.CertPool
	write   time.Duration

	requests sync.WaitGroup // under way with these settings
}

func newSettings(c Config) *settings {
	s := &settings{
		handler: c.Handler, clients: c.ClientCAs, write: orElse(c.WriteTimeout, defaultWriteTimeout),
	}
	if c.GetCertificate != nil {
		s.tls = tlsConfig(c)
	}
	return s
}

// Switch has requests that come from now on answered as c says: handler,
// certificate, client certificates, write timeout, grace and OnStop. Address,
// Log, and the other limits stay as they were. Connections stay open; one whose
// handshake was made under another rule (with or without TLS, other issuers of
// client certificates) ends after its next answer.
//
// The result waits until no request is under way with the former settings.
func (s *Server) Switch(c Config) (drained func(context.Context) error) {
	next := newSettings(c)
	s.mu.Lock()
	former := s.present
	s.present = next
	s.grace, s.onStop = orElse(c.Grace, defaultGrace), c.OnStop
	s.mu.Unlock()
	return former.drained
}

// Retire prepares for a stop of this listener alone: nobody is told to let
// requests go that are held, and they have so long.
func (s *Server) Retire(grace time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onStop, s.grace = nil, grace
}

// CutOff ends what Serve still waits for, after Retire: whoever stops everything
// has less patience.
func (s *Server) CutOff() {
	s.giveUp()
	_ = s.http.Close() // Serve tells how it ended
}

// stopping is how a stop goes about now.
func (s *Server) stopping() (grace time.Duration, onStop func()) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.grace, s.onStop
}

// drained waits until no request is under way with these settings, which must
// not be the present ones.
func (s *settings) drained(ctx context.Context) error {
	none := make(chan struct{})
	go func() {
		s.requests.Wait()
		close(none)
	}()
	select {
	case <-none:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// enter returns the present settings for one request, whose end must be told
// them. Under the lock: Switch waits for whoever got in before it.
func (s *Server) enter() *settings {
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.present.requests.Add(1)
	return s.present
}

func (s *Server) settings() *settings {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.present
}

// serveHTTP answers by the present settings.
func (s *Server) serveHTTP(w http.ResponseWriter, r *http.Request) {
	now := s.enter()
	defer now.requests.Done()
	if c, ok := r.Context().Value(connKey{}).(net.Conn); ok && !now.fits(c) {
		w.Header().Set("Connection", "close")
	}
	if now.write != s.http.WriteTimeout {
		// From the end of the header, as the server itself counts. A writer that
		// knows no deadline is none of net/http.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(now.write))
	}
	now.handler.ServeHTTP(w, r)
}

// fits tells whether a connection was made as the settings want it.
func (s *settings) fits(c net.Conn) bool {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	a, ok := c.(*accepted)
	return !ok || a.tls == (s.tls != nil) && s.clients.Equal(a.clients)
}

// accepted is a connection and the rule that it was made under: no more of the
// settings, which must not live as long as it does.
type accepted struct {
	net.Conn
	tls     bool
	clients *x509.CertPool // nil: no certificate was asked for
}

// switching is a listener whose connections speak TLS as long as the settings
// want it.
type switching struct {
	net.Listener
	server *Server
}

// Accept implements net.Listener.
func (l switching) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	now := l.server.settings()
	c = &accepted{c, now.tls != nil, now.clients}
	if now.tls != nil {
		return tls.Server(c, now.tls), nil
	}
	return c, nil
}
