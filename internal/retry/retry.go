// Package retry says when to try again: delays that grow, differ between
// callers, and end at a ceiling.
package retry

import (
	"context"
	"math/rand/v2"
	"time"
)

// Schedule is a sequence of delays: First, then doubled each time up to Most,
// each one varied by ±20 %.
type Schedule struct {
	First time.Duration // delay before the second attempt
	Most  time.Duration // longest delay
}

// Delay returns how long to wait after the given number of failed attempts
// (one or more).
func (s Schedule) Delay(failed int) time.Duration { return s.Vary(failed, rand.Float64()) }

// Vary is Delay with a random number of the caller's, from 0 to 1.
func (s Schedule) Vary(failed int, random float64) time.Duration {
	d := s.First
	for i := 1; i < failed && d < s.Most; i++ {
		d *= 2
	}
	if s.Most > 0 {
		d = min(d, s.Most)
	}
	return time.Duration(float64(d) * (0.8 + 0.4*random))
}

// Wait sleeps for d or until ctx ends, whose error it then returns.
func Wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
