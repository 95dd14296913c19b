// Package outbox delivers what is owed until it is taken or finally refused:
// success and failure notifications to the policy module that vouched, and
// revocations to the CA. What is owed stands in the journal; the outbox holds
// nothing that a power failure could take.
package outbox

import (
	"context"
	"errors"
	"fmt"
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

	// Concurrency bounds deliveries at once; 0: 8.
	Concurrency int
	// CallWithin bounds one delivery; 0: 60 s.
	CallWithin time.Duration
	// FailureLife is how long a failure notification is tried; 0: 24 h.
	FailureLife time.Duration
	// Retries are the delays between attempts; zero: 1 s doubling to 1 min.
	Retries retry.Schedule
}

// Outbox delivers debts. It is safe for concurrent use.
type Outbox struct {
	Config
	now  func() time.Time
	wake chan struct{}
}

const (
	defaultConcurrency = 8
	defaultCallWithin  = 60 * time.Second
	defaultFailureLife = 24 * time.Hour
	lookEvery          = time.Second
	lease              = 3 * time.Minute // longer than a delivery takes
)

// New returns an outbox that delivers nothing until Run is called or Tell asks.
func New(cfg Config) *Outbox {
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Concurrency == 0 {
		cfg.Concurrency = defaultConcurrency
	}
	if cfg.CallWithin == 0 {
		cfg.CallWithin = defaultCallWithin
	}
	if cfg.FailureLife == 0 {
		cfg.FailureLife = defaultFailureLife
	}
	if cfg.Retries == (retry.Schedule{}) {
		cfg.Retries = retry.Schedule{First: time.Second, Most: time.Minute}
	}
	return &Outbox{Config: cfg, now: cfg.Clock, wake: make(chan struct{}, 1)}
}

// Wake says that something new is owed.
func (o *Outbox) Wake() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// Run delivers what is due until ctx ends; deliveries under way are finished.
func (o *Outbox) Run(ctx context.Context) error {
	var deliveries sync.WaitGroup
	defer deliveries.Wait()
	slots := make(chan struct{}, o.Concurrency)
	for ctx.Err() == nil {
		free := cap(slots) - len(slots)
		var due []journal.Debt
		if free > 0 {
			var err error
			if due, err = o.Journal.ClaimDebts(ctx, o.now(), lease, free); err != nil && ctx.Err() == nil {
				o.Log.Error("what is owed could not be read from the journal", zap.Error(err))
			}
		}
		for _, d := range due {
			slots <- struct{}{}
			deliveries.Go(func() {
				defer func() { <-slots; o.Wake() }()
				o.deliverLogged(context.WithoutCancel(ctx), d)
			})
		}
		if len(due) < free || free == 0 {
			o.wait(ctx)
		}
	}
	return nil
}

func (o *Outbox) wait(ctx context.Context) {
	t := time.NewTimer(lookEvery)
	defer t.Stop()
	select {
	case <-t.C:
	case <-o.wake:
	case <-ctx.Done():
	}
}

// Tell delivers an entry's success notification at once and returns the entry
// as it is then. When that fails the outbox goes on by itself.
func (o *Outbox) Tell(ctx context.Context, entry int64) (journal.Entry, error) {
	debts, err := o.Journal.ClaimDebtsOf(ctx, entry, journal.OweSuccess, o.now(), lease)
	if err != nil {
		return journal.Entry{}, fmt.Errorf("claiming the notification of entry %d: %w", entry, err)
	}
	if len(debts) == 0 {
		return journal.Entry{}, fmt.Errorf("claiming the notification of entry %d: %w", entry, journal.ErrLost)
	}
	return o.deliver(ctx, debts[0])
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
			end = ending{later: fmt.Errorf("panic: %v", p)}
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

// record writes down how an attempt ended.
func (o *Outbox) record(ctx context.Context, d journal.Debt, end ending) (journal.Entry, error) {
	if end.later != nil {
		delay := max(o.Retries.Delay(d.Attempts+1), end.notBefore)
		o.Log.Warn("a delivery failed and is tried again", zap.Stringer("owed", d.Kind), zap.Int64("entry", d.Entry.ID),
			zap.Int("attempt", d.Attempts+1), zap.Duration("elapsed", o.now().Sub(d.Since)), zap.Duration("next_in", delay), zap.Error(end.later),
			event(d, eventid.NotifyFailed))
		return o.Journal.PostponeDebt(ctx, d, o.now().Add(delay), end.later.Error())
	}
	e, err := o.Journal.SettleDebt(ctx, d, journal.Settlement{Outcome: end.outcome, Now: o.now(), Failure: end.failure})
	if err != nil {
		return e, fmt.Errorf("recording the outcome of a %s: %w", d.Kind, err)
	}
	if d.Kind != journal.OweRevocation && end.outcome == journal.Taken {
		o.Log.Info("notification taken", zap.Stringer("owed", d.Kind), zap.Int64("entry", e.ID), event(d, eventid.Notified))
	}
	o.Audit.Info("owed and settled", zap.Stringer("owed", d.Kind), zap.Int64("entry", e.ID), zap.String("endpoint", e.Endpoint),
		zap.Stringer("state", e.State), zap.String("serial", e.Serial),
		zap.String("notify", notifyState(d.Kind, end.outcome)), zap.Int("attempt", d.Attempts+1), event(d, settledEvent(d.Kind, end.outcome)))
	if end.failure != nil {
		o.Wake() // a revocation is owed now
	}
	return e, nil
}
