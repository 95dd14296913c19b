package enroll

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/internal/retry"
)

const (
	settleEvery = time.Second // how often due work is looked for
	settleBatch = 32          // entries taken at once; their calls to the CA run side by side
)

// Settle is the worker that finishes what no device comes back for: requests
// verified while the CA was down, unknown outcomes, parked requests, and
// certificates withheld for too long. It runs until ctx ends.
func (r *Registration) Settle(ctx context.Context) error {
	for ctx.Err() == nil && r.life.Err() == nil {
		n := r.settleDue(ctx)
		if n < settleBatch {
			_ = retry.Wait(ctx, settleEvery) // its error is the loop's end
		}
	}
	<-ctx.Done() // a stop takes up nothing new, and drains before this ends
	return nil
}

// settleDue drives what is due and returns how many entries that were.
func (r *Registration) settleDue(ctx context.Context) int {
	end, ok := r.begin()
	if !ok {
		return 0
	}
	defer end()
	// A claim that a stop cut off would stand in the journal, and be leased to nobody.
	claimed, err := r.cfg.Journal.Claim(context.WithoutCancel(ctx), r.now(), lease, settleBatch)
	if err != nil {
		if ctx.Err() == nil {
			r.log.Error("due requests could not be read from the journal", zap.Error(err))
		}
		return 0
	}
	done := make(chan struct{}, len(claimed))
	for _, c := range claimed {
		r.take(c, func() { done <- struct{}{} })
	}
	for range claimed {
		<-done
	}
	return len(claimed)
}

// take drives a claimed entry and says when that is done.
func (r *Registration) take(c journal.Claimed, done func()) {
	p, ok := r.endpoints[c.Entry.Endpoint]
	if !ok {
		r.log.Error("a recorded request belongs to an endpoint that is not configured any more; put it back to finish the request",
			zap.Int64("entry", c.Entry.ID), zap.String("endpoint", c.Entry.Endpoint))
		done()
		return
	}
	w := &work{Registration: r, p: p, entry: c.Entry, owned: c.Owned, from: evidence{module: p.ModuleKind}}
	r.working.Go(func() {
		defer done()
		w.drive(r.workLife)
	})
}

// Nudge drives one entry now, if nobody else does: after a person's approval,
// or because a device polls.
func (r *Registration) Nudge(ctx context.Context, entry int64) {
	c, err := r.cfg.Journal.ClaimEntry(ctx, entry, r.now(), lease)
	switch {
	case err == nil:
		r.take(c, func() {})
	case !errors.Is(err, journal.ErrLost) && !errors.Is(err, journal.ErrNotFound):
		r.log.Warn("a request could not be taken up at once", zap.Int64("entry", entry), zap.Error(err))
	}
}
