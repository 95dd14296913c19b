package adcs

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// maxIdle is below what firewalls forget. An older connection is dialled
	// anew: before a request is sent, a failure costs nothing.
	maxIdle = 60 * time.Second
	// maxAge is below the six minutes after which an exporter drops an object
	// that nobody pings ([MS-DCOM], section 3.1.1.5), so that none is pinged.
	maxAge = 4 * time.Minute
)

var errClosed = errors.New("the bridge is closed")

// wired is anything that lives on one connection.
type wired interface{ wire() *wire }

// pool keeps connections and bounds the calls at once: each serves one call at
// a time.
type pool[T wired] struct {
	dial func(context.Context) (T, error)
	now  func() time.Time
	free chan struct{}

	mu     sync.Mutex
	idle   []kept[T] // the last one used most recently
	closed bool
}

type kept[T wired] struct {
	conn       T
	born, used time.Time
}

func newPool[T wired](size int, now func() time.Time, dial func(context.Context) (T, error)) *pool[T] {
	return &pool[T]{dial: dial, now: now, free: make(chan struct{}, size)}
}

// get returns a connection for one call; give or drop must follow. Reused
// tells that the peer may have closed it in this moment.
func (p *pool[T]) get(ctx context.Context) (k kept[T], reused bool, err error) {
	select {
	case p.free <- struct{}{}:
	case <-ctx.Done():
		return k, false, ctx.Err()
	}
	k, reused, err = p.take()
	if err == nil && !reused {
		k.born = p.now()
		k.conn, err = p.dial(ctx)
	}
	if err != nil {
		<-p.free
	}
	return k, reused, err
}

// take pops the freshest idle connection that is fit for use.
func (p *pool[T]) take() (k kept[T], ok bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return k, false, errClosed
	}
	now := p.now()
	for len(p.idle) > 0 {
		k = p.idle[len(p.idle)-1]
		p.idle = p.idle[:len(p.idle)-1]
		if k.conn.wire().alive() && now.Sub(k.used) < maxIdle && now.Sub(k.born) < maxAge {
			return k, true, nil
		}
		k.conn.wire().close()
	}
	return kept[T]{}, false, nil
}

// give keeps a connection for the next call.
func (p *pool[T]) give(k kept[T]) {
	k.used = p.now()
	p.mu.Lock()
	if p.closed {
		k.conn.wire().close()
	} else {
		p.idle = append(p.idle, k)
	}
	p.mu.Unlock()
	<-p.free
}

// drop ends a connection of which nothing is known any more.
func (p *pool[T]) drop(k kept[T]) {
	k.conn.wire().close()
	<-p.free
}

func (p *pool[T]) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, k := range p.idle {
		k.conn.wire().close()
	}
	p.idle = nil
}
