package outbox_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/agent/outbox"
	"github.com/certconnector/certconnector/policymodule"
)

// cutOff is a journal that is told to stop while it carries out a claim: the
// claim stands, its answer is lost if the caller does not wait.
type cutOff struct {
	journal.Debts
	at   string
	told chan struct{}
}

// stops returns the error of a caller that does not wait.
func (c cutOff) stops(ctx context.Context, at string, n int) error {
	if n == 0 || at != c.at {
		return nil
	}
	c.told <- struct{}{}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Second):
		return nil
	}
}

func (c cutOff) ClaimDebts(ctx context.Context, claim journal.DebtClaim) ([]journal.Debt, error) {
	list, err := c.Debts.ClaimDebts(context.WithoutCancel(ctx), claim)
	if stopped := c.stops(ctx, "claim", len(list)); stopped != nil {
		return nil, stopped
	}
	return list, err
}

func (c cutOff) GiveUpDebts(ctx context.Context, g journal.GiveUp) ([]journal.Debt, error) {
	list, err := c.Debts.GiveUpDebts(context.WithoutCancel(ctx), g)
	if stopped := c.stops(ctx, "give up", len(list)); stopped != nil {
		return nil, stopped
	}
	return list, err
}

func TestWhatIsClaimedAtAStopIsDelivered(t *testing.T) {
	var claimed chan struct{}
	inWorld(t, func(c *outbox.Config) {
		claimed = make(chan struct{}, 1)
		c.Journal = cutOff{c.Journal, "claim", claimed}
	}, func(t *testing.T, w *world) {
		w.owe("corp", journal.OweSuccess)
		<-claimed
		w.kill()
		w.kill = func() {}
		if _, told, _ := w.n.counts(); told != 1 {
			t.Error("a debt is leased to nobody")
		}
	})
}

func TestWhatIsGivenUpAtAStopIsHeardOf(t *testing.T) {
	var givenUp chan struct{}
	var heard atomic.Bool
	inWorld(t, func(c *outbox.Config) {
		givenUp = make(chan struct{}, 1)
		c.Journal = cutOff{c.Journal, "give up", givenUp}
		c.Changed = func(e journal.Entry) {
			if e.State == journal.Abandoned {
				heard.Store(true)
			}
		}
		c.Concurrency = 1
	}, func(t *testing.T, w *world) {
		w.n.set(func(n *neighbour) {
			n.takes = 0
			n.fail = func(policymodule.Outcome) error { return errors.New("no") }
		})
		w.owe("corp", journal.OweSuccess)
		<-givenUp
		w.kill()
		w.kill = func() {}
		if !heard.Load() {
			t.Error("nobody heard of what was given up")
		}
	})
}
