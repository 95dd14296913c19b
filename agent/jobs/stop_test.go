package jobs_test

import (
	"context"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/jobs"
	"github.com/certconnector/certconnector/agent/journal"
)

// cutOff is a journal that is told to stop while it carries out one operation:
// what was done stands, the answer is lost if the caller does not wait.
type cutOff struct {
	jobs.Journal
	at   string
	told chan struct{}
}

// stops returns the error of a caller that does not wait.
func (c cutOff) stops(ctx context.Context, at string) error {
	if at != c.at {
		return nil
	}
	select {
	case c.told <- struct{}{}:
	default:
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Second):
		return nil
	}
}

func (c cutOff) ClaimJobs(ctx context.Context, k journal.JobKind, now time.Time, lease time.Duration, limit int) ([]journal.Job, error) {
	list, err := c.Journal.ClaimJobs(context.WithoutCancel(ctx), k, now, lease, limit)
	if len(list) > 0 {
		if stopped := c.stops(ctx, "jobs"); stopped != nil {
			return nil, stopped
		}
	}
	return list, err
}

func (c cutOff) ClaimReports(ctx context.Context, source string, now time.Time, lease time.Duration, limit int) ([]journal.Job, error) {
	list, err := c.Journal.ClaimReports(context.WithoutCancel(ctx), source, now, lease, limit)
	if len(list) > 0 {
		if stopped := c.stops(ctx, "reports"); stopped != nil {
			return nil, stopped
		}
	}
	return list, err
}

func (c cutOff) RecordPoll(ctx context.Context, l journal.Lead, now time.Time) error {
	err := c.Journal.RecordPoll(context.WithoutCancel(ctx), l, now)
	if stopped := c.stops(ctx, "poll"); stopped != nil {
		return stopped
	}
	return err
}

// What the journal carries out when a stop comes is gone on with: nobody else
// would for the length of a lease, or of a cool-down.
func TestStopLosesNothingThatTheJournalCarriedOut(t *testing.T) {
	for _, row := range []struct {
		at   string
		done func(w *world) bool
	}{
		{"poll", func(w *world) bool { return len(w.cloud.downloads()) == 1 }},
		{"jobs", func(w *world) bool { return w.issuing.asked() == 1 }},
		{"reports", func(w *world) bool { return w.cloud.times("one") == 1 }},
	} {
		t.Run(row.at, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				serial := w.issue(w.issuing, "issuing", tenant, 77)
				w.cloud.ask(request("one", serial, ""))
				told := make(chan struct{}, 1)
				w.change = func(c *jobs.Config) { c.Journal = cutOff{c.Journal, row.at, told} }
				stop := w.start()
				<-told
				stop()
				if !row.done(w) {
					t.Error("it was given up")
				}
			})
		})
	}
}
