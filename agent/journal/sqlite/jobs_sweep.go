package sqlite

import (
	"context"
	"crypto/sha256"
	"time"
)

// swept is a job that is to be swept.
type swept struct {
	id      int64
	stays   bool // its context and result do
	content []byte
}

// SweepJobs implements journal.Jobs. What a kill takes of it is swept again.
func (j *Journal) SweepJobs(ctx context.Context, before time.Time, limit int) (int, error) {
	n := 0
	err := j.do(ctx, lazy, func(c *conn) (bool, error) {
		list, err := sweepable(c, before, limit)
		if err != nil {
			return false, err
		}
		for i := range list {
			if err := sweep(c, &list[i]); err != nil {
				return true, err
			}
		}
		n = len(list)
		return n > 0, nil
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

func sweepable(c *conn, before time.Time, limit int) ([]swept, error) {
	s, err := c.use(sweepableJobs)
	if err != nil {
		return nil, err
	}
	s.time(before).int(int64(max(limit, 0)))
	var list []swept
	for {
		found, err := s.step()
		if err != nil || !found {
			return list, err
		}
		list = append(list, swept{s.colInt(), s.colInt() != 0, s.colBlob()})
	}
}

func sweep(c *conn, job *swept) error {
	if !job.stays {
		s, err := c.use(deleteJob)
		if err != nil {
			return err
		}
		return s.int(job.id).exec()
	}
	s, err := c.use(thinJob)
	if err != nil {
		return err
	}
	return s.blob(contentDigest(job.content)).int(job.id).exec()
}

// contentDigest is what is kept of a job's content, to tell another one from it.
func contentDigest(content []byte) []byte {
	sum := sha256.Sum256(content)
	return sum[:]
}
