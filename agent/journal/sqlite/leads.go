package sqlite

import (
	"context"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
)

// source is a row of sources, as far as leads need it.
type source struct {
	id       int64
	owner    string
	epoch    int64
	until    time.Time
	lastPoll time.Time
}

// findSource reads a source; found is false when there is none.
func findSource(c *conn, name string) (r source, found bool, err error) {
	s, err := c.use(sourceByName)
	if err != nil {
		return r, false, err
	}
	if found, err = s.text(name).step(); err != nil || !found {
		return r, false, err
	}
	defer s.reset()
	return source{id: s.colInt(), owner: s.colText(), epoch: s.colInt(), until: s.colTime(), lastPoll: s.colTime()}, true, nil
}

// wantSource reads a source and makes it where there is none.
func wantSource(c *conn, name string) (r source, wrote bool, err error) {
	r, found, err := findSource(c, name)
	if err != nil || found {
		return r, false, err
	}
	s, err := c.use(insertSource)
	if err != nil {
		return r, false, err
	}
	if err := s.text(name).exec(); err != nil {
		return r, true, err
	}
	return source{id: c.lastID()}, true, nil
}

// Lead implements journal.Leads.
func (j *Journal) Lead(ctx context.Context, name, owner string, now time.Time, term time.Duration) (journal.Lead, error) {
	var l journal.Lead
	err := j.do(ctx, durable, func(c *conn) (bool, error) {
		r, found, err := findSource(c, name)
		if err != nil {
			return false, err
		}
		if found && r.owner != "" && r.owner != owner && now.Before(r.until) && r.until.Sub(now) < journal.FarAhead {
			return false, journal.ErrLed
		}
		if r, _, err = wantSource(c, name); err != nil {
			return true, err
		}
		if r.owner != owner || r.epoch == 0 {
			r.epoch++
		}
		l = journal.Lead{Source: name, Owner: owner, Epoch: r.epoch, Until: plain(now.Add(term)), LastPoll: r.lastPoll}
		s, err := c.use(leadSource)
		if err != nil {
			return true, err
		}
		return true, s.text(owner).int(l.Epoch).time(l.Until).int(r.id).exec()
	})
	if err != nil {
		return journal.Lead{}, err
	}
	return l, nil
}

// led returns the source of a lead, journal.ErrLost when somebody else has
// taken it since, or when it was given up.
func led(c *conn, l *journal.Lead) (source, error) {
	r, found, err := findSource(c, l.Source)
	if err == nil && (!found || r.owner != l.Owner || r.epoch != l.Epoch || r.until.IsZero()) {
		err = journal.ErrLost
	}
	return r, err
}

// RecordPoll implements journal.Leads.
func (j *Journal) RecordPoll(ctx context.Context, l journal.Lead, now time.Time) error {
	return j.do(ctx, durable, func(c *conn) (bool, error) {
		r, err := led(c, &l)
		if err == nil && !now.Before(r.until) {
			err = journal.ErrLost
		}
		if err != nil {
			return false, err
		}
		s, err := c.use(recordPoll)
		if err != nil {
			return false, err
		}
		return true, s.time(now).int(r.id).exec()
	})
}

// Resign implements journal.Leads.
func (j *Journal) Resign(ctx context.Context, l journal.Lead) error {
	return j.do(ctx, durable, func(c *conn) (bool, error) {
		r, err := led(c, &l)
		if err == journal.ErrLost {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		s, err := c.use(resignSource)
		if err != nil {
			return false, err
		}
		return true, s.int(r.id).exec()
	})
}

// PauseSource implements journal.Jobs. A source that is paused keeps the
// moment and the reason of the first call.
func (j *Journal) PauseSource(ctx context.Context, name, why string, now time.Time) error {
	return j.do(ctx, durable, func(c *conn) (bool, error) {
		r, _, err := wantSource(c, name)
		if err != nil {
			return true, err
		}
		s, err := c.use(pauseSource)
		if err != nil {
			return true, err
		}
		return true, s.time(now).text(why).int(r.id).exec()
	})
}

// ResumeSource implements journal.Jobs.
func (j *Journal) ResumeSource(ctx context.Context, name string, now time.Time) error {
	return j.do(ctx, durable, func(c *conn) (bool, error) {
		s, err := c.use(resumeSource)
		if err != nil {
			return false, err
		}
		err = s.time(now).text(name).exec()
		return true, err
	})
}

// Sources implements journal.Jobs. Whether a term runs is asked of the
// journal's clock.
func (j *Journal) Sources(ctx context.Context) ([]journal.Source, error) {
	var list []journal.Source
	err := j.do(ctx, lazy, func(c *conn) (bool, error) {
		s, err := c.use(allSources)
		if err != nil {
			return false, err
		}
		var numbers []int64
		now := j.clock()
		for {
			found, err := s.step()
			if err != nil {
				return false, err
			}
			if !found {
				break
			}
			numbers = append(numbers, s.colInt())
			r := journal.Source{Name: s.colText(), Owner: s.colText(), Until: s.colTime(), LastPoll: s.colTime(),
				PausedAt: s.colTime(), PausedWhy: s.colText(), ResumedAt: s.colTime()}
			if r.Owner == "" || !now.Before(r.Until) {
				r.Owner, r.Until = "", time.Time{}
			}
			list = append(list, r)
		}
		for i, id := range numbers {
			r := &list[i]
			if r.Open, r.OldestOpen, err = pending(c, id, journal.JobOpen); err != nil {
				return false, err
			}
			if r.Owed, r.OldestOwed, err = pending(c, id, journal.JobOwed); err != nil {
				return false, err
			}
		}
		return false, nil
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// pending counts a source's jobs of a state that is not the last, and tells
// since when the oldest is in it.
func pending(c *conn, source int64, state journal.JobState) (n int, oldest time.Time, err error) {
	s, err := c.use(pendingOfSource)
	if err != nil {
		return 0, time.Time{}, err
	}
	if _, err = s.int(source).int(int64(state)).step(); err != nil {
		return 0, time.Time{}, err
	}
	defer s.reset()
	return int(s.colInt()), s.colTime(), nil
}
