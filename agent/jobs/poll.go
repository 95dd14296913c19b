package jobs

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/internal/eventid"
	"github.com/certconnector/certconnector/internal/failpoint"
	"github.com/certconnector/certconnector/internal/retry"
)

// poller asks one source, if this instance leads it. Its fields belong to the
// goroutine of run, but for health.
type poller struct {
	jobs *Jobs
	Polled
	name string
	log  *zap.Logger

	lead    journal.Lead
	leads   bool
	leadAt  time.Time     // when to ask for the lead again
	asked   time.Time     // when we asked last: with time.Now it does not follow jumps of the clock
	cool    time.Duration // from one question to the next, with jitter
	rest    time.Duration // what the source asked for at the last one
	retryAt time.Time     // after a question that did not reach the source
	alone   time.Time     // until when it wants to be left alone all the same
	holdAt  time.Time     // after a question that could not be recorded, or while too many jobs are open
	held    bool          // the log has that too many are
	missed  int           // of those in a row

	batch    []journal.NewJob // came, but could not be recorded yet
	acceptAt time.Time
	reportAt time.Time

	health health
}

// health is what Problems reads of a poller.
type health struct {
	sync.Mutex
	good    time.Time // the last answer, or when the lead was taken
	gone    bool
	stuck   bool // a batch could not be recorded
	stale   bool
	full    int // how many jobs are open, when no more are asked for
	lastErr string
}

const (
	tryLeadEvery   = 15 * time.Second
	tryAcceptEvery = 10 * time.Second
)

// notReached are the delays after questions that surely did not get there.
func (p *poller) notReached() time.Duration {
	return min(retry.Schedule{First: time.Minute, Most: 15 * time.Minute}.Delay(p.missed), max(p.Interval, time.Minute))
}

// run looks at the clock every second: a jump of it is seen at once.
func (p *poller) run(ctx context.Context) {
	for ctx.Err() == nil {
		p.step(ctx)
		pause(ctx, lookEvery, nil)
	}
	if p.leads {
		if err := p.jobs.cfg.Journal.Resign(context.WithoutCancel(ctx), p.lead); err != nil {
			p.log.Warn("the lead could not be handed back; it ends with its term", zap.Time("until", p.lead.Until), zap.Error(err))
		}
	}
}

// step does what is due: lead, report, record what came, ask. A panic in a
// source costs this step only.
func (p *poller) step(ctx context.Context) {
	defer func() {
		if v := recover(); v != nil {
			p.log.Error("polling panicked", zap.Any("panic", v), zap.Stack("stack"))
		}
	}()
	now := p.jobs.now()
	if !p.keepLead(ctx, now) {
		return
	}
	due := p.due(ctx, now)
	if due || reached(p.reportAt, now, reportEvery) {
		p.reportAt = now.Add(reportEvery)
		p.report(ctx)
	}
	switch {
	case p.batch != nil:
		if reached(p.acceptAt, p.jobs.now(), tryAcceptEvery) {
			p.accept(ctx)
		}
	case due && !p.full(ctx, now) && p.keepLead(ctx, p.jobs.now()): // reporting may have taken long
		p.ask(ctx)
	}
}

// keepLead takes the lead, or prolongs it at half of its term.
func (p *poller) keepLead(ctx context.Context, now time.Time) bool {
	term := p.jobs.cfg.Term
	if left := p.lead.Until.Sub(now); p.leads && left > term/2 && left <= term {
		return true
	}
	if !p.leads && !reached(p.leadAt, now, tryLeadEvery) {
		return false
	}
	lead, err := p.jobs.cfg.Journal.Lead(ctx, p.name, p.jobs.cfg.Owner, now, term)
	if err != nil {
		p.leadAt = now.Add(min(tryLeadEvery, term/2))
		switch {
		case ctx.Err() != nil:
		case !errors.Is(err, journal.ErrLed):
			p.log.Error("the lead of a source could not be recorded; it is not asked", zap.Error(err))
		case p.leads:
			p.log.Warn("another instance has taken the lead of a source")
		}
		p.leads = false
		p.setHealth(func(h *health) { h.good = time.Time{} })
		return false
	}
	if !p.leads {
		p.log.Info("this instance leads a source", zap.Time("last_poll", lead.LastPoll))
		p.setHealth(func(h *health) {
			if h.good.IsZero() {
				h.good = now
			}
		})
	}
	fresh := !p.leads
	if p.lead, p.leads = lead, true; fresh {
		p.newCool(p.rest)
	}
	return true
}

// due tells whether the source may be asked. It must not be asked within its
// cool-down, also not after a restart or when the clock jumps; nor forever
// after, when the clock was ahead at the last question.
func (p *poller) due(ctx context.Context, now time.Time) bool {
	last := p.lead.LastPoll
	switch {
	case p.batch != nil:
		return false // another one could be lost as well
	case !reached(p.holdAt, now, time.Minute):
		return false
	case !p.retryAt.IsZero():
		return reached(p.retryAt, now, time.Hour)
	case last.IsZero():
		return true
	case last.After(now) || p.asked.After(now):
		p.log.Warn("the clock was put back since the source was asked; its cool-down begins anew", zap.Time("last_poll", last), zap.Duration("interval", p.cool))
		if err := p.jobs.cfg.Journal.RecordPoll(ctx, p.lead, now); err != nil {
			p.pollNotRecorded(err, now)
			return false
		}
		p.lead.LastPoll, p.asked = now, now
		p.newCool(0)
		return false
	case !p.asked.IsZero() && now.Sub(p.asked) < p.cool:
		return false
	}
	return !now.Before(last.Add(p.cool))
}

// full tells whether so many jobs of the source are open that more would only
// wait here: a source without a bound must not fill the disk. The source is
// looked at again in a minute.
func (p *poller) full(ctx context.Context, now time.Time) bool {
	sources, err := p.jobs.cfg.Journal.Sources(ctx)
	if err != nil {
		p.holdAt = now.Add(time.Minute)
		if ctx.Err() == nil {
			p.log.Error("open jobs could not be counted; the source is not asked", zap.Error(err))
		}
		return true
	}
	open := sourceOf(sources, p.name).Open
	if open < p.jobs.cfg.MostOpen {
		p.held = false
		return false
	}
	p.holdAt = now.Add(time.Minute)
	p.setHealth(func(h *health) { h.full, h.good = open, now }) // no answer is expected meanwhile
	if !p.held {
		p.log.Error("so many jobs of a source are open that it is not asked for more until some are done", zap.Int("open", open), zap.Int("most", p.jobs.cfg.MostOpen))
	}
	p.held = true
	return true
}

// ask asks the source once, and records what it hands over.
func (p *poller) ask(ctx context.Context) {
	now := p.jobs.now()
	if err := p.jobs.cfg.Journal.RecordPoll(context.WithoutCancel(ctx), p.lead, now); err != nil {
		p.pollNotRecorded(err, now)
		return
	}
	p.lead.LastPoll, p.asked, p.retryAt = now, now, time.Time{}
	p.newCool(0)
	call, cancel := p.jobs.call(ctx)
	batch, err := p.Source.Fetch(call, p.Batch)
	cancel()
	failpoint.Hit("jobs.downloaded")
	if err != nil {
		p.fetchFailed(err)
		return
	}
	p.missed = 0
	p.setHealth(func(h *health) { h.good, h.gone, h.stale, h.lastErr = p.jobs.now(), false, false, "" })
	p.log.Info("a source was asked for jobs", zap.Int("jobs", len(batch)), event(p.Kind, eventid.RevokeDownloadSuccess))
	if len(batch) >= p.Batch {
		p.log.Warn("a source handed over as many jobs as were asked for: more may wait there, and jobs of other connectors may hold up ours; ask for larger batches",
			zap.Int("jobs", len(batch)), zap.Duration("next_in", p.cool))
	}
	if len(batch) > 0 {
		p.batch = batch
		p.accept(ctx)
	}
}

func (p *poller) pollNotRecorded(err error, now time.Time) {
	if errors.Is(err, journal.ErrLost) {
		p.leads = false
		return
	}
	p.holdAt = now.Add(time.Minute)
	p.log.Error("a question could not be recorded; the source is not asked: is the disk full?", zap.Error(err))
}

// fetchFailed decides when to ask again. Only a question that surely did not
// get there may be repeated within the cool-down.
func (p *poller) fetchFailed(err error) {
	var next time.Duration
	switch {
	case errors.Is(err, ErrNotReached):
		p.missed++
		next = max(p.notReached(), retryAfter(err))
		p.retryAt, p.alone = p.jobs.now().Add(next), p.jobs.now().Add(retryAfter(err))
	default:
		p.newCool(retryAfter(err))
		next = p.cool
	}
	gone := errors.Is(err, ErrGone)
	p.setHealth(func(h *health) { h.gone, h.lastErr = gone, err.Error() })
	level := p.log.Warn
	if gone {
		level = p.log.Error
	}
	level("a source could not be asked for jobs", zap.Error(err), zap.Duration("next_in", next), event(p.Kind, eventid.RevokeDownloadFailure))
}

// newCool finds the time from the last question to the next. What is added at
// random is the same for whoever looks at one question: reports are put off to
// the next one, and a restart must not move it before them.
func (p *poller) newCool(least time.Duration) {
	p.cool, p.rest = max(p.Interval, least), least
	if p.Jitter > 0 {
		h := fnv.New64a()
		fmt.Fprint(h, p.name, " ", p.lead.LastPoll.Unix())
		p.cool += time.Duration(h.Sum64() % uint64(p.Jitter))
	}
}

// accept records a batch as a whole before any of it is done. Until that has
// worked nothing of it is done or answered, and the source is not asked for more.
func (p *poller) accept(ctx context.Context) {
	now := p.jobs.now()
	p.acceptAt = now.Add(tryAcceptEvery)
	store := context.WithoutCancel(ctx)
	got, err := p.jobs.cfg.Journal.AcceptJobs(store, p.lead, p.batch, now)
	if errors.Is(err, journal.ErrLost) { // our term may just have ended
		var lead journal.Lead
		if lead, err = p.jobs.cfg.Journal.Lead(store, p.name, p.jobs.cfg.Owner, now, p.jobs.cfg.Term); err == nil {
			p.lead = lead
			got, err = p.jobs.cfg.Journal.AcceptJobs(store, lead, p.batch, now)
		}
	}
	switch {
	case errors.Is(err, journal.ErrLed), errors.Is(err, journal.ErrLost):
		p.log.Warn("a batch is left to the instance that leads the source now", zap.Int("jobs", len(p.batch)))
		p.batch, p.leads = nil, false
		return
	case err != nil:
		p.setHealth(func(h *health) { h.stuck = true })
		p.log.Error("a batch could not be recorded: none of it is done or answered, and it is lost if the service stops now, until the source offers it again; is the disk full?",
			zap.Int("jobs", len(p.batch)), zap.Duration("next_in", tryAcceptEvery), zap.Error(err))
		return
	}
	failpoint.Hit("jobs.accepted")
	p.batch = nil
	p.setHealth(func(h *health) { h.stuck = false })
	p.log.Info("jobs accepted", zap.Int("new", got.New), zap.Int("known", got.Known), zap.Int("reopened", got.Reopened))
	if got.Conflicts > 0 {
		p.log.Warn("jobs came under a known handle with another content; the first content counts", zap.Int("conflicts", got.Conflicts))
	}
	p.jobs.Wake()
}

func (p *poller) setHealth(change func(*health)) {
	p.health.Lock()
	defer p.health.Unlock()
	change(&p.health)
}

// judge finds out whether the source has gone unasked for two intervals, by
// whomever leads it.
func (p *poller) judge(now time.Time, s journal.Source) {
	limit := 2 * (p.Interval + p.Jitter)
	p.setHealth(func(h *health) {
		since := s.LastPoll
		if !h.good.IsZero() { // we lead
			since = h.good
		}
		h.stale = !since.IsZero() && now.Sub(since) > limit
		if h.full = 0; s.Open >= p.jobs.cfg.MostOpen {
			h.full = s.Open
		}
	})
}

func (p *poller) problems() []string {
	p.health.Lock()
	defer p.health.Unlock()
	var list []string
	switch {
	case p.health.gone:
		list = append(list, fmt.Sprintf("source %s does not offer jobs any more: %s", p.name, p.health.lastErr))
	case p.health.full > 0:
		list = append(list, fmt.Sprintf("source %s has %d open jobs and is not asked for more while it has %d: why are they not done?", p.name, p.health.full, p.jobs.cfg.MostOpen))
	case p.health.stale:
		list = append(list, fmt.Sprintf("source %s has not answered for more than two intervals: %s", p.name, p.health.lastErr))
	}
	if p.health.stuck {
		list = append(list, fmt.Sprintf("jobs of source %s could not be recorded: is the disk full?", p.name))
	}
	return list
}
