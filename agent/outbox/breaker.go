package outbox

import (
	"sync"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
)

const (
	// tripAfter is how many deliveries in a row must fail before a neighbour's
	// backlog pauses: one debt that always fails is no outage.
	tripAfter = 3
	// mostRetryAfter bounds how long a neighbour may ask to be left alone.
	mostRetryAfter = 10 * time.Minute
)

// breaker keeps the backlog of one neighbour back while it does not answer. A
// pause ends with a single delivery, the probe: taken, everything goes on; not,
// the next pause is longer.
type breaker struct {
	failed  int       // deliveries that failed, since one was answered
	pauses  int       // in a row
	until   time.Time // nothing of the backlog before then
	asked   time.Time // the neighbour's Retry-After: nothing at all before then
	probing bool
}

// neighbour is who is told or who revokes, with what is under way there.
type neighbour struct {
	mu sync.Mutex
	breaker
	busy map[journal.DebtKind]int
}

// open reports whether the neighbour is being left alone, or was and has not
// been heard of since.
func (b *breaker) open() bool { return b.pauses > 0 }

// quiet reports whether the neighbour has asked to be left alone.
func (n *neighbour) quiet(now time.Time) (until time.Time, quiet bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.asked, now.Before(n.asked)
}

// paused reports whether no delivery may begin now.
func (n *neighbour) paused(now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return now.Before(n.until) || n.open() && n.probing
}

// room is how many more deliveries of a kind may begin, with so many at once
// at most.
func (n *neighbour) room(kind journal.DebtKind, most int, now time.Time) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case now.Before(n.until), n.open() && n.probing:
		return 0
	case n.open():
		return 1
	}
	return max(0, most-n.busy[kind])
}

// begin notes a delivery of the outbox, not an inline one.
func (n *neighbour) begin(kind journal.DebtKind) (probe bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.busy[kind]++
	if n.open() {
		n.probing = true
		return true
	}
	return false
}

func (n *neighbour) end(kind journal.DebtKind, probe bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.busy[kind]--
	if probe {
		n.probing = false
	}
}

// answered notes that the neighbour has taken or refused something, and tells
// whether it was believed to be away.
func (n *neighbour) answered(now time.Time) (back bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if now.Before(n.asked) { // an answer to what was sent before it asked
		return false
	}
	back = n.open()
	n.failed, n.pauses, n.until = 0, 0, time.Time{}
	return back
}

// silent notes that the neighbour did not answer as it should. pause returns
// how long the nth pause in a row is. The result is the pause that begins now.
func (n *neighbour) silent(now time.Time, retryAfter time.Duration, pause func(n int) time.Duration) time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.failed++
	if retryAfter > 0 {
		n.asked = later(n.asked, now.Add(retryAfter))
		n.pauses = max(n.pauses, 1)
	} else if n.failed < tripAfter && !n.open() || now.Before(n.until) {
		return 0 // those that were under way when the pause began make it no longer
	} else {
		n.pauses++
		n.until = now.Add(pause(n.pauses))
	}
	n.until = later(n.until, n.asked)
	return n.until.Sub(now)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
