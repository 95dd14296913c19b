package identity

import (
	"context"
	"crypto/x509"
	"slices"
	"sync"
	"time"
)

// chainAge is how long a CA's chain is taken for granted.
const chainAge = day

// Chain remembers a CA's chain and asks for it again at most once a day, so
// that a renewed CA certificate is noticed and a CA that is down is not asked
// by everybody. It is safe for concurrent use.
type Chain struct {
	ask   func(ctx context.Context) ([]*x509.Certificate, error)
	clock func() time.Time

	mu    sync.Mutex // held while the CA is asked: once for all who wait
	known []*x509.Certificate
	at    time.Time
}

// NewChain returns a Chain that knows nothing yet. ask is a bridge's Chain;
// clock nil is time.Now.
func NewChain(ask func(ctx context.Context) ([]*x509.Certificate, error), clock func() time.Time) *Chain {
	if clock == nil {
		clock = time.Now
	}
	return &Chain{ask: ask, clock: clock}
}

// Get returns the chain, issuing CA first. With an error it also returns the
// chain that was known last, or nil; the CA is asked again by the next call.
func (c *Chain) Get(ctx context.Context) ([]*x509.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.clock()
	if age := now.Sub(c.at); c.known != nil && age >= 0 && age < chainAge {
		return slices.Clone(c.known), nil
	}
	return c.refresh(ctx, now)
}

// Refresh asks the CA now.
func (c *Chain) Refresh(ctx context.Context) ([]*x509.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.refresh(ctx, c.clock())
}

func (c *Chain) refresh(ctx context.Context, now time.Time) ([]*x509.Certificate, error) {
	chain, err := c.ask(ctx)
	if err == nil && len(chain) > 0 {
		c.known, c.at = slices.Clone(chain), now
	}
	return slices.Clone(c.known), err
}

// sameCA tells whether two chains begin with the same certificate.
func sameCA(a, b []*x509.Certificate) bool {
	return len(a) > 0 && len(b) > 0 && a[0].Equal(b[0])
}
