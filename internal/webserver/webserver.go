// Package webserver is the HTTP server under every face of the service: every
// timeout set, sizes and connections limited, TLS 1.2 or later with a
// certificate that can be replaced while it runs, a graceful end. What it
// shows can be switched under open connections.
package webserver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/net/netutil"
)

// Config describes one listener.
type Config struct {
	Address string       // host:port
	Handler http.Handler // required
	Log     *zap.Logger  // nil: none. TLS handshakes that fail are debug lines: the internet is full of them

	// GetCertificate returns the certificate for a handshake; nil serves plain HTTP.
	GetCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// ClientCAs, when set, has clients asked for a certificate and told which
	// issuers will do. What they show, if anything, is verified by the handler,
	// which can say what is wrong with it. Otherwise none is asked for: devices
	// would show a prompt.
	ClientCAs *x509.CertPool

	HeaderBytes       int           // longest header, request line included; 0: 128 KiB
	Connections       int           // open at one time; 0: 4096
	ReadHeaderTimeout time.Duration // 0: 10 s
	ReadTimeout       time.Duration // 0: 30 s
	WriteTimeout      time.Duration // 0: 90 s
	IdleTimeout       time.Duration // 0: 2 min
	Grace             time.Duration // for requests in flight when the server stops; 0: 15 s

	// OnStop is called when the server begins to stop, to let go requests that
	// are held for news. May be nil.
	OnStop func()
}

// Server is an open listener with a server behind it.
type Server struct {
	listener net.Listener
	http     *http.Server
	giveUp   context.CancelFunc // ends the contexts of requests
	fresh    newcomers

	mu      sync.RWMutex // guards the rest
	present *settings
	grace   time.Duration
	onStop  func()
}

const (
	defaultWriteTimeout = 90 * time.Second
	defaultGrace        = 15 * time.Second
)

// Listen opens the address, so that readiness is reported only when nobody is
// turned away. Where systemd has opened it already (LISTEN_FDS), that socket is
// used. Nothing is answered before Serve.
func Listen(c Config) (*Server, error) {
	if c.Handler == nil {
		return nil, errors.New("a web server needs a handler")
	}
	log := c.Log
	if log == nil {
		log = zap.NewNop()
	}
	errorLog, err := zap.NewStdLogAt(log, zapcore.DebugLevel)
	if err != nil {
		return nil, fmt.Errorf("preparing the web server's log: %w", err)
	}
	l, err := open(c.Address)
	if err != nil {
		return nil, err
	}
	l = netutil.LimitListener(l, orElse(c.Connections, 4096))

	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{listener: l, giveUp: cancel, present: newSettings(c), grace: orElse(c.Grace, defaultGrace), onStop: c.OnStop}
	s.http = &http.Server{
		Handler:           http.HandlerFunc(s.serveHTTP),
		ErrorLog:          errorLog,
		MaxHeaderBytes:    orElse(c.HeaderBytes, 128<<10),
		ReadHeaderTimeout: orElse(c.ReadHeaderTimeout, 10*time.Second),
		ReadTimeout:       orElse(c.ReadTimeout, 30*time.Second),
		WriteTimeout:      orElse(c.WriteTimeout, defaultWriteTimeout),
		IdleTimeout:       orElse(c.IdleTimeout, 2*time.Minute),
		// A stopping service lets requests finish: they end with the grace, not
		// with the context of Serve.
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	s.http.RegisterOnShutdown(func() {
		if _, onStop := s.stopping(); onStop != nil {
			onStop()
		}
	})
	s.fresh.watch(s.http)
	return s, nil
}

func tlsConfig(c Config) *tls.Config {
	t := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.GetCertificate, NextProtos: []string{"h2", "http/1.1"}}
	if c.ClientCAs != nil {
		t.ClientCAs, t.ClientAuth = c.ClientCAs, tls.RequestClientCert
	}
	return t
}

// Addr is the address that was opened.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Close closes a listener that Serve was not called on.
func (s *Server) Close() error {
	s.giveUp()
	return s.listener.Close()
}

// Serve answers until ctx ends, then accepts nothing more, and gives connections
// that have just begun and requests in flight the grace. An error says that it could not go on, or that the
// grace was not enough.
func (s *Server) Serve(ctx context.Context) error {
	defer s.giveUp()
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		grace, _ := s.stopping()
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
		defer cancel()
		_ = s.listener.Close()
		s.fresh.wait(limited)
		err := s.http.Shutdown(limited)
		switch {
		case errors.Is(err, net.ErrClosed):
			err = nil // nothing is in flight: Shutdown closed what is closed before Serve heard of it
		case err != nil:
			err = errors.Join(fmt.Errorf("requests were still in flight after %s: %w", grace, err), s.http.Close())
		}
		stopped <- err
	})
	err := s.http.Serve(switching{s.listener, s})
	if stop() { // not asked to stop: the listener failed
		return errors.Join(fmt.Errorf("serving on %s: %w", s.Addr(), err), s.http.Close())
	}
	return <-stopped
}

func orElse[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}
