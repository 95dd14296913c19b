package sqlite

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
)

// SettleReports implements journal.Jobs.
func (j *Journal) SettleReports(ctx context.Context, jobs []journal.Job, how journal.DebtOutcome, now time.Time) error {
	return j.reports(ctx, jobs, func(c *conn, job *journal.Job) error {
		s, err := c.use(settleReport)
		if err != nil {
			return err
		}
		return s.int(c.nextToken(job.Token)).time(now).bool(how == journal.RefusedForGood).int(job.ID).exec()
	})
}

// PostponeReports implements journal.Jobs.
func (j *Journal) PostponeReports(ctx context.Context, jobs []journal.Job, nextAt time.Time, why string) error {
	return j.reports(ctx, jobs, func(c *conn, job *journal.Job) error {
		return j.postpone(c, job, nextAt, why)
	})
}

// reports changes the owed reports that are still the caller's.
func (j *Journal) reports(ctx context.Context, jobs []journal.Job, change func(*conn, *journal.Job) error) error {
	jobs = slices.Clone(jobs)
	return j.do(ctx, durable, func(c *conn) (wrote bool, err error) {
		for i := range jobs {
			_, err := ours(c, &jobs[i], journal.JobOwed)
			if errors.Is(err, journal.ErrLost) {
				continue
			}
			if err == nil {
				wrote = true
				err = change(c, &jobs[i])
			}
			if err != nil {
				return wrote, err
			}
		}
		return wrote, nil
	})
}
