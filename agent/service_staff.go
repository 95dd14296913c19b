package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent/jobs"
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

// staff starts the workers of an Agent: the front, which keeps what relying
// parties and listeners need, once the front of the Agent before has ended; the
// back once its back has, or its time for that is over. The front ends with the
// listeners; what is in flight may need the back until it is over.
func (s *Service) staff(g, before *generation) {
	var front, back context.Context
	front, g.stopFront = context.WithCancel(s.crew.ctx)
	back, g.stopBack = context.WithCancel(context.WithoutCancel(s.crew.ctx))
	g.frontEnded, g.backEnded, g.ended = make(chan struct{}), make(chan struct{}), make(chan struct{})
	g.down.push("workers", func(ctx context.Context) error {
		g.stopBack()
		return await(ctx, g.ended)
	})
	g.down.push("requests in flight", g.registration.Close)
	// All that is kept of the Agent before, which must not be held in memory.
	frontBefore, backBefore, commands := before.frontEnded, before.backEnded, before.commands
	var jobsBefore *jobs.Jobs
	if before.Agent != nil {
		jobsBefore = before.jobs
	}
	go func() {
		defer close(g.ended)
		var both sync.WaitGroup
		both.Go(func() {
			defer close(g.frontEnded)
			<-frontBefore // two would write to one folder
			keeper := func(ctx context.Context) error { return s.keep(ctx, g, commands) }
			s.work(front, append([]task{{"own certificates", keeper}}, g.more...))
		})
		both.Go(func() {
			defer close(g.backEnded)
			if s.relieve(backBefore) && g.jobs != nil && jobsBefore != nil {
				g.jobs.Inherit(jobsBefore)
			}
			jobsBefore = nil
			if s.patience.Err() == nil {
				s.work(back, g.workers())
			}
		})
		both.Wait()
	}()
}

// keep cares for own certificates once nobody does it for the Agent before:
// the one that it renewed last is the one to go on with.
func (s *Service) keep(ctx context.Context, g *generation, commands *sync.WaitGroup) error {
	limited, cancel := context.WithTimeout(ctx, s.retirement)
	defer cancel()
	if commands != nil {
		_ = awaitGroup(limited, commands) // one of them may be a renewal
		if err := g.keeper.Reread(); err != nil {
			s.log.Warn("own certificates could not be read again", zap.Error(err))
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return g.keeper.Run(ctx)
}

// relieve waits until the back of the Agent before has ended, so that no debt is
// paid and no source asked by two at a time. A call that hangs does not hold up
// all others for longer than retirement: leases and tokens in the journal keep
// the two apart then.
func (s *Service) relieve(before <-chan struct{}) (ended bool) {
	limit := time.NewTimer(s.retirement)
	defer limit.Stop()
	select {
	case <-before:
		return true
	case <-s.patience.Done():
	case <-limit.C:
		s.log.Warn("work of the configuration before has not ended; that of the new one begins beside it", zap.Duration("after", s.retirement))
	}
	return false
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
