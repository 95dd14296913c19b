package agent

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"go.uber.org/zap"
)

// task is a part of the agent that runs until its context ends.
type task struct {
	name string
	run  func(ctx context.Context) error
}

// runTasks runs tasks side by side. The first that returns ends the others;
// its error, or its panic with the stack, is the result.
func runTasks(ctx context.Context, tasks []task) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var running sync.WaitGroup
	for _, t := range tasks {
		running.Go(func() {
			err := runTask(ctx, t)
			if ctx.Err() == nil {
				err = fmt.Errorf("%s ended: %w", t.name, errors.Join(err, errStoppedEarly))
			}
			cancel(err)
		})
	}
	running.Wait()
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

var errStoppedEarly = errors.New("it should run until the service stops")

func runTask(ctx context.Context, t task) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return t.run(ctx)
}

// cleanup undoes one thing that was opened or started.
type cleanup struct {
	name string
	do   func(ctx context.Context) error
}

// teardown is a stack: whatever exists is undone in reverse order, after a
// half-finished start by the same code as after a full run.
type teardown struct {
	log   *zap.Logger
	stack []cleanup
}

func (t *teardown) push(name string, do func(ctx context.Context) error) {
	t.stack = append(t.stack, cleanup{name, do})
}

// take takes over what another one would undo.
func (t *teardown) take(from *teardown) {
	t.stack = append(t.stack, from.stack...)
	from.stack = nil
}

// run undoes everything within the limit. One that fails does not keep the
// others from being undone.
func (t *teardown) run(within time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	return t.runUntil(ctx)
}

// runUntil is run with a limit of the caller's.
func (t *teardown) runUntil(ctx context.Context) error {
	var all error
	for len(t.stack) > 0 {
		c := t.stack[len(t.stack)-1]
		t.stack = t.stack[:len(t.stack)-1]
		if err := c.do(ctx); err != nil {
			t.log.Warn("a part did not stop cleanly", zap.String("part", c.name), zap.Error(err))
			all = errors.Join(all, fmt.Errorf("stopping %s: %w", c.name, err))
		}
	}
	return all
}
