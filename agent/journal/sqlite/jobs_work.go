package sqlite

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
)

// owedQueue is the queue of reports; an open job is in the queue of its kind.
const owedQueue = 0

// queued is a job that may be claimed.
type queued struct{ id, token int64 }

// ClaimJobs implements journal.Jobs.
func (j *Journal) ClaimJobs(ctx context.Context, kind journal.JobKind, now time.Time, lease time.Duration, limit int) ([]journal.Job, error) {
	return j.claimJobs(ctx, now, lease, func(c *conn) ([]queued, error) {
		s, err := c.use(workableSources)
		if err != nil {
			return nil, err
		}
		sources, err := ids(s)
		if err != nil {
			return nil, err
		}
		var due []line
		for _, id := range sources {
			of, err := inQueue(c, id, int64(kind), limit)
			if err != nil {
				return nil, err
			}
			if len(of) > 0 {
				due = append(due, line{turn{id, kind}, of})
			}
		}
		return j.byTurns(due, limit), nil
	})
}

// turn is what sources take: one for each kind of job.
type turn struct {
	source int64
	kind   journal.JobKind
}

// line is what waits of a source, the oldest first.
type line struct {
	turn
	jobs []queued
}

// byTurns takes up to limit jobs, one of each source before the next of any.
// First comes the source whose last turn is longest ago, so that also claims
// of one job go round. Turns are remembered in memory: they are about fairness.
func (j *Journal) byTurns(due []line, limit int) []queued {
	slices.SortStableFunc(due, func(a, b line) int {
		return cmp.Or(cmp.Compare(j.turns[a.turn], j.turns[b.turn]), cmp.Compare(a.jobs[0].id, b.jobs[0].id))
	})
	var chosen []queued
	for round := 0; len(chosen) < limit; round++ {
		before := len(chosen)
		for _, l := range due {
			if round < len(l.jobs) && len(chosen) < limit {
				chosen = append(chosen, l.jobs[round])
				j.lastTurn++
				j.turns[l.turn] = j.lastTurn
			}
		}
		if len(chosen) == before {
			break
		}
	}
	slices.SortFunc(chosen, func(a, b queued) int { return cmp.Compare(a.id, b.id) })
	return chosen
}

// ClaimReports implements journal.Jobs. The reports of a source that is paused
// are due: what was done is told all the same.
func (j *Journal) ClaimReports(ctx context.Context, name string, now time.Time, lease time.Duration, limit int) ([]journal.Job, error) {
	return j.claimJobs(ctx, now, lease, func(c *conn) ([]queued, error) {
		src, found, err := findSource(c, name)
		if err != nil || !found {
			return nil, err
		}
		return inQueue(c, src.id, owedQueue, limit)
	})
}

// inQueue returns the oldest jobs of a queue.
func inQueue(c *conn, source, queue int64, limit int) ([]queued, error) {
	s, err := c.use(readyJobs)
	if err != nil {
		return nil, err
	}
	s.int(source).int(queue).int(int64(max(limit, 0)))
	var list []queued
	for {
		found, err := s.step()
		if err != nil || !found {
			return list, err
		}
		list = append(list, queued{s.colInt(), s.colInt()})
	}
}

func (j *Journal) claimJobs(ctx context.Context, now time.Time, lease time.Duration, choose func(*conn) ([]queued, error)) ([]journal.Job, error) {
	var list []journal.Job
	err := j.do(ctx, lazy, func(c *conn) (bool, error) {
		wrote, err := promoteDueJobs(c, now)
		if err != nil {
			return wrote, err
		}
		chosen, err := choose(c)
		if err != nil {
			return wrote, err
		}
		for _, q := range chosen {
			s, err := c.use(claimJob)
			if err != nil {
				return true, err
			}
			if err := s.int(c.nextToken(q.token)).time(now.Add(lease)).int(q.id).exec(); err != nil {
				return true, err
			}
			job, err := loadJob(c, q.id)
			if err != nil {
				return true, err
			}
			list = append(list, job)
		}
		return wrote || len(list) > 0, nil
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// promoteDueJobs makes ready what waits and what is held no more, up to
// promoteAtMost of each: the end of a long outage must not hold up enrolments.
func promoteDueJobs(c *conn, now time.Time) (wrote bool, err error) {
	for _, p := range []struct {
		statement statement
		at        time.Time
	}{{promoteJobs, now}, {promoteStranded, now.Add(journal.FarAhead)}} {
		for _, held := range []bool{false, true} {
			s, err := c.use(p.statement)
			if err != nil {
				return wrote, err
			}
			if err := s.bool(held).time(p.at).int(promoteAtMost).exec(); err != nil {
				return wrote, err
			}
			wrote = wrote || c.changes() > 0
		}
	}
	return wrote, nil
}

// ours returns whether a job is one of our own, journal.ErrLost unless it is
// in a state and the caller's claim is the newest one.
func ours(c *conn, job *journal.Job, state journal.JobState) (own bool, err error) {
	s, err := c.use(holdOfJob)
	if err != nil {
		return false, err
	}
	found, err := s.int(job.ID).step()
	if err != nil {
		return false, err
	}
	if !found {
		return false, journal.ErrLost
	}
	defer s.reset()
	now := journal.JobState(s.colInt())
	own = s.colInt() != 0
	if now != state || s.colInt() != job.Token {
		return own, journal.ErrLost
	}
	return own, nil
}

// SaveJob implements journal.Jobs.
func (j *Journal) SaveJob(ctx context.Context, job journal.Job, work []byte) error {
	work = slices.Clone(work)
	return j.do(ctx, durable, func(c *conn) (bool, error) {
		if _, err := ours(c, &job, journal.JobOpen); err != nil {
			return false, err
		}
		s, err := c.use(saveJob)
		if err != nil {
			return false, err
		}
		return true, s.blob(work).time(j.clock()).int(job.ID).exec()
	})
}

// PostponeJob implements journal.Jobs.
func (j *Journal) PostponeJob(ctx context.Context, job journal.Job, nextAt time.Time, why string) error {
	return j.do(ctx, durable, func(c *conn) (bool, error) {
		if _, err := ours(c, &job, journal.JobOpen); err != nil {
			return false, err
		}
		return true, j.postpone(c, &job, nextAt, why)
	})
}

// postpone ends a claim without a result.
func (j *Journal) postpone(c *conn, job *journal.Job, nextAt time.Time, why string) error {
	s, err := c.use(postponeJob)
	if err != nil {
		return err
	}
	return s.int(c.nextToken(job.Token)).time(nextAt).text(why).time(j.clock()).int(job.ID).exec()
}

// FinishJob implements journal.Jobs. Where no report is owed the payload is
// not recorded: nobody is to have it.
func (j *Journal) FinishJob(ctx context.Context, job journal.Job, r journal.JobResult, now time.Time) error {
	r.Payload = slices.Clone(r.Payload)
	return j.do(ctx, durable, func(c *conn) (bool, error) {
		own, err := ours(c, &job, journal.JobOpen)
		if err != nil {
			return false, err
		}
		s, err := c.use(finishJob)
		if err != nil {
			return false, err
		}
		s.int(c.nextToken(job.Token))
		if own || r.Unanswered {
			s.int(int64(journal.JobOver)).null().null().int(0)
			r.Payload = nil
		} else {
			s.int(int64(journal.JobOwed)).int(owedQueue).int(1).time(now)
		}
		s.time(now).bool(r.Succeeded).int(int64(r.Code)).text(r.Text).text(r.Serial).text(r.CA)
		return true, s.bool(r.Retryable).bool(r.Unanswered).blob(r.Payload).int(job.ID).exec()
	})
}
