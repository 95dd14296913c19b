package jobs_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/certconnector/certconnector/intune"
)

// succeed runs a connector, and then one that knows what the first one knew.
func (w *world) succeed(first, second time.Duration, between func()) {
	w.t.Helper()
	w.run(first)
	w.cloud.set(between)
	next := w.build()
	next.Inherit(w.running)
	ctx, cancel := context.WithTimeout(context.Background(), second)
	defer cancel()
	if err := next.Run(ctx); err != nil {
		w.t.Error(err)
	}
}

func TestWhatASourceSaidHoldsUnderTheNextConfiguration(t *testing.T) {
	for _, row := range []struct {
		name   string
		says   error
		after  time.Duration // of the next configuration
		asked  int
		served bool
	}{
		{"it has its rest", &intune.HTTPError{Call: "downloadRevocationRequests", Status: 429, After: 50 * time.Minute}, 40 * time.Minute, 1, false},
		{"after that it is asked", &intune.HTTPError{Call: "downloadRevocationRequests", Status: 429, After: 50 * time.Minute}, 55 * time.Minute, 2, true},
		{"one that did not get there has its rest too", &intune.HTTPError{Call: "token", Status: 429, After: 50 * time.Minute}, 40 * time.Minute, 1, false},
		{"and is repeated after that", &intune.HTTPError{Call: "token", Status: 429, After: 50 * time.Minute}, 55 * time.Minute, 2, true},
		{"a question that did not get there is repeated", &intune.NetworkError{Call: "token"}, 10 * time.Second, 2, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.polled.Interval, w.polled.Jitter = 20*time.Minute, time.Second
				w.cloud.down = func() error { return row.says }
				serial := w.issue(w.issuing, "issuing", tenant, 0x1000)
				w.cloud.ask(request("r", serial, "issuing"))
				w.succeed(5*time.Second, row.after, func() { w.cloud.down = nil })
				if n := len(w.cloud.downloads()); n != row.asked || w.issuing.isRevoked(serial) != row.served {
					t.Errorf("asked %d times, revoked: %v", n, w.issuing.isRevoked(serial))
				}
			})
		})
	}
}

// What an operator should look at is there under the next configuration before
// the source is asked again.
func TestTroubleIsInherited(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.polled.Interval, w.polled.Jitter = time.Hour, time.Second
		w.cloud.down = func() error { return intune.ErrActionGone }
		w.run(5 * time.Second)
		want := w.running.Problems()
		if len(want) != 1 {
			t.Fatalf("problems %q, want one", want)
		}
		next := w.build()
		next.Inherit(w.running)
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		if err := next.Run(ctx); err != nil {
			t.Error(err)
		}
		if got := next.Problems(); !slices.Equal(got, want) || len(w.cloud.downloads()) != 1 {
			t.Errorf("problems %q after %d questions, want %q", got, len(w.cloud.downloads()), want)
		}
	})
}
