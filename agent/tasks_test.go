package agent

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
)

func TestOneTaskEndsAll(t *testing.T) {
	broken := errors.New("listener is gone")
	waits := task{"worker", func(ctx context.Context) error { <-ctx.Done(); return nil }}
	for name, tc := range map[string]struct {
		task task
		want string
	}{
		"an error":         {task{"web", func(context.Context) error { return broken }}, "web ended: listener is gone"},
		"a panic":          {task{"web", func(context.Context) error { panic("nil map") }}, "panic: nil map"},
		"an early success": {task{"web", func(context.Context) error { return nil }}, "it should run until"},
	} {
		t.Run(name, func(t *testing.T) {
			err := runTasks(t.Context(), []task{waits, tc.task, waits})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want something with %q", err, tc.want)
			}
		})
	}
}

func TestCancelIsACleanEnd(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	err := runTasks(ctx, []task{{"worker", func(ctx context.Context) error { cancel(); <-ctx.Done(); return ctx.Err() }}})
	if err != nil {
		t.Errorf("got %v, want no error", err)
	}
}

func TestTeardownRunsInReverseAndGoesOn(t *testing.T) {
	var order []string
	down := teardown{log: zap.NewNop()}
	for _, name := range []string{"journal", "outbox", "web"} {
		down.push(name, func(context.Context) error {
			order = append(order, name)
			if name == "outbox" {
				return errors.New("stuck")
			}
			return nil
		})
	}
	err := down.run(time.Minute)
	if want := []string{"web", "outbox", "journal"}; !slices.Equal(order, want) {
		t.Errorf("undone in order %v, want %v", order, want)
	}
	if err == nil || !strings.Contains(err.Error(), "stopping outbox: stuck") {
		t.Errorf("got %v, want the outbox named", err)
	}
}

// TestWorkersThatHangAreLeft: what comes after them is still undone in time.
func TestWorkersThatHangAreLeft(t *testing.T) {
	ended := make(chan struct{})
	closed := false
	down := teardown{log: zap.NewNop()}
	down.push("journal", func(context.Context) error { closed = true; return nil })
	down.push("workers", func(ctx context.Context) error { return await(ctx, ended) })
	if err := down.run(time.Millisecond); err == nil || !closed {
		t.Errorf("workers that hang: %v, journal closed: %v", err, closed)
	}
	close(ended)
	if err := await(t.Context(), ended); err != nil {
		t.Errorf("workers that ended: %v", err)
	}
}
