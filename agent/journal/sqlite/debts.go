package sqlite

import (
	"context"
	"errors"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
)

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
	m := durable
	if how.Lazy && d.Kind != journal.OweSuccess {
		m = lazy
	}
	err := j.do(ctx, m, func(c *conn) (bool, error) {
		now, err := held(c, &d)
		if err != nil {
			return false, err
		}
		st, moves := outcome(now.Kind, how)
		if moves && now.Entry.State != journal.Issued && now.Entry.State != journal.Withheld {
			return false, journal.ErrLost
		}
		e, err = settle(c, &now, &st, moves)
		return true, err
	})
	if err != nil {
		return journal.Entry{}, err
	}
	return e, nil
}

// settle removes a debt and takes its entry a step if that moves it.
func settle(c *conn, d *journal.Debt, st *journal.Step, moves bool) (journal.Entry, error) {
	s, err := c.use(deleteDebt)
	if err != nil {
		return d.Entry, err
	}
	if err := s.int(d.ID).exec(); err != nil {
		return d.Entry, err
	}
	if moves {
		return step(c, d.Entry, st)
	}
	return wipeIfDone(c, d.Entry)
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
	err := j.do(ctx, lazy, func(c *conn) (bool, error) {
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
