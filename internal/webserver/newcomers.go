package webserver

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// newcomerPatience is how long a server that stops waits for the first request
// of connections that it has accepted. A handshake and a request need a few
// round trips; connections kept in reserve send nothing.
const newcomerPatience = 2 * time.Second

// newcomers are connections whose first request has not reached the handler.
// http.Server.Shutdown drops a request that it reads after it was called, and
// the client sees a connection that ends without an answer. So a server that
// stops accepts nothing more, lets newcomers ask, and shuts down then.
type newcomers struct {
	patience time.Duration // newcomerPatience

	mu   sync.Mutex
	open map[net.Conn]bool
}

type connKey struct{}

// watch puts itself between a server and its handler.
func (n *newcomers) watch(s *http.Server) {
	n.patience, n.open = newcomerPatience, map[net.Conn]bool{}
	handler := s.Handler
	s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, ok := r.Context().Value(connKey{}).(net.Conn); ok {
			n.remove(c)
		}
		handler.ServeHTTP(w, r)
	})
	s.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, connKey{}, c)
	}
	s.ConnState = func(c net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			n.mu.Lock()
			n.open[c] = true
			n.mu.Unlock()
		case http.StateClosed, http.StateHijacked:
			n.remove(c)
		}
	}
}

func (n *newcomers) remove(c net.Conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.open, c)
}

// wait returns when there are none, or at the end of its patience.
func (n *newcomers) wait(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, n.patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		n.mu.Lock()
		none := len(n.open) == 0
		n.mu.Unlock()
		if none {
			return
		}
		select {
		case <-tick.C:
		case <-limited.Done():
			return
		}
	}
}
