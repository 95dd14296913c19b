package outbox

import (
	"context"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent/journal"
)

const (
	lookEvery = time.Second           // for what has become due
	paceEvery = 50 * time.Millisecond // while there is a backlog
	lookGap   = 10 * time.Millisecond // at the least, however much is owed anew
	lease     = 3 * time.Minute       // longer than a delivery takes

	idleFactor = 10 // how much faster a backlog goes while no device is there to be slowed down

	giveUpEvery = 200 * time.Millisecond
	giveUpBatch = 50 // in one transaction: so long an enrolment may wait for it
)

// run is the state of Run's loop.
type run struct {
	*Outbox
	deliveries sync.WaitGroup
	tokens     float64 // deliveries of the backlog that may begin
	filled     time.Time
	turn       int // which lane of the backlog comes first
	gaveUp     time.Time
}

// Run delivers what is due until ctx ends; deliveries under way are finished.
func (o *Outbox) Run(ctx context.Context) error {
	r := &run{Outbox: o, filled: o.now()}
	defer r.deliveries.Wait()
	for ctx.Err() == nil {
		next := r.look(ctx)
		r.wait(ctx, next)
	}
	return nil
}

// look begins what may begin and says how long nothing else needs to be done.
func (r *run) look(ctx context.Context) (next time.Duration) {
	now := r.now()
	late := r.giveUp(ctx, now)
	lanes, err := r.Journal.DebtLanes(ctx, now)
	if err != nil {
		if ctx.Err() == nil {
			r.Log.Error("what is owed could not be read from the journal", zap.Error(err))
		}
		return lookEvery
	}
	for _, lane := range lanes {
		if lane.Kind == journal.OweSuccess {
			r.claim(ctx, lane, now, now.Add(-r.FreshFor), r.most(lane.Kind), r.Concurrency)
		}
	}
	backlog := r.backlog(ctx, lanes, now)
	switch {
	case backlog:
		return paceEvery
	case late:
		return giveUpEvery
	}
	return lookEvery
}

// backlog begins what the pace allows, the lanes in turn. It reports whether
// some lane may have more for a neighbour that takes it.
func (r *run) backlog(ctx context.Context, lanes []journal.Lane, now time.Time) bool {
	rate := r.BacklogPerSecond
	if r.Idle != nil && r.Idle() {
		rate *= idleFactor
	}
	r.tokens = min(r.tokens+now.Sub(r.filled).Seconds()*rate, max(1, rate*paceEvery.Seconds()*2))
	r.filled = now
	lanes = slices.DeleteFunc(lanes, func(l journal.Lane) bool { return r.neighbour(l).paused(now) })
	if len(lanes) == 0 {
		return false
	}
	// Certificates that a device may still wait for have a double share.
	shares := 0
	for _, lane := range lanes {
		shares += share(lane)
	}
	available := r.tokens
	r.turn++
	for i := range lanes {
		lane := lanes[(r.turn+i)%len(lanes)]
		n := max(1, int(available*float64(share(lane))/float64(shares)))
		n = min(n, int(r.tokens))
		r.tokens -= float64(r.claim(ctx, lane, now, time.Time{}, r.mostOfBacklog(lane.Kind), n))
	}
	// What a lane left of its share is for the others.
	for _, lane := range lanes {
		if n := int(r.tokens); n > 0 {
			r.tokens -= float64(r.claim(ctx, lane, now, time.Time{}, r.mostOfBacklog(lane.Kind), n))
		}
	}
	return true
}

func share(l journal.Lane) int {
	if l.Kind == journal.OweSuccess {
		return 2
	}
	return 1
}

// most is how many deliveries of a kind may be under way at one neighbour.
func (o *Outbox) most(kind journal.DebtKind) int {
	if kind == journal.OweRevocation {
		return max(1, o.Concurrency/4) // a CA has devices to serve
	}
	return o.Concurrency
}

// mostOfBacklog leaves slots for fresh certificates.
func (o *Outbox) mostOfBacklog(kind journal.DebtKind) int {
	if kind == journal.OweSuccess {
		return max(1, o.Concurrency-max(1, o.Concurrency/4))
	}
	return o.most(kind)
}

// claim begins up to limit deliveries of a lane, most under way at once, and
// returns how many.
func (r *run) claim(ctx context.Context, lane journal.Lane, now, since time.Time, most, limit int) int {
	n := r.neighbour(lane)
	limit = min(limit, n.room(lane.Kind, most, now))
	if limit <= 0 {
		return 0
	}
	// Not cut off by a stop: what was claimed then would be leased to nobody.
	due, err := r.Journal.ClaimDebts(context.WithoutCancel(ctx), journal.DebtClaim{Lane: lane, Since: since, Now: now, Lease: lease, Limit: limit})
	if err != nil {
		if ctx.Err() == nil {
			r.Log.Error("what is owed could not be read from the journal", zap.Error(err))
		}
		return 0
	}
	for _, d := range due {
		probe := n.begin(d.Kind)
		r.deliveries.Go(func() {
			defer n.end(d.Kind, probe)
			r.deliverLogged(context.WithoutCancel(ctx), d)
		})
	}
	return len(due)
}

// giveUp ends what nobody waits for any more, and reports whether there may be
// more of it.
func (r *run) giveUp(ctx context.Context, now time.Time) (more bool) {
	if since := now.Sub(r.gaveUp); since >= 0 && since < giveUpEvery {
		return false
	}
	r.gaveUp = now
	debts, err := r.Journal.GiveUpDebts(context.WithoutCancel(ctx), journal.GiveUp{
		Now: now, FailuresBefore: now.Add(-r.FailureLife), Limit: giveUpBatch, Failure: withheldTooLong,
	})
	if err != nil {
		if ctx.Err() == nil {
			r.Log.Error("what nobody waits for could not be given up", zap.Error(err))
		}
		return false
	}
	for _, d := range debts {
		r.settled(d, d.Entry, journal.GivenUp)
	}
	return len(debts) == giveUpBatch
}

// wait ends with the time, with a call of Wake, or with ctx.
func (r *run) wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(lookGap)
	defer t.Stop()
	select {
	case <-t.C: // what comes meanwhile is looked at together
	case <-ctx.Done():
		return
	}
	t.Reset(max(0, d-lookGap))
	select {
	case <-t.C:
	case <-r.wake:
	case <-ctx.Done():
	}
}
