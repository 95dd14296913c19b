package agent

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/internal/webserver"
)

// door is an open listener, by whatever Agent is behind it.
type door struct {
	*webserver.Server
	address string // as configured
	stop    context.CancelFunc
	ended   chan struct{}
}

// opening are the listeners of an Agent that does not serve yet.
type opening struct {
	configs map[string]webserver.Config // by address
	added   []*door                     // those that were not open before
}

// open opens the listeners of an Agent, so that a taken port is found before
// anything is changed. Those that are open already stay as they are.
func (s *Service) open(a *Agent) (o opening, err error) {
	defer func() {
		if err != nil {
			o.close()
		}
	}()
	o.configs = map[string]webserver.Config{}
	for _, l := range a.cfg.Listeners {
		cfg, err := a.serverConfig(l)
		if err != nil {
			return o, fmt.Errorf("listener %q: %w", l.Name, err)
		}
		cfg.OnStop = s.answerNow
		o.configs[l.Address] = cfg
		if s.doors[l.Address] != nil {
			continue
		}
		server, err := webserver.Listen(cfg)
		if err != nil {
			return o, fmt.Errorf("listener %q: %w", l.Name, err)
		}
		o.added = append(o.added, &door{Server: server, address: l.Address})
	}
	return o, nil
}

// close closes what was opened and is not served.
func (o *opening) close() {
	for _, d := range o.added {
		_ = d.Close()
	}
}

// serve begins to answer at a door.
func (s *Service) serve(d *door) {
	ctx, stop := context.WithCancel(s.crew.ctx)
	d.stop = stop
	s.doors[d.address] = d
	d.ended = s.crew.run(ctx, task{"listener " + d.Addr().String(), d.Serve})
	s.log.Info("listening", zap.Stringer("address", d.Addr()))
}

// frontPatience is how long the old Agent's care for own certificates has to
// end before the new one serves, so that it serves what was renewed last.
const frontPatience = 5 * time.Second

// workersPatience is how long a reload waits for the workers to change over. It
// is over before: they change over all the same.
const workersPatience = 2 * time.Second

// switchTo puts the next Agent in the place of the present one. It cannot fail.
func (s *Service) switchTo(next *Agent, o opening) {
	old, g := s.present, newGeneration(next)
	old.stopFront()
	patience, cancel := context.WithTimeout(s.crew.ctx, frontPatience)
	defer cancel()
	_ = await(patience, old.frontEnded) // a CA that hangs: what it answers is found later
	if err := next.keeper.Reread(); err != nil {
		s.log.Warn("own certificates could not be read again", zap.Error(err))
	}
	if err := next.renewLists(s.crew.ctx); err != nil {
		s.log.Warn("a revocation list could not be made anew; it is when the CA works", zap.Error(err))
	}
	next.outbox.Inherit(old.outbox, func(lane journal.Lane) bool { return next.sameNeighbour(old.Agent, lane) })
	next.meter.take()
	next.options.from, next.meter.take = nil, nil // or each Agent would keep all before it
	next.status.Started()
	s.base.take(&next.base)

	var over []func(context.Context) error // of the old one's requests
	s.mu.Lock()
	s.present = g
	s.former[old] = true
	s.mu.Unlock()
	for address, cfg := range o.configs {
		if d := s.doors[address]; d != nil {
			over = append(over, d.Switch(cfg))
		}
	}
	for address, d := range s.doors {
		if _, stays := o.configs[address]; !stays {
			over = append(over, s.leave(d, old.cfg.Limits.WriteTimeout))
		}
	}
	for _, d := range o.added {
		s.serve(d)
	}
	old.stopBack()
	s.staff(g, old)
	s.retiring.Go(func() { s.retire(old, over) })
	select {
	case <-old.ended:
	case <-time.After(workersPatience):
	case <-s.crew.ctx.Done():
	}
}

// leave stops a listener. What it holds has so long to be answered.
func (s *Service) leave(d *door, grace time.Duration) (over func(context.Context) error) {
	delete(s.doors, d.address)
	d.Retire(grace)
	d.stop()
	s.log.Info("no longer listening", zap.Stringer("address", d.Addr()))
	release := context.AfterFunc(s.crew.ctx, func() { // a stop has less patience
		select {
		case <-d.ended:
		case <-time.After(s.Agent().cfg.ShutdownGrace):
			d.CutOff()
		}
	})
	return func(ctx context.Context) error {
		defer release()
		return await(ctx, d.ended)
	}
}

// retirement is how long work of an old Agent that no device waits for may go
// on: longer than a call to a CA.
const retirement = 2 * time.Minute

// retire takes an old Agent down when its last request is answered. A stop's
// grace ends it sooner; the journal knows what is left.
func (s *Service) retire(g *generation, over []func(context.Context) error) {
	for _, wait := range over {
		_ = wait(s.patience) // cut off by a stop, which tells
	}
	_ = awaitGroup(s.patience, g.commands)
	ctx, cancel := context.WithTimeout(s.patience, s.retirement)
	defer cancel()
	_ = await(ctx, g.ended)  // until then they may hand it work, which is not cut off
	_ = g.down.runUntil(ctx) // it is in the log
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.former, g)
}

// awaitGroup waits for a group that nobody joins any more, until ctx ends.
func awaitGroup(ctx context.Context, group *sync.WaitGroup) error {
	none := make(chan struct{})
	go func() {
		group.Wait()
		close(none)
	}()
	return await(ctx, none)
}
