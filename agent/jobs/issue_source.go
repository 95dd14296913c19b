package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent/jobs/jobqueue"
	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/internal/failpoint"
)

// Queue is what a source of issuance jobs needs of jobqueue.Client.
type Queue interface {
	Download(ctx context.Context, limit int) (jobqueue.Batch, error)
	Upload(ctx context.Context, results []jobqueue.Result) error
}

// QueueName is the name of a job queue as a source of jobs.
func QueueName(name string) string { return "issuance/" + name }

// QueueConfig is what NewQueue needs.
type QueueConfig struct {
	Name  string // as in the configuration
	Queue Queue
	// Revoke is that of the Issuer: it is told of a certificate whose result the
	// queue refuses for good.
	Revoke func(context.Context, Undelivered) error
	Log    *zap.Logger
}

type queue struct{ QueueConfig }

// NewQueue returns a queue of our own interface as a source of issuance jobs.
func NewQueue(cfg QueueConfig) (Source, error) {
	if cfg.Name == "" || cfg.Queue == nil || cfg.Revoke == nil || cfg.Log == nil {
		return nil, errors.New("a job queue needs a name, a client, a way to revoke and a log")
	}
	cfg.Log = cfg.Log.With(zap.String("source", QueueName(cfg.Name)))
	return &queue{cfg}, nil
}

// Name is QueueName.
func (q *queue) Name() string { return QueueName(q.QueueConfig.Name) }

// Fetch downloads jobs. An element with a context that cannot be read
// otherwise becomes a job too: it is refused, and the queue is told.
func (q *queue) Fetch(ctx context.Context, limit int) ([]journal.NewJob, error) {
	batch, err := q.Queue.Download(ctx, limit)
	if err != nil {
		return nil, queueError(err)
	}
	var list []journal.NewJob
	for _, job := range batch.Jobs {
		content, err := json.Marshal(job)
		if err != nil {
			return nil, fmt.Errorf("writing down a job: %w", err)
		}
		list = append(list, journal.NewJob{
			Kind: journal.IssueJob, Context: job.Context, Content: content,
			Summary: clean(strings.TrimSpace(job.Subject + " " + strings.Join(job.SANs, " "))),
		})
	}
	for _, bad := range batch.Bad {
		q.Log.Warn("a job of the queue cannot be read", zap.Bool("answered", bad.Context != ""), zap.String("reason", clean(bad.Reason)))
		if bad.Context == "" {
			continue
		}
		content, err := json.Marshal(malformed{bad.Context, bad.Reason})
		if err != nil {
			return nil, fmt.Errorf("writing down a job: %w", err)
		}
		list = append(list, journal.NewJob{Kind: journal.IssueJob, Context: bad.Context, Content: content, Summary: "cannot be read"})
	}
	return list, nil
}

// Report uploads results.
//
// A success that was taken before is not there any more. When its job is
// offered again nevertheless, the queue hears that it was delivered before: a
// job never gets a second certificate.
//
// A certificate whose result is refused for good is revoked: that is recorded
// before the refusal is, so that a crash between them repeats it.
func (q *queue) Report(ctx context.Context, jobs []journal.Job) error {
	failpoint.Hit("jobs.issue.finished")
	results := make([]jobqueue.Result, 0, len(jobs))
	for _, j := range jobs {
		results = append(results, resultOf(j))
	}
	err := q.Queue.Upload(ctx, results)
	if err == nil {
		return nil
	}
	// A proxy may bound what it passes on: one by one they may fit.
	if status, ok := errors.AsType[*jobqueue.StatusError](err); ok && status.Status == http.StatusRequestEntityTooLarge && len(jobs) > 1 {
		return fmt.Errorf("%w together: %w", ErrRefused, err)
	}
	err = queueError(err)
	if !errors.Is(err, ErrRefused) || len(jobs) != 1 || !results[0].Succeeded {
		return err
	}
	r := jobs[0].Result
	lost := Undelivered{Source: q.Name(), CA: r.CA, Serial: r.Serial, Thumbprint: results[0].Imported, Why: "the job queue refused the result for good"}
	if json.Unmarshal(jobs[0].Content, &lost.Job) != nil {
		lost.Job = jobqueue.Job{} // revoked all the same
	}
	if revokeErr := q.Revoke(ctx, lost); revokeErr != nil {
		return fmt.Errorf("giving a certificate up whose result the queue refused: %v (%v)", revokeErr, err)
	}
	q.Log.Error("the job queue refused a result for good; its certificate is revoked", digest(jobs[0]), zap.String("serial", r.Serial), zap.String("ca", r.CA), zap.Error(err))
	return err
}

// resultOf translates a recorded result.
func resultOf(j journal.Job) jobqueue.Result {
	out := jobqueue.Result{Context: j.Context, Code: jobqueue.NonRetryableServiceError, Message: "failed"}
	r := j.Result
	if r == nil {
		return out
	}
	var d Delivered
	switch {
	case r.Succeeded && !r.Refused && json.Unmarshal(r.Payload, &d) == nil && (len(d.Sealed) > 0) != (d.Imported != ""):
		return jobqueue.Result{Context: j.Context, Succeeded: true, Sealed: d.Sealed, Imported: d.Imported}
	case r.Succeeded:
		out.Code = jobqueue.ConflictError
		out.Message = "delivered_before: the result of this job was uploaded before and is not kept; its certificate has serial number " + r.Serial
		return out
	}
	if r.Code != 0 {
		out.Code = jobqueue.Code(r.Code)
	}
	if r.Text != "" {
		out.Message = r.Text
	}
	return out
}

// queueError says in our words what the client says in its own.
func queueError(err error) error {
	status, ok := errors.AsType[*jobqueue.StatusError](err)
	switch {
	case errors.Is(err, jobqueue.ErrNotReached):
		return fmt.Errorf("%w: %w", ErrNotReached, err)
	case ok && status.Gone():
		return fmt.Errorf("%w: %w", ErrGone, err)
	case ok && status.Final():
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return err
}

// undelivered begins the names of the sources that RevokeByJob adds jobs to.
const undelivered = "undelivered/"

// UndeliveredSource is the name under which RevokeByJob adds its jobs. The
// Revoker does them for the endpoint of that queue.
func UndeliveredSource(queue string) string { return undelivered + queue }

// RevokeByJob returns the Revoke of an IssueConfig and a QueueConfig that
// records a revocation job of our own. It is done by the Revoker, tried until
// the CA has it, and reported to nobody.
func RevokeByJob(to interface {
	AddJob(ctx context.Context, job journal.NewJob, source string, now time.Time) error
}, queue string, clock func() time.Time,
) func(context.Context, Undelivered) error {
	if clock == nil {
		clock = time.Now
	}
	return func(ctx context.Context, u Undelivered) error {
		content, err := json.Marshal(Revocation{Serial: u.Serial, Issuer: u.CA})
		if err != nil {
			return fmt.Errorf("writing down a revocation: %w", err)
		}
		return to.AddJob(ctx, journal.NewJob{
			Kind: journal.RevokeJob, Context: u.CA + "/" + u.Serial, Content: content,
			Summary: clean("serial " + u.Serial + " of " + u.CA + ": " + u.Why),
		}, UndeliveredSource(queue), clock())
	}
}
