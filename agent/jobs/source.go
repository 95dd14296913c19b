package jobs

import (
	"context"
	"errors"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
)

// What a source says about a question or a report that failed, by errors.Is.
// An error with a method RetryAfter() time.Duration is heard too.
var (
	// ErrNotReached says that the question surely did not reach the source, so
	// that its cool-down has not begun. Any other error waits for the interval.
	ErrNotReached = errors.New("the source was not reached")
	// ErrGone says that the source does not offer its interface any more.
	ErrGone = errors.New("the source does not offer this any more")
	// ErrRefused says that a report will not be taken however often it is sent.
	ErrRefused = errors.New("the source refused the report for good")
)

// Source is where jobs come from and where their results go. Its methods are
// called by one goroutine at a time.
type Source interface {
	// Name identifies the source in the journal, as "revocations/contoso": it
	// must not change between two starts.
	Name() string

	// Fetch asks once for at most limit jobs; none is no error. It does not
	// try again by itself, logs and skips elements that it cannot read, and
	// keeps nothing: what it returns is recorded before anything is done.
	Fetch(ctx context.Context, limit int) ([]journal.NewJob, error)

	// Report hands over results: nil says that all of them were taken. With an
	// error none was; one that wraps ErrRefused is final, and the reports are
	// then tried one by one, so that a bad one does not hold up the others.
	Report(ctx context.Context, jobs []journal.Job) error
}

// Handler does jobs of one kind. Do is called by several goroutines at once,
// each with a job of its own, and again with the same job after a crash: what
// must be found again then is in journal.Job.Work.
type Handler interface {
	Do(ctx context.Context, j journal.Job) Ending
}

// Ending is what became of one call of a handler. Save is recorded first; then
// the job ends with Result, or is tried later when Later is set. With neither,
// Do is called again at once with the saved work: so a step can be recorded
// before it is taken.
type Ending struct {
	Save      []byte             // becomes journal.Job.Work; nil leaves it
	Result    *journal.JobResult // the job is done
	Later     error              // why it is not
	NotBefore time.Duration      // the least delay of the next attempt
}

// Done ends a job with a result.
func Done(r journal.JobResult) Ending { return Ending{Result: &r} }

// TryLater postpones a job by the usual growing delay, at least by notBefore.
func TryLater(why error, notBefore time.Duration) Ending {
	return Ending{Later: why, NotBefore: notBefore}
}

// Continue saves a job's work, which must not be empty, and goes on with it at once.
func Continue(work []byte) Ending { return Ending{Save: work} }
