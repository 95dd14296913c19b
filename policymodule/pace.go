package policymodule

import (
	"fmt"
	"sync"
	"time"
)

// Pace limits how many challenges a minute each principal may have made: a
// token bucket a principal. Only principals with a right get this far, so
// that there are no more buckets than names in the configuration. It is safe for concurrent use.
type Pace struct {
	clock func() time.Time

	mu      sync.Mutex
	buckets map[string]bucket
}

type bucket struct {
	tokens float64
	at     time.Time
}

// NewPace returns a Pace by a clock.
func NewPace(clock func() time.Time) *Pace {
	return &Pace{clock: clock, buckets: map[string]bucket{}}
}

// Take takes one of perMinute tokens, or returns an error that wraps
// ErrTooFast. A clock that was set back takes nothing away.
func (p *Pace) Take(name string, perMinute int) error {
	now, full := p.clock(), float64(perMinute)
	p.mu.Lock()
	defer p.mu.Unlock()
	b, known := p.buckets[name]
	if !known {
		b = bucket{tokens: full, at: now}
	}
	b = bucket{tokens: min(full, b.tokens+max(0, now.Sub(b.at).Minutes())*full), at: now}
	if b.tokens < 1 {
		p.buckets[name] = b
		return &tooFast{name: name, perMinute: perMinute, wait: time.Duration((1 - b.tokens) / full * float64(time.Minute))}
	}
	b.tokens--
	p.buckets[name] = b
	return nil
}

// tooFast is ErrTooFast that knows when trying again can help.
type tooFast struct {
	name      string
	perMinute int
	wait      time.Duration
}

func (e *tooFast) Error() string {
	return fmt.Sprintf("%v: principal %q may have %d a minute", ErrTooFast, e.name, e.perMinute)
}

func (e *tooFast) Unwrap() error { return ErrTooFast }

// RetryAfter is how long to wait.
func (e *tooFast) RetryAfter() time.Duration { return e.wait }
