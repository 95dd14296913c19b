package reconcile

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/certconnector/certconnector/agent/journal"
)

func (s *scan) readJobs(ctx context.Context) error {
	for before := int64(0); ; {
		jobs, err := s.r.Journal.ListJobs(ctx, journal.JobQuery{Before: before, Limit: page})
		if err != nil {
			return fmt.Errorf("reading jobs: %w", err)
		}
		for i := range jobs {
			j := &jobs[i]
			before = j.ID
			// Jobs that are not over count, however old.
			if j.State == journal.JobOver && j.UpdatedAt.Before(s.from) {
				continue
			}
			s.report.Jobs++
			s.lookJob(j)
		}
		if len(jobs) < page || !slices.ContainsFunc(jobs, func(j journal.Job) bool {
			return j.State != journal.JobOver || !j.UpdatedAt.Before(s.from)
		}) {
			return nil
		}
	}
}

// lookJob looks at one job.
func (s *scan) lookJob(j *journal.Job) {
	if r := j.Result; r != nil && j.Kind == journal.RevokeJob && r.Succeeded {
		s.revoked[digest(r.CA, strings.ToUpper(r.Serial))] = struct{}{}
	}
	switch age := s.now.Sub(j.AcceptedAt); {
	case j.State == journal.JobOpen && j.Kind == journal.RevokeJob && age >= s.r.Owed:
		f := ofJob(RevocationOwed, Error, j)
		f.Since = j.AcceptedAt
		f.Cause = fmt.Sprintf("a revocation was asked for and is not done after %d attempts%s", j.Attempts, last(j.Why))
		f.Fix = "see that the CA can be reached and that the service may revoke there; it goes on by itself"
		s.found(f, nil)
	case j.State == journal.JobOpen && age >= s.r.JobOpen:
		f := ofJob(Stuck, Warning, j)
		f.Since = j.AcceptedAt
		f.Cause = fmt.Sprintf("the job is not done after %d attempts%s", j.Attempts, last(j.Why))
		f.Fix = "see what its attempts failed of; it goes on by itself"
		s.found(f, nil)
	case j.State == journal.JobOwed && s.now.Sub(j.UpdatedAt) >= s.r.Owed:
		f := ofJob(ReportOwed, Warning, j)
		f.Since = j.UpdatedAt
		f.Cause = fmt.Sprintf("the job is done and its source has not taken the report%s", last(j.Why))
		f.Fix = "see that the source can be reached; it is reported until it is taken"
		s.found(f, nil)
	case j.State == journal.JobOver && j.Result != nil && j.Result.Refused:
		f := ofJob(ReportRefused, Warning, j)
		f.Since = j.UpdatedAt
		f.Cause = "the source refused the report for good, so it may still believe that the job is to be done" + last(j.Why)
		f.Fix = "compare the job with what the source shows, and settle it there by hand; a report that was refused is not sent again"
		s.found(f, nil)
	case j.State == journal.JobOver && j.Result != nil && j.Result.Unanswered:
		f := ofJob(JobUnanswered, Info, j)
		f.Since = j.UpdatedAt
		f.Cause = "the job is not ours to answer: " + j.Result.Text
		f.Fix = "nothing, when another connector of the tenant has that CA; otherwise configure the CA here"
		s.found(f, nil)
	}
}

func last(why string) string {
	if why == "" {
		return ""
	}
	return "; last: " + why
}
