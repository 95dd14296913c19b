// Package admission stands in front of something that can do only so much at
// one time, such as a private key or a CA, and decides who goes next: devices
// before jobs, and among devices the one whose challenge ends first. Whoever
// cannot be served in time is told so at once, with when to come again, and not
// after it has waited.
package admission

import (
	"context"
	"fmt"
	"time"
)

// Class is whose work it is. Lower classes go first.
type Class uint8

const (
	// Device is the request of a device that waits.
	Device Class = iota
	// Job is work that no device waits for: see Background.
	Job
	// Answer is the rest of work that was admitted before and needs a second
	// turn. It goes before everything and is never refused: the costly part is
	// done already.
	Answer

	classes = 3
)

// Reason is why somebody was not admitted.
type Reason string

// The reasons, all there are.
const (
	QueueFull      Reason = "queue_full"      // too many wait, with less time left
	TooSlow        Reason = "too_slow"        // its turn would not come, or did not come, while it can wait
	DeadlinePassed Reason = "deadline_passed" // nothing is left of its time
	EndpointLimit  Reason = "endpoint_limit"  // its endpoint has what it may have
	SourceLimit    Reason = "source_limit"    // its source has what it may have
)

// Shed is the error of somebody who was not admitted. Nothing was begun.
type Shed struct {
	Reason Reason
	// After is when coming again may help, never 0; it differs between callers,
	// so that they do not come back together.
	After time.Duration
}

// Error says the reason.
func (s *Shed) Error() string { return fmt.Sprintf("not admitted: %s", s.Reason) }

// RetryAfter returns After.
func (s *Shed) RetryAfter() time.Duration { return s.After }

type (
	backgroundKey struct{}
	untilKey      struct{}
)

// Background returns a context whose work never gets ahead of a device.
func Background(ctx context.Context) context.Context {
	return context.WithValue(ctx, backgroundKey{}, true)
}

// IsBackground tells whether a context is one of Background.
func IsBackground(ctx context.Context) bool {
	b, _ := ctx.Value(backgroundKey{}).(bool)
	return b
}

// Until returns a context whose work is of use until t only, such as the end of
// the challenge's life. Unlike a deadline of the context it cuts nothing off: it
// orders those who wait.
func Until(ctx context.Context, t time.Time) context.Context {
	return context.WithValue(ctx, untilKey{}, t)
}

// Deadline returns the time of Until; ok is false where there is none.
func Deadline(ctx context.Context) (t time.Time, ok bool) {
	t, ok = ctx.Value(untilKey{}).(time.Time)
	return t, ok
}

// TicketOf returns the ticket that a context's marks describe.
func TicketOf(ctx context.Context) Ticket {
	var t Ticket
	if IsBackground(ctx) {
		t.Class = Job
	}
	t.Deadline, _ = Deadline(ctx)
	return t
}
