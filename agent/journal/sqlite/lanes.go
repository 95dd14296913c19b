package sqlite

import (
	"context"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
)

// promoteAtMost bounds how many debts become ready in one look, so that the
// end of a long outage does not hold up enrolments. Until all of them are
// ready the order of urgency holds among those that are.
const promoteAtMost = 200

// owe records a debt of an entry.
func owe(c *conn, e *journal.Entry, kind journal.DebtKind, at, since time.Time) error {
	s, err := c.use(insertDebt)
	if err != nil {
		return err
	}
	lane := (&journal.Debt{Kind: kind, Entry: *e}).Lane()
	return s.int(e.ID).int(int64(kind)).text(lane.Neighbour).time(e.GiveUp).time(at).int(c.freshToken()).time(since).exec()
}

// extend tells an entry's success notification of a new deadline.
func extend(c *conn, e *journal.Entry) error {
	s, err := c.use(extendDebt)
	if err != nil {
		return err
	}
	return s.time(e.GiveUp).int(e.ID).exec()
}

// DebtLanes implements journal.Debts.
func (j *Journal) DebtLanes(ctx context.Context, now time.Time) ([]journal.Lane, error) {
	var list []journal.Lane
	err := j.do(ctx, lazy, func(c *conn) (bool, error) {
		s, err := c.use(promoteDebts)
		if err != nil {
			return false, err
		}
		if err := s.time(now).int(promoteAtMost).exec(); err != nil {
			return false, err
		}
		promoted := c.changes() > 0
		list, err = lanes(c)
		return promoted, err
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// lanes jumps from lane to lane along the index, however long they are.
func lanes(c *conn) ([]journal.Lane, error) {
	var list []journal.Lane
	for kind := journal.OweSuccess; kind <= journal.OweRevocation; kind++ {
		next := ""
		for {
			s, err := c.use(nextLane)
			if err != nil {
				return nil, err
			}
			found, err := s.int(int64(kind)).text(next).step()
			if err != nil {
				return nil, err
			}
			if !found {
				break
			}
			lane := journal.Lane{Kind: kind, Neighbour: s.colText()}
			s.reset()
			list = append(list, lane)
			next = lane.Neighbour + "\x00" // the first text behind it
		}
	}
	return list, nil
}

// ClaimDebts implements journal.Debts.
func (j *Journal) ClaimDebts(ctx context.Context, q journal.DebtClaim) ([]journal.Debt, error) {
	return j.claimDebts(ctx, q.Now, q.Lease, func(c *conn) ([]int64, error) {
		s, err := c.use(readyDebts)
		if err != nil {
			return nil, err
		}
		s.int(int64(q.Kind)).text(q.Neighbour).time(q.Now).int(int64(q.Limit))
		var due []int64
		for {
			row, err := s.step()
			if err != nil || !row {
				return due, err
			}
			id, since := s.colInt(), s.colInt()
			// Debts are recorded in the order of time: behind one that is too
			// old there are only older ones.
			if !q.Since.IsZero() && q.Kind == journal.OweSuccess && since < nanos(q.Since) {
				s.reset()
				return due, nil
			}
			due = append(due, id)
		}
	})
}

// ClaimDebtsOf implements journal.Debts.
func (j *Journal) ClaimDebtsOf(ctx context.Context, entry int64, kind journal.DebtKind, now time.Time, lease time.Duration) ([]journal.Debt, error) {
	return j.claimDebts(ctx, now, lease, func(c *conn) ([]int64, error) {
		s, err := c.use(debtsOf)
		if err != nil {
			return nil, err
		}
		return ids(s.int(entry).int(int64(kind)).time(now))
	})
}

func (j *Journal) claimDebts(ctx context.Context, now time.Time, lease time.Duration, choose func(*conn) ([]int64, error)) ([]journal.Debt, error) {
	var list []journal.Debt
	err := j.do(ctx, lazy, func(c *conn) (bool, error) {
		chosen, err := choose(c)
		if err != nil {
			return false, err
		}
		for _, id := range chosen {
			d, err := loadDebt(c, id)
			if err != nil {
				return true, err
			}
			s, err := c.use(claimDebt)
			if err != nil {
				return true, err
			}
			d.Token = c.nextToken(d.Token)
			if err := s.int(d.Token).time(now.Add(lease)).int(id).exec(); err != nil {
				return true, err
			}
			list = append(list, d)
		}
		return len(list) > 0, nil
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

func loadDebt(c *conn, id int64) (journal.Debt, error) {
	s, err := c.use(debtByID)
	if err != nil {
		return journal.Debt{}, err
	}
	found, err := s.int(id).step()
	if err != nil {
		return journal.Debt{}, err
	}
	if !found {
		return journal.Debt{}, journal.ErrNotFound
	}
	d := scanDebt(s)
	s.reset()
	return d, nil
}

// scanDebt reads debtColumns and entryColumns.
func scanDebt(s *stmt) journal.Debt {
	d := journal.Debt{
		ID: s.colInt(), Kind: journal.DebtKind(s.colInt()), Attempts: int(s.colInt()), Since: s.colTime(), Token: s.colInt(), Why: s.colText(),
	}
	d.Entry = scanEntry(s).Entry
	return d
}
