package sqlite

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/certconnector/certconnector/agent/journal"

	sqlite3 "modernc.org/sqlite/lib"
)

// scanJob reads jobColumns.
func scanJob(s *stmt) (j journal.Job) {
	j.ID = s.colInt()
	j.Source = s.colText()
	j.Kind = journal.JobKind(s.colInt())
	j.Context = s.colText()
	j.Content = s.colBlob()
	j.Summary = s.colText()
	j.State = journal.JobState(s.colInt())
	j.Work = s.colBlob()
	j.Attempts = int(s.colInt())
	j.NextAt = s.colTime()
	j.Why = s.colText()
	j.AcceptedAt = s.colTime()
	j.UpdatedAt = s.colTime()
	j.Token = s.colInt()
	none := s.colNull()
	r := journal.JobResult{Succeeded: s.colInt() != 0, Code: int(s.colInt()), Text: s.colText(), Payload: s.colBlob(),
		Serial: s.colText(), CA: s.colText(), Retryable: s.colInt() != 0, Unanswered: s.colInt() != 0, Refused: s.colInt() != 0}
	if !none {
		j.Result = &r
	}
	return j
}

// loadJob reads one job; journal.ErrNotFound when there is none.
func loadJob(c *conn, id int64) (journal.Job, error) {
	s, err := c.use(jobByID)
	if err != nil {
		return journal.Job{}, err
	}
	found, err := s.int(id).step()
	if err != nil {
		return journal.Job{}, err
	}
	if !found {
		return journal.Job{}, journal.ErrNotFound
	}
	job := scanJob(s)
	s.reset()
	return job, nil
}

// Job implements journal.Jobs.
func (j *Journal) Job(ctx context.Context, id int64) (journal.Job, error) {
	var job journal.Job
	err := j.do(ctx, lazy, func(c *conn) (bool, error) {
		var err error
		job, err = loadJob(c, id)
		return false, err
	})
	if err != nil {
		return journal.Job{}, err
	}
	return job, nil
}

// FinishedJobs implements journal.Jobs.
func (j *Journal) FinishedJobs(ctx context.Context, name string, kind journal.JobKind, since time.Time) (int, error) {
	n := 0
	err := j.do(ctx, lazy, func(c *conn) (bool, error) {
		src, found, err := findSource(c, name)
		if err != nil || !found {
			return false, err
		}
		s, err := c.use(finishedJobs)
		if err != nil {
			return false, err
		}
		if _, err = s.int(src.id).int(int64(kind)).time(since).step(); err != nil {
			return false, err
		}
		n = int(s.colInt())
		s.reset()
		return false, nil
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

// ListJobs implements journal.Jobs. Like List it reads windows of rows, and
// is not a picture of one moment.
func (j *Journal) ListJobs(ctx context.Context, q journal.JobQuery) ([]journal.Job, error) {
	q.States = slices.Clone(q.States)
	if q.Limit <= 0 {
		q.Limit = listLimit
	}
	within := rangeOfJobs
	if len(q.States) > 0 && !slices.Contains(q.States, journal.JobOver) {
		within = rangeOfPendingJobs
	}
	oldest, newest, err := j.idsBetween(ctx, within)
	if err != nil {
		return nil, err
	}
	if q.Before > 0 {
		newest = min(newest, q.Before-1)
	}
	var list []journal.Job
	for to := newest; to >= oldest && to > 0 && len(list) < q.Limit; to -= listWindow {
		err := j.do(ctx, lazy, func(c *conn) (bool, error) {
			found, err := jobsBetween(c, &q, max(to-listWindow+1, oldest), to, q.Limit-len(list))
			list = append(list, found...)
			return false, err
		})
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}

// jobsBetween reads the jobs of one window, newest first.
func jobsBetween(c *conn, q *journal.JobQuery, from, to int64, limit int) ([]journal.Job, error) {
	sql := `SELECT ` + jobColumns + ` FROM jobs j CROSS JOIN sources s ON s.id = j.source WHERE j.id BETWEEN ? AND ?`
	if q.Source != "" {
		sql += ` AND s.name = ?`
	}
	if len(q.States) > 0 {
		sql += ` AND j.state IN (?` + strings.Repeat(`, ?`, len(q.States)-1) + `)`
	}
	s, err := c.prepare(sql + ` ORDER BY j.id DESC LIMIT ?`)
	if err != nil {
		return nil, err
	}
	defer sqlite3.Xsqlite3_finalize(c.tls, s.handle)
	c.used = 0
	s.int(from).int(to)
	if q.Source != "" {
		s.text(q.Source)
	}
	for _, state := range q.States {
		s.int(int64(state))
	}
	s.int(int64(limit))
	var list []journal.Job
	for {
		found, err := s.step()
		if err != nil || !found {
			return list, err
		}
		list = append(list, scanJob(s))
	}
}
