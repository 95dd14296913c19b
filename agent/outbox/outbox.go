// Package outbox delivers what is owed until it is taken or finally refused:
// success and failure notifications to the policy module that vouched, and
// revocations to the CA. What is owed stands in the journal; the outbox holds
// nothing that a power failure could take.
//
// Each kind of debt to each neighbour is a lane with slots of its own: who does
// not answer holds up nobody else. A neighbour that does not answer is left
// alone for a while, and its debts stay where they are. Fresh certificates go
// first; everything older is the backlog, whose pace is bounded so that the end
// of an outage does not slow down enrolments.
package outbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/internal/eventid"
	"github.com/certconnector/certconnector/internal/retry"
	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/policymodule"
)

// Config is what New needs.
type Config struct {
	Journal journal.Debts
	Sealer  *secret.Sealer
	Clock   func() time.Time // nil: time.Now
	Log     *zap.Logger
	Audit   *zap.Logger

	// Modules and CAs are who is told and who revokes, by the names of
	// endpoint and CA that entries carry.
	Modules map[string]policymodule.Module
	CAs     map[string]ca.Authority

	// Changed hears of entries that a delivery has moved.
	Changed func(journal.Entry)

	// Observe hears how each delivery ended; nil: nobody counts. It must be
	// quick and safe for concurrent use.
	Observe func(lane journal.Lane, e Ending)

	// Concurrency bounds deliveries at once of one kind to one neighbour; 0: 16.
	// Of success notifications a quarter is kept for fresh ones; of revocations
	// only a quarter is made at once.
	Concurrency int
	// BacklogPerSecond bounds deliveries of what is not fresh, to all neighbours
	// together; 0: 100, which costs less than a tenth of one core.
	BacklogPerSecond float64
	// Idle reports that no device has come lately: then the backlog goes ten
	// times as fast. nil: never.
	Idle func() bool
	// FreshFor is how long a success notification is fresh; 0: 1 min.
	FreshFor time.Duration
	// CallWithin bounds one delivery; 0: 60 s.
	CallWithin time.Duration
	// FailureLife is how long a failure notification is tried; 0: 24 h.
	FailureLife time.Duration
	// Retries are the delays between attempts at one debt, and the pauses of a
	// neighbour that does not answer; zero: 1 s doubling to 1 min.
	Retries retry.Schedule
	// Random varies delays; it returns numbers from 0 to 1, to several
	// goroutines at once. nil: math/rand.
	Random func() float64
}

// Outbox delivers debts. It is safe for concurrent use.
type Outbox struct {
	Config
	now  func() time.Time
	wake chan struct{}

	mu         sync.Mutex
	neighbours map[journal.Lane]*neighbour
}

const (
	defaultConcurrency      = 16
	defaultBacklogPerSecond = 100
	defaultFreshFor         = time.Minute
	defaultCallWithin       = 60 * time.Second
	defaultFailureLife      = 24 * time.Hour
)

// New returns an outbox that delivers nothing until Run is called or Tell asks.
func New(cfg Config) *Outbox {
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	cfg.Concurrency = cmp.Or(cfg.Concurrency, defaultConcurrency)
	cfg.BacklogPerSecond = cmp.Or(cfg.BacklogPerSecond, defaultBacklogPerSecond)
	cfg.FreshFor = cmp.Or(cfg.FreshFor, defaultFreshFor)
	cfg.CallWithin = cmp.Or(cfg.CallWithin, defaultCallWithin)
	cfg.FailureLife = cmp.Or(cfg.FailureLife, defaultFailureLife)
	if cfg.Random == nil {
		cfg.Random = rand.Float64
	}
	if cfg.Retries == (retry.Schedule{}) {
		cfg.Retries = retry.Schedule{First: time.Second, Most: time.Minute}
	}
	return &Outbox{Config: cfg, now: cfg.Clock, wake: make(chan struct{}, 1), neighbours: make(map[journal.Lane]*neighbour)}
}

// neighbour returns who is at the end of a lane. Both kinds of notification go
// to one.
func (o *Outbox) neighbour(lane journal.Lane) *neighbour {
	if lane.Kind == journal.OweFailure {
		lane.Kind = journal.OweSuccess
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	n := o.neighbours[lane]
	if n == nil {
		n = &neighbour{busy: make(map[journal.DebtKind]int)}
		o.neighbours[lane] = n
	}
	return n
}

// Wake says that something new is owed.
func (o *Outbox) Wake() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// Tell delivers an entry's success notification at once and returns the entry
// as it is then. When that fails the outbox goes on by itself. A neighbour that
// has asked to be left alone is not asked.
func (o *Outbox) Tell(ctx context.Context, entry int64) (journal.Entry, error) {
	debts, err := o.Journal.ClaimDebtsOf(ctx, entry, journal.OweSuccess, o.now(), lease)
	if err != nil {
		return journal.Entry{}, fmt.Errorf("claiming the notification of entry %d: %w", entry, err)
	}
	if len(debts) == 0 {
		return journal.Entry{}, fmt.Errorf("claiming the notification of entry %d: %w", entry, journal.ErrLost)
	}
	d := debts[0]
	until, quiet := o.neighbour(d.Lane()).quiet(o.now())
	if !quiet {
		return o.deliver(ctx, d)
	}
	e, err := o.Journal.PostponeDebt(ctx, d, o.now(), "not tried: the other side asked to be left alone until "+until.UTC().Format(time.RFC3339))
	if err == nil && o.Changed != nil {
		o.Changed(e)
	}
	return e, err
}

func (o *Outbox) deliverLogged(ctx context.Context, d journal.Debt) {
	if _, err := o.deliver(ctx, d); err != nil && !errors.Is(err, journal.ErrLost) {
		o.Log.Error("a delivery could not be recorded; it is repeated when its lease ends",
			zap.Stringer("owed", d.Kind), zap.Int64("entry", d.Entry.ID), zap.Error(err), event(d, eventid.NotificationStuck))
	}
}

// deliver makes one attempt and records how it ended.
func (o *Outbox) deliver(ctx context.Context, d journal.Debt) (journal.Entry, error) {
	call, cancel := context.WithTimeout(ctx, o.CallWithin)
	defer cancel()
	end := o.attempt(call, d)
	o.learn(d, end)
	o.observe(d, end.public())
	// The neighbour has been called: recording that is not cut off.
	e, err := o.record(context.WithoutCancel(ctx), d, end)
	if err != nil {
		return e, err
	}
	if o.Changed != nil {
		o.Changed(e)
	}
	return e, nil
}

// attempt calls the neighbour. A panic there is a failed attempt like another:
// it must not end the service, which would meet the debt again after a restart.
func (o *Outbox) attempt(ctx context.Context, d journal.Debt) (end ending) {
	defer func() {
		if p := recover(); p != nil {
			o.Log.Error("a delivery panicked", zap.Stringer("owed", d.Kind), zap.Int64("entry", d.Entry.ID), zap.Any("panic", p), zap.Stack("stack"))
			end = ending{asked: true, later: fmt.Errorf("panic: %v", p)}
		}
	}()
	switch d.Kind {
	case journal.OweSuccess:
		return o.tellSuccess(ctx, d)
	case journal.OweFailure:
		return o.tellFailure(ctx, d)
	case journal.OweRevocation:
		return o.revoke(ctx, d)
	}
	return ending{later: fmt.Errorf("debt of unknown kind %d", d.Kind)}
}

// learn tells a debt's neighbour how an attempt ended.
func (o *Outbox) learn(d journal.Debt, end ending) {
	if !end.asked {
		return
	}
	lane := d.Lane()
	n := o.neighbour(lane)
	if end.later == nil {
		if n.answered(o.now()) {
			o.Log.Info("answers again; what is owed goes on", zap.Stringer("owed", d.Kind), zap.String("neighbour", lane.Neighbour))
			o.Wake()
		}
		return
	}
	// Not all that were sent away shall come back in the same moment.
	wait := min(end.retryAfter, mostRetryAfter)
	wait += time.Duration(o.Random() * 0.1 * float64(wait))
	pause := n.silent(o.now(), wait, func(nth int) time.Duration { return o.Retries.Vary(nth, o.Random()) })
	if pause > 0 {
		o.Log.Warn("does not answer; what is owed to it waits", zap.Stringer("owed", d.Kind), zap.String("neighbour", lane.Neighbour),
			zap.Duration("next_in", pause), zap.Error(end.later))
	}
}

// record writes down how an attempt ended.
func (o *Outbox) record(ctx context.Context, d journal.Debt, end ending) (journal.Entry, error) {
	if end.later != nil {
		delay := o.Retries.Vary(d.Attempts+1, o.Random())
		o.Log.Warn("a delivery failed and is tried again", zap.Stringer("owed", d.Kind), zap.Int64("entry", d.Entry.ID),
			zap.Int("attempt", d.Attempts+1), zap.Duration("elapsed", o.now().Sub(d.Since)), zap.Duration("next_in", delay), zap.Error(end.later),
			event(d, eventid.NotifyFailed))
		return o.Journal.PostponeDebt(ctx, d, o.now().Add(delay), end.later.Error())
	}
	// What a kill takes of the lazy ones is told again.
	how := journal.Settlement{Outcome: end.outcome, Now: o.now(), Failure: end.failure, Lazy: d.Kind != journal.OweSuccess}
	e, err := o.Journal.SettleDebt(ctx, d, how)
	if err != nil {
		return e, fmt.Errorf("recording the outcome of a %s: %w", d.Kind, err)
	}
	d.Attempts++
	if d.Kind != journal.OweRevocation && end.outcome == journal.Taken {
		o.Log.Info("notification taken", zap.Stringer("owed", d.Kind), zap.Int64("entry", e.ID), event(d, eventid.Notified))
	}
	o.auditSettled(d, e, end.outcome)
	if end.failure != nil {
		o.Wake() // a revocation is owed now
	}
	return e, nil
}

func (o *Outbox) auditSettled(d journal.Debt, e journal.Entry, outcome journal.DebtOutcome) {
	o.Audit.Info("owed and settled", zap.Stringer("owed", d.Kind), zap.Int64("entry", e.ID), zap.String("endpoint", e.Endpoint),
		zap.Stringer("state", e.State), zap.String("serial", e.Serial),
		zap.String("notify", notifyState(d.Kind, outcome)), zap.Int("attempt", d.Attempts), event(d, settledEvent(d.Kind, outcome)))
}

// settled tells of a debt that was given up without an attempt.
func (o *Outbox) settled(d journal.Debt, e journal.Entry, outcome journal.DebtOutcome) {
	if d.Kind == journal.OweFailure {
		o.Log.Warn("a failure notification was given up", zap.Int64("entry", e.ID), zap.Int("attempts", d.Attempts))
	}
	o.auditSettled(d, e, outcome)
	o.observe(d, EndedGivenUp)
	if o.Changed != nil {
		o.Changed(e)
	}
}
