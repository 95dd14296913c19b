// Package route reaches one CA by several roads and keeps what it costs in
// bounds: roads are tried in order, one that is dead is left out for a while,
// and no more requests are under way than the CA can take: devices go before
// jobs, and the one whose challenge ends first before the others. Whoever does not
// get through is told so at once; a device then hears "try later".
package route

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/internal/admission"
)

// Road is one way to the CA.
type Road struct {
	Name string
	CA   ca.Authority
}

// Config says which roads there are and how much may be on them.
type Config struct {
	Name  string // the CA's, for the log
	Roads []Road // all to the same issuing CA, the preferred one first

	// Chain is the CA's chain as an administrator gave it, the issuing CA first.
	// nil: the roads are asked.
	Chain []*x509.Certificate

	Concurrent int           // calls under way; 0: 8. Jobs leave one of them to devices
	Queue      int           // calls that wait for their turn; 0: 256
	Patience   time.Duration // for a turn; 0: 20 s

	Clock func() time.Time // nil: time.Now
	Log   *zap.Logger      // nil: nothing is logged
}

const (
	defaultConcurrent = 8
	defaultQueue      = 256
	defaultPatience   = 20 * time.Second
)

// CA is one CA behind its roads. It implements ca.Roads and ca.Turner, and is safe for
// concurrent use.
type CA struct {
	cfg   Config
	roads []*road
	gate  *admission.Gate
}

type road struct {
	Road
	breaker breaker
}

var (
	_ ca.Roads  = (*CA)(nil)
	_ ca.Turner = (*CA)(nil)
)

// New returns the CA, or says what is wrong.
func New(cfg Config) (*CA, error) {
	if len(cfg.Roads) == 0 {
		return nil, fmt.Errorf("CA %q has no road", cfg.Name)
	}
	orElse(&cfg.Concurrent, defaultConcurrent)
	orElse(&cfg.Queue, defaultQueue)
	orElse(&cfg.Patience, defaultPatience)
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	c := &CA{cfg: cfg, gate: admission.New(admission.Config{
		Slots: cfg.Concurrent, Queue: cfg.Queue, Patience: cfg.Patience, Clock: cfg.Clock,
	})}
	for _, r := range cfg.Roads {
		c.roads = append(c.roads, &road{Road: r})
	}
	return c, nil
}

func orElse[T comparable](v *T, otherwise T) {
	var zero T
	if *v == zero {
		*v = otherwise
	}
}

// Roads returns the bridges, the preferred one first.
func (c *CA) Roads() []ca.Authority {
	all := make([]ca.Authority, len(c.roads))
	for i, r := range c.roads {
		all[i] = r.CA
	}
	return all
}

// Issue takes the first road that is open. The next one is tried only when the
// request surely did not reach the CA (ca.ErrUnavailable); whatever else a road
// says is the answer.
func (c *CA) Issue(ctx context.Context, req ca.Request) (*ca.Issued, error) {
	leave, err := c.Turn(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	var tried []error
	for _, r := range c.roads {
		if !r.breaker.allows(c.cfg.Clock()) {
			continue
		}
		issued, err := r.CA.Issue(ctx, req)
		c.report(r, err)
		if !errors.Is(err, ca.ErrUnavailable) {
			return issued, err
		}
		tried = append(tried, fmt.Errorf("%s: %w", r.Name, err))
		if ctx.Err() != nil {
			break
		}
	}
	if len(tried) == 0 {
		return nil, fmt.Errorf("%w: every road to CA %q failed a moment ago and is left alone for a while", ca.ErrUnavailable, c.cfg.Name)
	}
	return nil, errors.Join(tried...)
}

// Chain returns the chain that is configured, or else by the first road that
// has it.
func (c *CA) Chain(ctx context.Context) ([]*x509.Certificate, error) {
	if c.cfg.Chain != nil {
		return c.cfg.Chain, nil
	}
	var tried []error
	for _, r := range c.roads {
		chain, err := r.CA.Chain(ctx)
		if err == nil {
			return chain, nil
		}
		tried = append(tried, fmt.Errorf("%s: %w", r.Name, err))
	}
	return nil, errors.Join(tried...)
}

// Queue tells how many calls are under way, how many wait and for how long, and
// how many were refused, by reason.
func (c *CA) Queue() admission.Stats { return c.gate.Stats() }

// Turn implements ca.Turner: devices before jobs, and the device whose challenge
// ends first before the others. The error of a full or slow line says when to
// come again (RetryAfter).
func (c *CA) Turn(ctx context.Context) (leave func(), err error) {
	leave, err = c.gate.Enter(ctx, admission.TicketOf(ctx))
	if shed, ok := errors.AsType[*admission.Shed](err); ok {
		return nil, &noTurn{ca: c.cfg.Name, shed: shed}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: waiting for a turn at CA %q: %w", ca.ErrUnavailable, c.cfg.Name, err)
	}
	return leave, nil
}

// noTurn is ca.ErrUnavailable that says when to come again.
type noTurn struct {
	ca   string
	shed *admission.Shed
}

func (e *noTurn) Error() string {
	return fmt.Sprintf("%v: no turn at CA %q: %s", ca.ErrUnavailable, e.ca, e.shed.Reason)
}

func (e *noTurn) Unwrap() []error { return []error{ca.ErrUnavailable, e.shed} }

// RetryAfter is when a turn is more likely.
func (e *noTurn) RetryAfter() time.Duration { return e.shed.After }

// report tells the breaker how a call went, and the log when that changes
// anything.
func (c *CA) report(r *road, err error) {
	switch r.breaker.report(health(err), c.cfg.Clock()) {
	case opened:
		c.cfg.Log.Warn("a road to the CA is left out for a while", zap.String("ca", c.cfg.Name), zap.String("road", r.Name),
			zap.Duration("for", r.breaker.pause()), zap.Error(err))
	case closed:
		c.cfg.Log.Info("a road to the CA is open again", zap.String("ca", c.cfg.Name), zap.String("road", r.Name))
	}
}

// health is what an outcome says of the road: an answer of any kind is a good
// sign, silence a bad one, and a caller who gave up says nothing.
func health(err error) sign {
	var pending *ca.Pending
	var denied *ca.Denied
	switch {
	case err == nil, errors.As(err, &pending), errors.As(err, &denied):
		return good
	case errors.Is(err, context.Canceled):
		return none
	}
	return bad
}
