package route

import (
	"sync"
	"time"
)

const (
	failuresToOpen = 3
	firstPause     = 15 * time.Second
	longestPause   = 5 * time.Minute
)

// sign is what the outcome of a call says of its road.
type sign int

const (
	none sign = iota
	good
	bad
)

// change is what a sign changed.
type change int

const (
	nothing change = iota
	opened
	closed
)

// breaker keeps calls from a road that is dead. After a pause one call tries
// again, and the pause doubles when it fails.
type breaker struct {
	mu       sync.Mutex
	failures int // in a row
	until    time.Time
	rest     time.Duration
	probing  bool
}

func (b *breaker) allows(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rest == 0 {
		return true
	}
	if now.Before(b.until) || b.probing {
		return false
	}
	b.probing = true
	return true
}

func (b *breaker) report(s sign, now time.Time) change {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.probing = false
	was := b.rest > 0
	switch s {
	case none:
		return nothing
	case good:
		b.failures, b.rest = 0, 0
		if was {
			return closed
		}
		return nothing
	}
	b.failures++
	switch {
	case was:
		b.rest = min(2*b.rest, longestPause)
	case b.failures >= failuresToOpen:
		b.rest = firstPause
	default:
		return nothing
	}
	b.until = now.Add(b.rest)
	return opened
}

func (b *breaker) pause() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.rest
}
