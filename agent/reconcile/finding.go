package reconcile

import (
	"fmt"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
)

// Kind is what differs. docs/reconcile.md has a row for each.
type Kind string

// The kinds of finding.
const (
	IssuedNotAccepted   Kind = "issued_not_accepted"
	AbandonedNotRevoked Kind = "abandoned_not_revoked"
	RevocationOwed      Kind = "revocation_owed"
	RevokedAtCA         Kind = "revoked_at_ca"
	UnknownAtCA         Kind = "unknown_at_ca"
	NotRevokedAtCA      Kind = "not_revoked_at_ca"
	ReportOwed          Kind = "report_owed"
	ReportRefused       Kind = "report_refused"
	JobUnanswered       Kind = "job_unanswered"
	PossibleOrphan      Kind = "possible_orphan"
	StoppedRenewing     Kind = "stopped_renewing"
	RenewalLate         Kind = "renewal_late"
	Stuck               Kind = "stuck"
)

// Severity says whether somebody should act.
type Severity string

// Information alone does not change the exit code.
const (
	Info    Severity = "info"
	Warning Severity = "warning"
	Error   Severity = "error"
)

// Finding is one difference.
type Finding struct {
	ID       string    `json:"id"` // the same in every run: kind and row
	Kind     Kind      `json:"kind"`
	Severity Severity  `json:"severity"`
	Entry    int64     `json:"entry,omitempty"` // the journal's ID of the enrolment
	Job      int64     `json:"job,omitempty"`   // or of the job
	Source   string    `json:"source,omitempty"`
	Tenant   string    `json:"tenant,omitempty"`
	Endpoint string    `json:"endpoint,omitempty"`
	CA       string    `json:"ca,omitempty"`
	Serial   string    `json:"serial,omitempty"`
	Subject  string    `json:"subject,omitempty"`
	Since    time.Time `json:"since,omitzero"` // when it began
	Until    time.Time `json:"until,omitzero"` // of a time window, or when it ends by itself
	Cause    string    `json:"cause"`
	Fix      string    `json:"fix"`
	Fixable  bool      `json:"fixable"` // Options.Fix repairs it
	Fixed    bool      `json:"fixed,omitempty"`
	FixError string    `json:"fix_error,omitempty"`
}

// Report is the outcome of one run.
type Report struct {
	StartedAt  time.Time    `json:"started_at"`
	FinishedAt time.Time    `json:"finished_at"`
	Since      time.Time    `json:"since"`
	Entries    int          `json:"entries"` // rows looked at
	Jobs       int          `json:"jobs"`
	Debts      int          `json:"debts"`
	Checked    int          `json:"checked"`   // certificates that a CA was asked about
	Unchecked  int          `json:"unchecked"` // that one would have been, but for Checks, CheckBefore, or what it cannot
	Counts     map[Kind]int `json:"counts"`
	Fixed      int          `json:"fixed"`
	Findings   []Finding    `json:"findings"`
	Unlisted   int          `json:"unlisted,omitempty"`   // findings beyond Options.Limit
	NextCheck  int64        `json:"next_check,omitempty"` // CheckBefore of a run that goes on; 0: none has to
	Incomplete []string     `json:"incomplete,omitempty"` // what could not be looked at
	Notes      []string     `json:"notes,omitempty"`      // what cannot be looked at at all

	open int // findings of a severity that counts and that were not repaired
}

// ExitCode is 2 when something could not be looked at, 1 when there are
// findings that somebody should act on and that were not repaired, else 0.
func (r Report) ExitCode() int {
	switch {
	case len(r.Incomplete) > 0:
		return 2
	case r.open > 0:
		return 1
	}
	return 0
}

func (r Report) total() int {
	n := 0
	for _, c := range r.Counts {
		n += c
	}
	return n
}

// of makes a finding about an entry.
func of(kind Kind, severity Severity, e *journal.Entry) Finding {
	return Finding{
		ID: fmt.Sprintf("%s-e%d", kind, e.ID), Kind: kind, Severity: severity, Entry: e.ID,
		Tenant: e.Tenant, Endpoint: e.Endpoint, CA: e.CA, Serial: e.Serial, Subject: e.Subject,
	}
}

// ofJob makes a finding about a job.
func ofJob(kind Kind, severity Severity, j *journal.Job) Finding {
	f := Finding{ID: fmt.Sprintf("%s-j%d", kind, j.ID), Kind: kind, Severity: severity, Job: j.ID, Source: j.Source, Subject: j.Summary}
	if j.Result != nil {
		f.CA, f.Serial = j.Result.CA, j.Result.Serial
	}
	return f
}

// found counts a finding, repairs it where fix is not nil, and lists it.
func (s *scan) found(f Finding, fix func() error) {
	f.Fixable = fix != nil
	if s.options.Fix && fix != nil {
		if err := fix(); err != nil {
			f.FixError = err.Error()
		} else {
			f.Fixed = true
			s.report.Fixed++
		}
		s.r.auditFix(f)
	}
	s.report.Counts[f.Kind]++
	if f.Severity != Info && !f.Fixed {
		s.report.open++
	}
	if len(s.report.Findings) < s.options.Limit {
		s.report.Findings = append(s.report.Findings, f)
	} else {
		s.report.Unlisted++
	}
}
