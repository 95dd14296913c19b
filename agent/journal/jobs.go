package journal

import (
	"context"
	"errors"
	"time"
)

// FarAhead is further in the future than any time that Jobs is given: what was
// set so far ahead was set by a clock that has been put back since. A lead whose
// term ends there has run out, and a job that waits for it is due.
const FarAhead = 48 * time.Hour

// ErrLed says that another instance leads the source, until its term ends.
var ErrLed = errors.New("another instance asks this source for work")

// Jobs records work that a cloud or a queue hands us: fetched by one instance
// at a time, accepted as a whole batch before any of it is done, and reported
// until the report is taken. Each call is one atomic transaction, durable on
// return where it changes more than a claim.
//
// A job that was accepted is never lost: it is open until a result is
// recorded, and owed until the source has taken that result.
//
// A journal that was restored from a backup has forgotten jobs, results and
// polls since, and that is borne: a source that got no answer offers its job
// again; a revocation made twice succeeds twice; a report made twice says the
// same of a revocation. A certificate that is issued once more for a job is an
// entry like any other, and by entries a restored copy is recognised. What
// must be looked at after a restore is who was paused: a pause that is younger
// than the backup is forgotten too.
type Jobs interface {
	Leads
	JobIntake
	JobWork
	JobReports
	JobLists
	JobSources
	JobSweep
	ImportedCertificates
}

// Leads decide which of several instances asks a source for work.
type Leads interface {
	// Lead takes the role of asking a source until now+term, or prolongs it for
	// an owner that has it. ErrLed while another owner's term runs.
	Lead(ctx context.Context, source, owner string, now time.Time, term time.Duration) (Lead, error)

	// RecordPoll records that the source is about to be asked. It is called
	// before the question, so that a crash does not ask twice within the
	// source's cool-down. ErrLost when the lead has gone or its term has ended.
	RecordPoll(ctx context.Context, l Lead, now time.Time) error

	// Resign gives up the role at once. A lead that has gone is no error.
	Resign(ctx context.Context, l Lead) error
}

// JobIntake records jobs.
type JobIntake interface {
	// AcceptJobs records a batch under its source. A context that is known
	// keeps its first content (Batch.Conflicts counts those that came with
	// another one). One that was reported is owed again, with the result it
	// had: the source did not get it. One whose result the source was told to
	// offer again (Retryable) is open again; what it was told of an Unanswered
	// one is nothing, so that one stays over unless it is Retryable too. The
	// Payload of a result that is owed again is gone. One of our own (AddJob)
	// becomes the source's. ErrLost when somebody else has taken the lead, or
	// it was given up: then nothing was recorded.
	AcceptJobs(ctx context.Context, l Lead, jobs []NewJob, now time.Time) (Batch, error)

	// AddJob records a job of our own: without a lead, and reported to nobody.
	// One that is known is left as it is.
	AddJob(ctx context.Context, job NewJob, source string, now time.Time) error
}

// JobWork is what doing open jobs needs.
type JobWork interface {
	// ClaimJobs takes up to limit open jobs of a kind that are due and keeps
	// them from others until now+lease: the oldest of each source, and sources
	// by turns, so that a long list of one keeps no other waiting. Jobs of a
	// source that is paused are not due. A claim whose lease ended is good until the job is
	// claimed again.
	ClaimJobs(ctx context.Context, kind JobKind, now time.Time, lease time.Duration, limit int) ([]Job, error)

	// SaveJob keeps what the caller must find again after a crash; it stays the
	// caller's. Jobs carry no plain secrets: the caller seals what is one.
	SaveJob(ctx context.Context, j Job, work []byte) error

	// PostponeJob records a failed attempt and when to try next.
	PostponeJob(ctx context.Context, j Job, nextAt time.Time, why string) error

	// FinishJob records a job's result and owes its report (but for Unanswered
	// and jobs of our own, which are then over). Its work is wiped.
	FinishJob(ctx context.Context, j Job, r JobResult, now time.Time) error
}

// JobReports are results on their way back to their source.
type JobReports interface {
	// ClaimReports takes up to limit owed reports of a source that are due,
	// oldest first, and keeps them from others until now+lease. A source that
	// is paused is told what was done.
	ClaimReports(ctx context.Context, source string, now time.Time, lease time.Duration, limit int) ([]Job, error)

	// SettleReports records that the source has taken reports, or has refused
	// them for good. Their payloads are wiped. Jobs whose claim was lost meanwhile are left alone.
	SettleReports(ctx context.Context, jobs []Job, how DebtOutcome, now time.Time) error

	// PostponeReports records a failed upload and when to try next.
	PostponeReports(ctx context.Context, jobs []Job, nextAt time.Time, why string) error
}

// JobLists shows jobs.
type JobLists interface {
	// Job returns one job; ListJobs several, newest first.
	Job(ctx context.Context, id int64) (Job, error)
	ListJobs(ctx context.Context, q JobQuery) ([]Job, error)
}

// JobSources shows and steers the sources of jobs.
type JobSources interface {
	// FinishedJobs counts jobs of a source and kind that succeeded at or after since.
	FinishedJobs(ctx context.Context, source string, kind JobKind, since time.Time) (int, error)

	// Sources tells how every source stands that was ever led or has jobs, by name.
	Sources(ctx context.Context) ([]Source, error)

	// PauseSource stops the work on a source's jobs until ResumeSource: they
	// stay accepted. Both are idempotent and survive a restart.
	PauseSource(ctx context.Context, source, why string, now time.Time) error
	ResumeSource(ctx context.Context, source string, now time.Time) error
}

// JobSweep forgets what is history.
type JobSweep interface {
	// SweepJobs looks at up to limit jobs that are over since before a time,
	// oldest first, and returns at how many; fewer than limit: none is left.
	//
	// A job by which no certificate was issued or revoked is forgotten, and new
	// when its context comes again; so is one that its source was told to offer
	// again. Any other keeps its context and its result, and loses its Content
	// and Summary: when it comes again it is answered as before (Batch.Conflicts
	// counts another content still), so that no context ever gets a second
	// certificate, and what was revoked stays known. Those are looked at once.
	// IDs are never given twice, for which the newest job may stay.
	SweepJobs(ctx context.Context, before time.Time, limit int) (int, error)
}

// ImportedCertificates are those that another system issued.
type ImportedCertificates interface {
	// ImportIssued records certificates that were issued elsewhere for a
	// tenant, so that its revocations are ours to carry out; it returns how
	// many were new.
	ImportIssued(ctx context.Context, list []ImportedCertificate, now time.Time) (int, error)

	// Imported returns the tenants that a certificate was imported for; none is no error.
	Imported(ctx context.Context, ca, serial string) ([]string, error)
}
