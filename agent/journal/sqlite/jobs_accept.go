package sqlite

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
)

// known is what AcceptJobs asks of a job that is recorded.
type known struct {
	id         int64
	token      int64
	state      journal.JobState
	own        bool
	retryable  bool
	unanswered bool
	same       bool // it came with the kind and content that are recorded
}

// AcceptJobs implements journal.Jobs. Jobs that the batch has twice are known
// the second time. A lead whose term has ended still counts until somebody
// else takes it: what was handed over is better recorded than lost.
func (j *Journal) AcceptJobs(ctx context.Context, l journal.Lead, jobs []journal.NewJob, now time.Time) (journal.Batch, error) {
	jobs = slices.Clone(jobs)
	var b journal.Batch
	err := j.do(ctx, durable, func(c *conn) (bool, error) {
		src, err := led(c, &l)
		if err != nil {
			return false, err
		}
		wrote := false
		for i := range jobs {
			changed, err := acceptJob(c, src.id, l.Source, &jobs[i], now, &b)
			wrote = wrote || changed
			if err != nil {
				return wrote, err
			}
		}
		return wrote, nil
	})
	if err != nil {
		return journal.Batch{}, err
	}
	return b, nil
}

// acceptJob records one job of a batch, or what it means that it came again.
func acceptJob(c *conn, source int64, name string, job *journal.NewJob, now time.Time, b *journal.Batch) (wrote bool, err error) {
	k, found, err := findJob(c, source, name, job)
	if err != nil {
		return false, err
	}
	if !found {
		b.New++
		return true, addJob(c, source, name, job, false, now)
	}
	if !k.same {
		b.Conflicts++
	}
	if k.state != journal.JobOver || k.unanswered && !k.retryable {
		b.Known++
		if !k.own {
			return false, nil
		}
		// The source asks for what we do on our own: now it gets an answer.
		s, err := c.use(adoptJob)
		if err != nil {
			return false, err
		}
		return true, s.int(k.id).exec()
	}
	b.Reopened++
	again := oweAgain
	if k.retryable {
		again = reopenJob
	}
	s, err := c.use(again)
	if err != nil {
		return false, err
	}
	return true, s.time(now).int(c.nextToken(k.token)).int(k.id).exec()
}

// AddJob implements journal.Jobs.
func (j *Journal) AddJob(ctx context.Context, job journal.NewJob, name string, now time.Time) error {
	return j.do(ctx, durable, func(c *conn) (bool, error) {
		src, _, err := wantSource(c, name)
		if err != nil {
			return true, err
		}
		_, found, err := findJob(c, src.id, name, &job)
		if err != nil || found {
			return false, err
		}
		return true, addJob(c, src.id, name, &job, true, now)
	})
}

func findJob(c *conn, source int64, name string, job *journal.NewJob) (k known, found bool, err error) {
	s, err := c.use(jobByKey)
	if err != nil {
		return k, false, err
	}
	found, err = s.int(jobKey(name, job.Context)).int(source).text(job.Context).step()
	if err != nil || !found {
		return k, false, err
	}
	defer s.reset()
	k = known{id: s.colInt(), token: s.colInt(), state: journal.JobState(s.colInt()), own: s.colInt() != 0}
	kind := journal.JobKind(s.colInt())
	k.retryable, k.unanswered = s.colInt() != 0, s.colInt() != 0
	content := job.Content
	if s.colInt() != 0 {
		content = contentDigest(content)
	}
	k.same = kind == job.Kind && bytes.Equal(s.raw(), content)
	return k, true, nil
}

func addJob(c *conn, source int64, name string, job *journal.NewJob, own bool, now time.Time) error {
	s, err := c.use(insertJob)
	if err != nil {
		return err
	}
	s.int(jobKey(name, job.Context)).int(source).bool(own).int(int64(job.Kind)).time(now).int(c.freshToken())
	return s.text(job.Context).text(job.Summary).blob(job.Content).exec()
}
