package journal

import "time"

// Lead is the right to ask a source for work.
type Lead struct {
	Source   string
	Owner    string
	Epoch    int64     // grows with every change of the owner
	Until    time.Time // the end of the term
	LastPoll time.Time // when the source was last asked, by whomever; zero: never
}

// JobKind is what a job wants done.
type JobKind int

// The kinds of job.
const (
	RevokeJob JobKind = iota + 1
	IssueJob
)

// String returns the kind's name.
func (k JobKind) String() string {
	switch k {
	case RevokeJob:
		return "revoke"
	case IssueJob:
		return "issue"
	}
	return "invalid"
}

// NewJob is a job as its source handed it over.
type NewJob struct {
	Kind    JobKind
	Context string // the source's handle, repeated in the report
	Content []byte // what is wanted, in the form that the kind's handler reads; gone once swept
	Summary string // for people: lists, logs; gone once swept
}

// Batch is what became of an accepted batch.
type Batch struct {
	New       int // recorded now
	Known     int // open or owed before
	Reopened  int // reported before, owed or open again
	Conflicts int // known under the same context with another content
}

// JobState is how far a job has come.
type JobState int

// open → owed → over.
const (
	JobOpen JobState = iota + 1 // accepted, to be done
	JobOwed                     // result recorded, report owed
	JobOver                     // reported, or nobody to report to
)

// String returns the state's name.
func (s JobState) String() string {
	switch s {
	case JobOpen:
		return "open"
	case JobOwed:
		return "owed"
	case JobOver:
		return "over"
	}
	return "invalid"
}

// Job is a job as recorded, and the caller's claim to it.
type Job struct {
	ID     int64
	Source string
	NewJob
	State      JobState
	Work       []byte // what SaveJob kept, while it is open
	Result     *JobResult
	Attempts   int // at doing it while it is open, at reporting it while it is owed
	NextAt     time.Time
	Why        string // the last attempt's failure
	AcceptedAt time.Time
	UpdatedAt  time.Time
	Token      int64 // changes with every claim: an older claim's steps are ErrLost
}

// JobResult is how a job ended.
type JobResult struct {
	Succeeded  bool
	Code       int    // the source's error code, 0 when it succeeded
	Text       string // for people, without secrets
	Payload    []byte // what is handed over with the report, sealed to its recipient
	Serial     string // of the certificate concerned, upper-case hexadecimal
	CA         string // its CA
	Retryable  bool   // the source is asked to offer the job again
	Unanswered bool   // not ours to answer: never reported
	Refused    bool   // set by the journal: the source refused the report for good
}

// JobQuery selects jobs for a list.
type JobQuery struct {
	Source string
	States []JobState // empty: all
	Before int64      // jobs with smaller IDs only; 0: from the newest
	Limit  int        // 0: 100
}

// Source is how a source of jobs stands.
type Source struct {
	Name       string
	Owner      string    // who leads it; "" when nobody's term runs
	Until      time.Time // the end of that term
	LastPoll   time.Time
	PausedAt   time.Time // zero: not paused
	PausedWhy  string
	ResumedAt  time.Time // the last time a pause was ended; zero: never
	Open       int
	OldestOpen time.Time // since when the oldest open job is open; zero: none is
	Owed       int
	OldestOwed time.Time // since when the oldest owed report is owed; zero: none is
}

// ImportedCertificate is a certificate that another system issued for a tenant.
type ImportedCertificate struct {
	Tenant string
	CA     string
	Serial string // upper-case hexadecimal of even length, as entries have it
}
