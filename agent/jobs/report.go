package jobs

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/internal/eventid"
	"github.com/certconnector/certconnector/internal/failpoint"
)

// report hands over what is owed and due, a batch at a time, until one is not
// taken.
func (p *poller) report(ctx context.Context) {
	for ctx.Err() == nil && p.keepLead(ctx, p.jobs.now()) { // many batches take long
		owed, err := p.jobs.cfg.Journal.ClaimReports(context.WithoutCancel(ctx), p.name, p.jobs.now(), lease, p.Batch)
		if err != nil {
			if ctx.Err() == nil {
				p.log.Error("owed reports could not be read from the journal", zap.Error(err))
			}
			return
		}
		if len(owed) == 0 || !p.upload(ctx, owed) {
			return
		}
	}
}

// upload hands over claimed reports. It returns false when the source is
// better left alone for now.
func (p *poller) upload(ctx context.Context, owed []journal.Job) bool {
	err := p.send(ctx, owed)
	switch {
	case err == nil:
		return p.settle(ctx, owed, journal.Taken)
	case errors.Is(err, ErrRefused) && len(owed) > 1:
		p.log.Warn("a source refused a batch of reports; they are tried one by one", zap.Int("reports", len(owed)), zap.Error(err), event(p.Kind, eventid.RevokeUploadFailure))
		return p.uploadSingly(ctx, owed)
	case errors.Is(err, ErrRefused):
		p.refused(owed[0], err)
		return p.settle(ctx, owed, journal.RefusedForGood)
	case indigestible(owed, err): // and the oldest comes first each time
		p.log.Warn("a source keeps failing at a batch of reports; they are tried one by one", zap.Int("reports", len(owed)), zap.Error(err), event(p.Kind, eventid.RevokeUploadFailure))
		return p.uploadSingly(ctx, owed)
	}
	p.postpone(ctx, owed, err)
	return false
}

// batchAttempts is how often a batch is tried as a whole.
const batchAttempts = 6

// indigestible tells whether it may be one report that a source cannot take:
// it answers, asks for no rest, and has failed at this batch again and again.
func indigestible(owed []journal.Job, err error) bool {
	return len(owed) > 1 && owed[0].Attempts >= batchAttempts && !errors.Is(err, ErrNotReached) && retryAfter(err) == 0
}

// uploadSingly finds the reports that the source does not want, or cannot take.
// Two that fail in a row are the source's trouble, not theirs. It ends well
// before the claim does. What is left comes together, later.
func (p *poller) uploadSingly(ctx context.Context, owed []journal.Job) bool {
	var left []journal.Job
	var why error
	began, failed := p.jobs.now(), 0
	for i := range owed {
		if spent := p.jobs.now().Sub(began); ctx.Err() != nil || spent < 0 || spent > lease/3 {
			left, why = append(left, owed[i:]...), errors.New("there was no time to try all reports of a batch one by one")
			break
		}
		one := owed[i : i+1]
		err := p.send(ctx, one)
		if err == nil || errors.Is(err, ErrRefused) {
			failed = 0
			how := journal.Taken
			if err != nil {
				p.refused(one[0], err)
				how = journal.RefusedForGood
			}
			if !p.settle(ctx, one, how) {
				return false // the journal has trouble: all come again when their claim ends
			}
			continue
		}
		left, why = append(left, one[0]), err
		if failed++; failed == 2 {
			left = append(left, owed[i+1:]...)
			break
		}
	}
	if len(left) > 0 {
		p.postpone(ctx, left, why)
	}
	return len(left) == 0
}

func (p *poller) send(ctx context.Context, owed []journal.Job) error {
	call, cancel := p.jobs.call(ctx)
	defer cancel()
	return p.Source.Report(call, owed)
}

// settle records how reports ended. When that fails they are sent again when
// the claim ends: the source sees them twice, with one content.
func (p *poller) settle(ctx context.Context, jobs []journal.Job, how journal.DebtOutcome) bool {
	if how == journal.Taken {
		failpoint.Hit("jobs.uploaded")
	}
	if err := p.jobs.cfg.Journal.SettleReports(context.WithoutCancel(ctx), jobs, how, p.jobs.now()); err != nil {
		p.log.Error("reports were handed over, but that could not be recorded; they are handed over again", zap.Int("reports", len(jobs)), zap.Error(err))
		return false
	}
	if how == journal.Taken {
		p.log.Info("reports taken", zap.Int("reports", len(jobs)), event(p.Kind, eventid.RevokeUploadSuccess))
	}
	return true
}

func (p *poller) refused(job journal.Job, err error) {
	fields := []zap.Field{zap.Int64("job", job.ID), digest(job), zap.Error(err), event(p.Kind, eventid.RevokeUploadFailure)}
	if r := job.Result; r != nil {
		fields = append(fields, zap.Bool("succeeded", r.Succeeded), zap.Int("code", r.Code), zap.String("serial", r.Serial))
	}
	p.log.Error("a source refused a report for good; it will not hear how this job ended", fields...)
	p.jobs.cfg.Audit.Error("report refused for good", append(fields, zap.String("source", p.name))...)
}

// postpone puts reports off: by a growing delay, or as the source asks, but
// not beyond the next question.
func (p *poller) postpone(ctx context.Context, owed []journal.Job, why error) {
	now := p.jobs.now()
	attempt := owed[0].Attempts + 1
	next := now.Add(p.jobs.cfg.ReportRetries.Delay(attempt))
	if ask := p.lead.LastPoll.Add(p.cool); ask.After(now.Add(time.Second)) && ask.Before(next) {
		next = ask
	}
	if least := now.Add(retryAfter(why)); next.Before(least) {
		next = least
	}
	p.log.Warn("reports were not taken and are tried again", zap.Int("reports", len(owed)), zap.Int("attempt", attempt),
		zap.Duration("next_in", next.Sub(now)), zap.Error(why), event(p.Kind, eventid.RevokeUploadFailure))
	if err := p.jobs.cfg.Journal.PostponeReports(context.WithoutCancel(ctx), owed, next, why.Error()); err != nil {
		p.log.Error("the failure of reports could not be recorded; they are tried again when their lease ends", zap.Error(err))
	}
}
