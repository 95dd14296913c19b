package sqlite

import (
	"context"
	"math"

	"github.com/certconnector/certconnector/agent/journal"
)

// GiveUpDebts implements journal.Debts.
func (j *Journal) GiveUpDebts(ctx context.Context, g journal.GiveUp) ([]journal.Debt, error) {
	var list []journal.Debt
	err := j.do(ctx, durable, func(c *conn) (bool, error) {
		late, err := lateDebts(c, &g)
		if err != nil {
			return false, err
		}
		for _, id := range late {
			d, err := loadDebt(c, id)
			if err != nil {
				return true, err
			}
			st, moves := outcome(d.Kind, journal.Settlement{Outcome: journal.GivenUp, Now: g.Now, Failure: &g.Failure})
			if d.Entry, err = settle(c, &d, &st, moves); err != nil {
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

// lateDebts finds what to give up: certificates first.
func lateDebts(c *conn, g *journal.GiveUp) ([]int64, error) {
	s, err := c.use(lateSuccesses)
	if err != nil {
		return nil, err
	}
	late, err := ids(s.time(g.Now).int(int64(g.Limit)))
	if err != nil || g.FailuresBefore.IsZero() || len(late) == g.Limit {
		return late, err
	}
	if s, err = c.use(lateFailures); err != nil {
		return nil, err
	}
	failures, err := ids(s.time(g.Now).time(g.FailuresBefore).int(int64(g.Limit - len(late))))
	return append(late, failures...), err
}

// DebtStats implements journal.Debts.
func (j *Journal) DebtStats(ctx context.Context) ([]journal.DebtStat, error) {
	var list []journal.DebtStat
	err := j.do(ctx, lazy, func(c *conn) (bool, error) {
		for kind := journal.OweSuccess; kind <= journal.OweRevocation; kind++ {
			s, err := c.use(debtStat)
			if err != nil {
				return false, err
			}
			if _, err := s.int(int64(kind)).step(); err != nil {
				return false, err
			}
			if d := (journal.DebtStat{Kind: kind, N: int(s.colInt()), Oldest: s.colTime()}); d.N > 0 {
				list = append(list, d)
			}
			s.reset()
		}
		return false, nil
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// OwedDebts implements journal.Debts.
func (j *Journal) OwedDebts(ctx context.Context, before int64, limit int) ([]journal.Debt, error) {
	if before == 0 {
		before = math.MaxInt64
	}
	var list []journal.Debt
	err := j.do(ctx, lazy, func(c *conn) (bool, error) {
		s, err := c.use(owedDebts)
		if err != nil {
			return false, err
		}
		s.int(before).int(int64(limit))
		for {
			row, err := s.step()
			if err != nil || !row {
				return false, err
			}
			list = append(list, scanDebt(s))
		}
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}
