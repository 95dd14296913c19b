package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent/control"
)

// ReloadOptions are what a Service needs to read its configuration again.
type ReloadOptions struct {
	// Load returns the configuration as it is now, validated; nil: the service
	// is never reloaded.
	Load func() (Config, error)
	// Level is the log's; nil: it cannot be changed.
	Level *zap.AtomicLevel
	// Wishes has a reload made for each value, as SIGHUP wants it; nil: only
	// commands ask for reloads.
	Wishes <-chan struct{}
	// Began and Over surround each reload, applied or not; may be nil.
	Began, Over func()
}

// Service is an Agent after the other over one journal: what outlives a
// configuration. That are the open listeners with their connections, the
// control socket, the journal, counters, and what a restart would forget.
//
// A reload builds the next Agent beside the present one, which serves on. Only
// when everything of the new one is there does it take over, and nothing can
// fail from then on:
//
//	service_reload.go   the file is read, checked, built, and its listeners opened
//	service_switch.go   new requests go to the new Agent; the old one ends its own
//	service_staff.go    the workers of one Agent after those of the other
//	service_changes.go  what differs, and what only a restart can change
type Service struct {
	options Options
	reload  ReloadOptions
	log     *zap.Logger
	base    teardown // what all Agents share

	reloading sync.Mutex // one reload at a time; the stop waits for it
	crew      *crew      // nil before Run; guarded by reloading
	doors     map[string]*door
	stopping  bool

	mu      sync.Mutex // guards the rest
	present *generation
	former  map[*generation]bool // those whose requests are still in flight

	retiring   sync.WaitGroup
	retirement time.Duration
	patience   context.Context // ends when a stop's grace is over
	cutOff     context.CancelFunc
}

// generation is an Agent while it serves.
type generation struct {
	*Agent
	commands *sync.WaitGroup // of the control socket, under way

	stopFront, stopBack          context.CancelFunc
	frontEnded, backEnded, ended chan struct{} // ended: all workers
}

func newGeneration(a *Agent) *generation {
	return &generation{Agent: a, commands: &sync.WaitGroup{}}
}

// nobody is what the first generation comes after.
func nobody() *generation {
	over := make(chan struct{})
	close(over)
	return &generation{frontEnded: over, backEnded: over, ended: over}
}

// NewService opens everything that needs no network, as New does.
func NewService(cfg Config, o Options, r ReloadOptions) (*Service, error) {
	a, err := New(cfg, o)
	if err != nil {
		return nil, err
	}
	s := newService(a)
	s.reload = r
	return s, nil
}

func newService(a *Agent) *Service {
	s := &Service{
		options: a.options, log: a.log, base: a.base, doors: map[string]*door{},
		present: newGeneration(a), former: map[*generation]bool{}, retirement: retirement,
	}
	a.base.stack = nil
	s.patience, s.cutOff = context.WithCancel(context.Background())
	return s
}

// Run serves until ctx ends, and then stops in reverse order: accept nothing
// more, finish what is in flight, stop the workers, close the journal. It may
// be called once, and always ends with everything closed.
func (s *Service) Run(ctx context.Context) (err error) {
	var asked atomic.Int64 // when it was asked to stop, by the machine's clock
	defer context.AfterFunc(ctx, func() { asked.Store(time.Now().UnixNano()) })()
	defer func() { err = errors.Join(err, s.end(asked.Load())) }()
	a := s.present.Agent
	for _, w := range a.cfg.Warnings() {
		s.log.Warn("the configuration permits something unsafe", zap.String("what", w))
	}
	opened, err := s.open(a)
	if err != nil {
		return err
	}
	socket, err := control.Listen(a.cfg.Control.Socket)
	if err != nil {
		opened.close()
		return fmt.Errorf("opening the control socket: %w", err)
	}

	// A reload may come from now on: it waits until everything is started.
	s.reloading.Lock()
	s.crew = newCrew(ctx, s.log)
	s.staff(s.present, nobody())
	s.crew.run(s.crew.ctx, task{"control socket", func(ctx context.Context) error {
		return socket.ServeFrom(ctx, s, s.log.Named("control"))
	}})
	for _, d := range opened.added {
		s.serve(d)
	}
	if s.reload.Wishes != nil {
		s.crew.run(s.crew.ctx, task{"reloads", s.obey})
	}
	a.status.Started()
	s.log.Info("ready", zap.String("version", s.options.Version), zap.Duration("after", s.options.Clock().Sub(a.began)))
	if s.options.Ready != nil {
		s.options.Ready()
	}
	s.reloading.Unlock()

	<-s.crew.ctx.Done()
	s.log.Info("stopping")
	s.reloading.Lock() // one that is under way ends soon
	s.stopping = true
	s.reloading.Unlock()
	return s.crew.wait()
}

// obey reloads whenever somebody wishes it.
func (s *Service) obey(ctx context.Context) error {
	for {
		select {
		case <-s.reload.Wishes:
			if _, err := s.Reload(ctx); err != nil && ctx.Err() == nil {
				s.log.Error("the configuration was not read again", zap.Error(err))
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// Present implements control.Incumbent.
func (s *Service) Present() (control.Service, func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.present
	g.commands.Add(1)
	return g.Agent, g.commands.Done
}

// Agent is the present Agent. It stays usable until a reload has replaced it.
func (s *Service) Agent() *Agent {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.present.Agent
}

// answerNow lets requests go that are held, whoever holds them. It is called
// when listeners begin to stop.
func (s *Service) answerNow() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.present.registration.AnswerNow()
	for g := range s.former {
		g.registration.AnswerNow()
	}
}

// end takes everything down when nobody is served any more. asked is when the
// stop was asked for, 0: a part has failed.
func (s *Service) end(asked int64) error {
	within := s.present.left(asked)
	timer := time.AfterFunc(within, s.cutOff)
	defer timer.Stop()
	defer s.cutOff()
	s.answerNow()
	s.present.stopFrontNow()
	err := s.present.down.runUntil(s.patience)
	s.retiring.Wait()
	return errors.Join(err, s.base.runUntil(s.patience))
}
