package sqlite

import (
	"context"
	"errors"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
)

// A claim is lazy by nature: a power failure that takes it takes the claimant
// too, and what the claimant held is due when the journal opens again.

// Claim implements journal.Work.
func (j *Journal) Claim(ctx context.Context, now time.Time, lease time.Duration, limit int) ([]journal.Claimed, error) {
	var list []journal.Claimed
	err := j.do(ctx, lazy, func(c *conn) (bool, error) {
		s, err := c.use(dueEntries)
		if err != nil {
			return false, err
		}
		due, err := ids(s.time(now).int(int64(limit)))
		if err != nil {
			return false, err
		}
		for _, id := range due {
			got, ok, err := take(c, id, now, lease)
			if err != nil {
				return len(list) > 0, err
			}
			if ok {
				list = append(list, got)
			}
		}
		return len(list) > 0, nil
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// ClaimEntry implements journal.Work.
func (j *Journal) ClaimEntry(ctx context.Context, id int64, now time.Time, lease time.Duration) (journal.Claimed, error) {
	var got journal.Claimed
	err := j.do(ctx, lazy, func(c *conn) (bool, error) {
		var (
			ok  bool
			err error
		)
		got, ok, err = take(c, id, now, lease)
		if err == nil && !ok {
			err = journal.ErrLost
		}
		return ok, err
	})
	if err != nil {
		return journal.Claimed{}, err
	}
	return got, nil
}

// take claims one entry if it may be claimed.
func take(c *conn, id int64, now time.Time, lease time.Duration) (journal.Claimed, bool, error) {
	r, err := load(c, id)
	if errors.Is(err, journal.ErrNotFound) {
		return journal.Claimed{}, false, nil
	}
	if err != nil {
		return journal.Claimed{}, false, err
	}
	s, err := c.use(claimEntry)
	if err != nil {
		return journal.Claimed{}, false, err
	}
	r.token, r.NextAt = c.nextToken(r.token), plain(now.Add(lease))
	if err := s.time(r.NextAt).int(id).time(now).int(r.token).exec(); err != nil {
		return journal.Claimed{}, false, err
	}
	return journal.Claimed{Entry: r.Entry, Owned: &journal.Owned{Entry: id, Token: r.token}}, c.changes() > 0, nil
}
