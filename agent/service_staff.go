package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"go.uber.org/zap"
)

// crew runs tasks side by side; others may join later. The first that returns
// although nobody stopped it ends all.
type crew struct {
	ctx     context.Context
	fail    context.CancelCauseFunc
	running sync.WaitGroup
	log     *zap.Logger
}

func newCrew(ctx context.Context, log *zap.Logger) *crew {
	c := &crew{log: log}
	c.ctx, c.fail = context.WithCancelCause(ctx)
	return c
}

// run runs a task until ctx ends, which ends with the crew's at the latest. The
// result is closed when the task has returned.
func (c *crew) run(ctx context.Context, t task) (ended chan struct{}) {
	ended = make(chan struct{})
	c.running.Go(func() {
		defer close(ended)
		err := runTask(ctx, t)
		switch {
		case ctx.Err() == nil:
			c.fail(fmt.Errorf("%s ended: %w", t.name, errors.Join(err, errStoppedEarly)))
		case err != nil && !errors.Is(err, context.Canceled):
			c.log.Warn("a part did not stop cleanly", zap.String("part", t.name), zap.Error(err))
		}
	})
	return ended
}

// wait returns when all tasks have, with the error of the one that ended them.
func (c *crew) wait() error {
	c.running.Wait()
	defer c.fail(nil)
	if err := context.Cause(c.ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// staff starts the workers of an Agent once those before it have ended, so that
// no debt is paid and no source asked by two at a time. The front ends with the
// listeners; what is in flight may need the back until it is over.
func (s *Service) staff(g *generation, before <-chan struct{}) {
	var front, back context.Context
	front, g.stopFront = context.WithCancel(s.crew.ctx)
	back, g.stopBack = context.WithCancel(context.WithoutCancel(s.crew.ctx))
	g.frontEnded, g.ended = make(chan struct{}), make(chan struct{})
	g.down.push("workers", func(ctx context.Context) error {
		g.stopBack()
		return await(ctx, g.ended)
	})
	g.down.push("requests in flight", g.registration.Close)
	go func() {
		defer close(g.ended)
		<-before
		var both sync.WaitGroup
		both.Go(func() {
			defer close(g.frontEnded)
			s.work(front, append([]task{{"own certificates", g.keeper.Run}}, g.more...))
		})
		both.Go(func() { s.work(back, g.workers()) })
		both.Wait()
	}()
}

// work runs tasks until ctx ends. One that fails before ends the service.
func (s *Service) work(ctx context.Context, tasks []task) {
	if ctx.Err() != nil {
		return // replaced, or stopped, before it began
	}
	err := runTasks(ctx, tasks)
	switch {
	case ctx.Err() == nil:
		s.crew.fail(err)
	case err != nil:
		s.log.Warn("a worker did not stop cleanly", zap.Error(err))
	}
}

// stopFrontNow stops the front, if it was started.
func (g *generation) stopFrontNow() {
	if g.stopFront != nil {
		g.stopFront()
	}
}

// await waits for the end of work that was told to stop, until ctx ends. A
// neighbour that hangs must not keep the journal from being closed.
func await(ctx context.Context, ended <-chan struct{}) error {
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return errors.New("work in flight was cut off; the journal takes it up at the next start")
	}
}
