package route_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/route"
	"github.com/certconnector/certconnector/internal/admission"
)

// A CA that does one request at a time does those of devices first, the one
// whose challenge ends first before the others, and then jobs.
func TestWhoGoesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCA(t, route.Config{Concurrent: 1}, &fake{slow: time.Second})
		now := time.Now()
		var mu sync.Mutex
		var order []string
		var all sync.WaitGroup
		for _, caller := range []struct {
			name string
			ctx  context.Context
		}{
			{"under way", t.Context()},
			{"job", admission.Background(t.Context())},
			{"device without a deadline", t.Context()},
			{"device with 50 minutes", admission.Until(t.Context(), now.Add(50*time.Minute))},
			{"device with 5 minutes", admission.Until(t.Context(), now.Add(5*time.Minute))},
		} {
			all.Go(func() {
				if _, err := c.Issue(caller.ctx, ca.Request{}); err != nil {
					t.Errorf("%s: %v", caller.name, err)
				}
				mu.Lock()
				defer mu.Unlock()
				order = append(order, caller.name)
			})
			synctest.Wait()
		}
		time.Sleep(500 * time.Millisecond)
		if s := c.Queue(); s.InUse != 1 || s.Devices != 3 || s.Jobs != 1 || s.Oldest != 500*time.Millisecond {
			t.Errorf("queue %+v", s)
		}
		all.Wait()
		want := []string{"under way", "device with 5 minutes", "device with 50 minutes", "device without a deadline", "job"}
		if !slices.Equal(order, want) {
			t.Errorf("served %q", order)
		}
	})
}

// Jobs take all turns but one; that one is a device's at once.
func TestJobsLeaveATurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &fake{slow: 10 * time.Second}
		c := newCA(t, route.Config{Concurrent: 3, Patience: time.Hour}, slow)
		var jobs sync.WaitGroup
		for range 12 {
			jobs.Go(func() {
				if _, err := c.Issue(admission.Background(t.Context()), ca.Request{}); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if slow.most != 2 {
			t.Errorf("%d jobs at once, want 2 of 3", slow.most)
		}
		start := time.Now()
		if _, err := c.Issue(t.Context(), ca.Request{}); err != nil || time.Since(start) != 10*time.Second {
			t.Errorf("a device is served after %v, %v", time.Since(start), err)
		}
		jobs.Wait()
	})
}

// Whoever gets no turn hears ca.ErrUnavailable, why, and when to come again.
func TestNoTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &fake{slow: 5 * time.Second}
		c := newCA(t, route.Config{Concurrent: 1, Queue: 1, Patience: time.Minute}, slow)
		var all sync.WaitGroup
		for range 2 {
			all.Go(func() { _, _ = c.Issue(t.Context(), ca.Request{}) })
		}
		synctest.Wait()
		late := admission.Until(t.Context(), time.Now())
		for name, row := range map[string]struct {
			ctx  context.Context
			want admission.Reason
		}{"the line is full": {t.Context(), admission.QueueFull}, "nothing is left of the time": {late, admission.DeadlinePassed}} {
			_, err := c.Issue(row.ctx, ca.Request{})
			shed, ok := errors.AsType[*admission.Shed](err)
			when, says := errors.AsType[interface {
				error
				RetryAfter() time.Duration
			}](err)
			if !errors.Is(err, ca.ErrUnavailable) || !ok || shed.Reason != row.want || !says || when.RetryAfter() < 5*time.Second {
				t.Errorf("%s: %v", name, err)
			}
		}
		all.Wait()
		if slow.count() != 2 {
			t.Errorf("the CA was asked %d times", slow.count())
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := c.Turn(ctx); !errors.Is(err, ca.ErrUnavailable) || !errors.Is(err, context.Canceled) {
			t.Errorf("a caller who has gone: %v", err)
		}
	})
}
