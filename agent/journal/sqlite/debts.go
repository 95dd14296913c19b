package sqlite

import (
	"context"
	"errors"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
)

// promoteAtMost bounds how many debts become ready in one claim, so that the
// end of a long outage does not hold up enrolments. Within one claim the order
// of urgency holds among the newest this many.
const promoteAtMost = 2000

// owe records a debt.
func owe(c *conn, entry int64, kind journal.DebtKind, at, since time.Time) error {
	s, err := c.use(insertDebt)
	if err != nil {
		return err
	}
	return s.int(entry).int(int64(kind)).time(at).int(c.freshToken()).time(since).exec()
}

// settleFinal drops what an entry in a final state no longer owes, and tells
// whether its sealed CSR is of no more use: no notification needs it.
func settleFinal(c *conn, entry int64) (wipe bool, err error) {
	s, err := c.use(dropDebts)
	if err != nil {
		return false, err
	}
	if err := s.int(entry).int(int64(journal.OweSuccess)).exec(); err != nil {
		return false, err
	}
	if s, err = c.use(notificationOwed); err != nil {
		return false, err
	}
	owed, err := s.int(entry).step()
	s.reset()
	return !owed, err
}

// ClaimDebts implements journal.Debts.
func (j *Journal) ClaimDebts(ctx context.Context, now time.Time, lease time.Duration, limit int) ([]journal.Debt, error) {
	return j.claimDebts(ctx, now, lease, func(c *conn) ([]int64, bool, error) {
		s, err := c.use(promoteDebts)
		if err != nil {
			return nil, false, err
		}
		if err := s.time(now).int(promoteAtMost).exec(); err != nil {
			return nil, false, err
		}
		promoted := c.changes() > 0
		if s, err = c.use(readyDebts); err != nil {
			return nil, promoted, err
		}
		due, err := ids(s.time(now).int(int64(limit)))
		return due, promoted, err
	})
}

// ClaimDebtsOf implements journal.Debts.
func (j *Journal) ClaimDebtsOf(ctx context.Context, entry int64, kind journal.DebtKind, now time.Time, lease time.Duration) ([]journal.Debt, error) {
	return j.claimDebts(ctx, now, lease, func(c *conn) ([]int64, bool, error) {
		s, err := c.use(debtsOf)
		if err != nil {
			return nil, false, err
		}
		free, err := ids(s.int(entry).int(int64(kind)).time(now))
		return free, false, err
	})
}

func (j *Journal) claimDebts(ctx context.Context, now time.Time, lease time.Duration, choose func(*conn) ([]int64, bool, error)) ([]journal.Debt, error) {
	var list []journal.Debt
	err := j.do(ctx, lazy, func(c *conn) (bool, error) {
		chosen, wrote, err := choose(c)
		if err != nil {
			return wrote, err
		}
		for _, id := range chosen {
			s, err := c.use(claimDebt)
			if err != nil {
				return true, err
			}
			if err := s.time(now.Add(lease)).int(id).exec(); err != nil {
				return true, err
			}
			d, err := loadDebt(c, id)
			if err != nil {
				return true, err
			}
			list = append(list, d)
		}
		return wrote || len(list) > 0, nil
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
	d := journal.Debt{ID: s.colInt(), Kind: journal.DebtKind(s.colInt()), Attempts: int(s.colInt()), Since: s.colTime(), Token: s.colInt()}
	d.Entry = scanEntry(s).Entry
	s.reset()
	return d, nil
}

// held returns a debt as it is recorded, journal.ErrLost unless the caller's
// claim is the newest one.
func held(c *conn, d *journal.Debt) (journal.Debt, error) {
	now, err := loadDebt(c, d.ID)
	if errors.Is(err, journal.ErrNotFound) {
		return now, journal.ErrLost
	}
	if err == nil && (now.Token != d.Token || now.Kind != d.Kind || now.Entry.ID != d.Entry.ID) {
		err = journal.ErrLost
	}
	return now, err
}

// SettleDebt implements journal.Debts.
func (j *Journal) SettleDebt(ctx context.Context, d journal.Debt, how journal.Settlement) (journal.Entry, error) {
	var e journal.Entry
	err := j.do(ctx, durable, func(c *conn) (bool, error) {
		now, err := held(c, &d)
		if err != nil {
			return false, err
		}
		st, moves := outcome(now.Kind, how)
		if moves && now.Entry.State != journal.Issued && now.Entry.State != journal.Withheld {
			return false, journal.ErrLost
		}
		s, err := c.use(deleteDebt)
		if err != nil {
			return false, err
		}
		if err := s.int(d.ID).exec(); err != nil {
			return true, err
		}
		if moves {
			e, err = step(c, now.Entry, &st)
			return true, err
		}
		e, err = wipeIfDone(c, now.Entry)
		return true, err
	})
	if err != nil {
		return journal.Entry{}, err
	}
	return e, nil
}

// outcome is the step that the end of a debt takes its entry. Only a success
// notification moves one.
func outcome(kind journal.DebtKind, how journal.Settlement) (journal.Step, bool) {
	if kind != journal.OweSuccess {
		return journal.Step{}, false
	}
	st := journal.Step{Now: how.Now, Failure: how.Failure, Owe: []journal.DebtKind{journal.OweRevocation}}
	switch how.Outcome {
	case journal.RefusedForGood:
		st.To = journal.Failed
	case journal.GivenUp:
		st.To = journal.Abandoned
	default:
		st.To, st.Owe, st.Failure = journal.Released, nil, nil
	}
	return st, true
}

// wipeIfDone wipes the sealed CSR of an entry that is final and owes no
// notification.
func wipeIfDone(c *conn, e journal.Entry) (journal.Entry, error) {
	if !e.State.Final() || e.SealedCSR == nil {
		return e, nil
	}
	wipe, err := settleFinal(c, e.ID)
	if err != nil || !wipe {
		return e, err
	}
	s, err := c.use(wipeCSR)
	if err != nil {
		return e, err
	}
	e.SealedCSR = nil
	return e, s.int(e.ID).exec()
}

// PostponeDebt implements journal.Debts.
func (j *Journal) PostponeDebt(ctx context.Context, d journal.Debt, nextAt time.Time, why string) (journal.Entry, error) {
	var e journal.Entry
	err := j.do(ctx, durable, func(c *conn) (bool, error) {
		now, err := held(c, &d)
		if err != nil {
			return false, err
		}
		e = now.Entry
		s, err := c.use(postponeDebt)
		if err != nil {
			return false, err
		}
		if err := s.time(nextAt).text(why).int(d.ID).exec(); err != nil {
			return true, err
		}
		if now.Kind == journal.OweSuccess && e.State == journal.Issued {
			e.State, e.UpdatedAt = journal.Withheld, plain(j.clock())
			err = store(c, &e, false, nil, false)
		}
		return true, err
	})
	if err != nil {
		return journal.Entry{}, err
	}
	return e, nil
}
