// Package jobs asks sources for work, accepts it durably, hands each job to
// the handler of its kind, and owes the source the result.
//
// One job, followed with a finger:
//
//	poll.go      the lead, the question, the batch accepted as a whole
//	work.go      a job is claimed and handed to its handler
//	breaker.go   too many of one source within an hour: its work is paused
//	revoke.go    the handler of revocations: whose CA (namebook.go, issuer.go), which
//	             certificate (serial.go), may this tenant, revoke (gate.go)
//	report.go    the result goes back until it is taken
//	watch.go     what is known of sources is read again, and old jobs are forgotten
//
// A job is on disk before it is done, its result before it is reported. What
// a power failure interrupts is repeated from the last record: the question
// after the source's cool-down, a revocation (the CA says "already"), a report
// (the source sees it twice, with one content). For tests the process can be
// killed (internal/failpoint) at
//
//	jobs.downloaded  the batch came, nothing of it is recorded
//	jobs.accepted    the batch is recorded, nothing of it is done
//	jobs.revoked     the CA has revoked, the result is not recorded
//	jobs.finished    a result is recorded, its report is owed
//	jobs.uploaded    the source has taken reports, that is not recorded
package jobs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/internal/retry"
)

// Journal is what asking, working and reporting need of a journal.Jobs.
type Journal interface {
	journal.Leads
	journal.JobIntake
	journal.JobWork
	journal.JobReports
	journal.JobSources
	journal.JobSweep
}

// Config is what New needs.
type Config struct {
	Journal Journal
	// Owner names this instance among those that share the journal. It stays
	// the same over restarts, so that a restarted instance has its leads back.
	Owner string
	Clock func() time.Time // nil: time.Now
	Log   *zap.Logger
	Audit *zap.Logger

	Sources []Polled
	// Work says who does jobs, by kind. Jobs of a kind that is missing stay open.
	Work map[journal.JobKind]Work

	// Background marks the context of each call of a handler as work that never
	// gets ahead of a device; nil: as it is.
	Background func(context.Context) context.Context

	// Term is how long a lead lasts unless it is prolonged, which happens at
	// half of it: as long may a source go without a poller after an instance
	// has died. 0: 5 min.
	Term time.Duration
	// CallWithin bounds one call of a source or of a handler; 0: 2 min.
	CallWithin time.Duration
	// Retries are the delays between attempts at a job; zero: 30 s doubling to 15 min.
	Retries retry.Schedule
	// MostOpen is how many jobs of a source may be open until it is asked for
	// more; 0: 5,000. One batch may come above it.
	MostOpen int
	// ReportRetries are the delays between attempts at a report; zero: 1 min
	// doubling to 1 h. Before each question all reports are due.
	ReportRetries retry.Schedule
}

// Polled is a source and how it is asked.
type Polled struct {
	Source Source
	// Interval is the least time between two questions; 0: 60 min. Up to Jitter
	// (0: a twelfth of the interval) is added, so that instances and tenants do
	// not ask at one time.
	Interval, Jitter time.Duration
	Batch            int // jobs a question, reports an upload; 0: 100
	// Kind is what the source hands out, and AtMostPerHour how many of them may
	// succeed within an hour before its work is paused; 0: no bound.
	Kind          journal.JobKind
	AtMostPerHour int
}

// Work is a handler and how many jobs it is given at once; 0: 2.
type Work struct {
	Handler Handler
	AtOnce  int
}

const (
	lookEvery   = time.Second
	watchEvery  = time.Minute
	reportEvery = 10 * time.Second // so that what ends together is reported together
	lease       = 5 * time.Minute  // longer than CallWithin and stopWithin
	stopWithin  = 10 * time.Second // for calls under way when the service stops, which has 15 s for all
	mostBatch   = 500
	keepOver    = 90 * 24 * time.Hour // for jobs that are over
	sweepBatch  = 100                 // of them looked at every watchEvery: an enrolment may wait for it
)

// Jobs asks, works and reports while Run runs.
type Jobs struct {
	cfg     Config
	now     func() time.Time
	log     *zap.Logger
	pollers []*poller
	breaker *breaker
	wake    map[journal.JobKind]chan struct{}
}

// New checks the configuration; nothing is asked or done before Run.
func New(cfg Config) (*Jobs, error) {
	cfg.Term = cmp.Or(cfg.Term, 5*time.Minute)
	cfg.CallWithin = cmp.Or(cfg.CallWithin, 2*time.Minute)
	cfg.MostOpen = cmp.Or(cfg.MostOpen, 5000)
	cfg.Retries = cmp.Or(cfg.Retries, retry.Schedule{First: 30 * time.Second, Most: 15 * time.Minute})
	cfg.ReportRetries = cmp.Or(cfg.ReportRetries, retry.Schedule{First: time.Minute, Most: time.Hour})
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Background == nil {
		cfg.Background = func(ctx context.Context) context.Context { return ctx }
	}
	switch {
	case cfg.Journal == nil || cfg.Log == nil || cfg.Audit == nil:
		return nil, errors.New("jobs need a journal, a log and an audit log")
	case cfg.Owner == "":
		return nil, errors.New("jobs need an owner: the name of this instance")
	case cfg.CallWithin+stopWithin >= lease:
		return nil, fmt.Errorf("a call may take %v, which is too long: at most %v", cfg.CallWithin, lease-stopWithin)
	}
	j := &Jobs{cfg: cfg, now: cfg.Clock, log: cfg.Log, wake: map[journal.JobKind]chan struct{}{}}
	j.breaker = &breaker{jobs: j, most: map[string]int{}, paused: map[string]string{}}
	seen := map[string]bool{}
	for _, s := range cfg.Sources {
		if err := s.check(); err != nil {
			return nil, err
		}
		name := s.Source.Name()
		if seen[name] {
			return nil, fmt.Errorf("two sources of jobs are named %q", name)
		}
		seen[name] = true
		j.breaker.most[name] = s.AtMostPerHour
		j.pollers = append(j.pollers, &poller{jobs: j, Polled: s, name: name, log: cfg.Log.With(zap.String("source", name))})
	}
	for kind, w := range cfg.Work {
		if w.Handler == nil {
			return nil, fmt.Errorf("work of kind %s has no handler", kind)
		}
		j.wake[kind] = make(chan struct{}, 1)
	}
	return j, nil
}

// check sets defaults and refuses nonsense.
func (s *Polled) check() error {
	s.Interval = cmp.Or(s.Interval, time.Hour)
	s.Jitter = cmp.Or(s.Jitter, s.Interval/12)
	s.Batch = cmp.Or(s.Batch, 100)
	switch {
	case s.Source == nil || s.Source.Name() == "":
		return errors.New("a source of jobs has no name")
	case s.Interval < 0 || s.Jitter < 0:
		return fmt.Errorf("source %q: the interval must not be negative", s.Source.Name())
	case s.Batch < 1 || s.Batch > mostBatch:
		return fmt.Errorf("source %q: batches of %d, 1 to %d are possible", s.Source.Name(), s.Batch, mostBatch)
	}
	return nil
}

// Run asks, works and reports until ctx ends. Calls under way are then given
// 10 seconds, and leads are handed back.
func (j *Jobs) Run(ctx context.Context) error {
	var parts sync.WaitGroup
	defer parts.Wait()
	for kind, w := range j.cfg.Work {
		parts.Go(func() { j.work(ctx, kind, w) })
	}
	for _, p := range j.pollers {
		parts.Go(func() { p.run(ctx) })
	}
	parts.Go(func() { j.watch(ctx) })
	<-ctx.Done()
	return nil
}

// Wake says that jobs were added or resumed: they need not wait for the next look.
func (j *Jobs) Wake() {
	for _, w := range j.wake {
		select {
		case w <- struct{}{}:
		default:
		}
	}
}

// Problems says what keeps jobs from being fetched or done until somebody
// looks, for the readiness page. Empty: nothing.
func (j *Jobs) Problems() []string {
	problems := j.breaker.problems()
	for _, p := range j.pollers {
		problems = append(problems, p.problems()...)
	}
	for _, w := range j.cfg.Work {
		if h, ok := w.Handler.(interface{ Problems() []string }); ok {
			problems = append(problems, h.Problems()...)
		}
	}
	slices.Sort(problems)
	return problems
}

// call returns the context of a call to a neighbour: bounded, and not cut off
// at once when the service stops, for the neighbour may be half done.
func (j *Jobs) call(ctx context.Context) (context.Context, context.CancelFunc) {
	call, cancel := context.WithTimeout(context.WithoutCancel(ctx), j.cfg.CallWithin)
	var grace *time.Timer
	var mu sync.Mutex
	stop := context.AfterFunc(ctx, func() {
		mu.Lock()
		defer mu.Unlock()
		grace = time.AfterFunc(stopWithin, cancel)
	})
	return call, func() {
		stop()
		cancel()
		mu.Lock()
		defer mu.Unlock()
		if grace != nil {
			grace.Stop()
		}
	}
}

// pause waits for d, a wake-up or the end.
func pause(ctx context.Context, d time.Duration, wake <-chan struct{}) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-wake:
	case <-ctx.Done():
	}
}

// reached tells whether a time has come that was set at most most ahead. One
// that is further away was set by a clock that has been put back since.
func reached(at, now time.Time, most time.Duration) bool {
	return !now.Before(at) || at.Sub(now) > most
}

// retryAfter reads how long a neighbour wants to be left alone, at most an hour.
func retryAfter(err error) time.Duration {
	var asks interface{ RetryAfter() time.Duration }
	if errors.As(err, &asks) {
		return min(max(asks.RetryAfter(), 0), time.Hour)
	}
	return 0
}
