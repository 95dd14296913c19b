package jobs

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/internal/retry"
)

// gate bounds the calls to CAs: so many at once, and of these so many to one
// CA, so that a CA which hangs does not keep others from revoking. A CA that
// failed three different jobs in a row is left alone for a while; then three
// more may try, so that one bad job does not speak for its CA.
type gate struct {
	now   func() time.Time
	all   chan struct{}
	perCA int

	mu  sync.Mutex
	cas map[string]*door
}

type door struct {
	slots   chan struct{}
	strikes int
	rounds  int
	until   time.Time
}

const (
	mostStrikes = 3
	doorWait    = 5 * time.Second // for a free slot; then others may have their turn
	doorMost    = 20 * time.Minute
)

func doorDelays() retry.Schedule {
	return retry.Schedule{First: 30 * time.Second, Most: 15 * time.Minute}
}

func newGate(now func() time.Time, all, perCA int) *gate {
	return &gate{now: now, all: make(chan struct{}, all), perCA: perCA, cas: map[string]*door{}}
}

// closedError says that a CA is not asked now.
type closedError struct {
	ca   string
	left time.Duration
	why  string
}

func (e *closedError) Error() string { return fmt.Sprintf("CA %q is not asked now: %s", e.ca, e.why) }

// enter waits for the right to call a CA. leave must be told the call's error.
func (g *gate) enter(ctx context.Context, name string) (leave func(error), err error) {
	g.mu.Lock()
	d, ok := g.cas[name]
	if !ok {
		d = &door{slots: make(chan struct{}, g.perCA)}
		g.cas[name] = d
	}
	now := g.now()
	if !d.until.IsZero() && !reached(d.until, now, doorMost) {
		g.mu.Unlock()
		return nil, &closedError{ca: name, left: d.until.Sub(now), why: "it failed several times in a row"}
	}
	g.mu.Unlock()
	busy := &closedError{ca: name, left: doorWait, why: "calls are under way"}
	t := time.NewTimer(doorWait)
	defer t.Stop()
	select {
	case d.slots <- struct{}{}:
	case <-t.C:
		return nil, busy
	case <-ctx.Done():
		return nil, busy
	}
	select {
	case g.all <- struct{}{}:
	case <-ctx.Done():
		<-d.slots
		return nil, busy
	}
	return func(err error) {
		g.judge(d, err)
		<-g.all
		<-d.slots
	}, nil
}

// judge counts failures that say something about the CA.
func (g *gate) judge(d *door, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err == nil || errors.Is(err, ca.ErrNotFound) || errors.Is(err, ca.ErrForbidden) {
		d.strikes, d.rounds, d.until = 0, 0, time.Time{}
		return
	}
	if d.strikes++; d.strikes >= mostStrikes {
		d.rounds++
		d.strikes, d.until = 0, g.now().Add(doorDelays().Delay(d.rounds))
	}
}
