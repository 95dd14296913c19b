package policymodule

import (
	"fmt"
	"time"

	"github.com/certconnector/certconnector/internal/pace"
)

// Pace limits how many challenges a minute each principal may have made. Only
// principals with a right get this far, so that there are no more of them than
// names in the configuration. It is safe for concurrent use.
type Pace struct {
	clock   func() time.Time
	buckets *pace.Buckets[string]
}

// NewPace returns a Pace by a clock.
func NewPace(clock func() time.Time) *Pace {
	return &Pace{clock: clock, buckets: pace.New[string](0)}
}

// Take takes one of perMinute challenges, or returns an error that wraps
// ErrTooFast.
func (p *Pace) Take(name string, perMinute int) error {
	if wait := p.buckets.TryTake(name, perMinute, p.clock()); wait > 0 {
		return &tooFast{name: name, perMinute: perMinute, wait: wait}
	}
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
