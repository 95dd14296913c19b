package enroll_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/certconnector/certconnector/agent/enroll"
	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/scep"
)

// cutOff is a journal that is told to stop while it carries out a claim: the
// claim stands, its answer is lost if the caller does not wait.
type cutOff struct {
	enroll.Journal
	claimed chan struct{}
}

func (c cutOff) Claim(ctx context.Context, now time.Time, lease time.Duration, limit int) ([]journal.Claimed, error) {
	list, err := c.Journal.Claim(context.WithoutCancel(ctx), now, lease, limit)
	if len(list) > 0 {
		c.claimed <- struct{}{}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Second):
		}
	}
	return list, err
}

func TestWhatIsClaimedAtAStopIsDone(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.core.set(func(f *fakeCA) { f.down = true })
		d := newDevice(0, "good")
		w.want(w.ask(d), scep.Pending)
		w.stop()
		claimed := make(chan struct{}, 1)
		w.setup = func(c *enroll.Config) { c.Journal = cutOff{c.Journal, claimed} }
		w.core.set(func(f *fakeCA) { f.down = false })
		w.start()
		<-claimed
		w.stop()
		w.told(1, 0) // or the entry would be leased to nobody for minutes
		w.start()
	})
}

func TestWorkInFlightIsDrainedAtAStop(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.core.slow = 5 * time.Second
		d := newDevice(0, "good")
		answered := make(chan *scep.Result, 1)
		go func() { answered <- w.ask(d) }()
		time.Sleep(time.Second)
		w.reg.AnswerNow()
		synctest.Wait()
		w.stop()
		if res := <-answered; res.Status != scep.Pending {
			t.Errorf("the waiting device got %v, want PENDING", res.Status)
		}
		w.told(1, 0)
		w.start()
		w.want(w.ask(d), scep.Success)
	})
}
