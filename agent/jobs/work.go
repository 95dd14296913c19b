package jobs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/internal/failpoint"
)

// mostSteps bounds how often one claim may save its work and go on.
const mostSteps = 16

// work claims jobs of one kind, as many as can begin, and does them.
func (j *Jobs) work(ctx context.Context, kind journal.JobKind, w Work) {
	var running sync.WaitGroup
	defer running.Wait()
	slots := make(chan struct{}, cmp.Or(w.AtOnce, 2))
	for ctx.Err() == nil {
		free := cap(slots) - len(slots)
		var due []journal.Job
		if free > 0 {
			var err error // a claim that a stop cut off would be nobody's until its lease ends
			if due, err = j.cfg.Journal.ClaimJobs(context.WithoutCancel(ctx), kind, j.now(), lease, free); err != nil && ctx.Err() == nil {
				j.log.Error("open jobs could not be read from the journal", zap.Stringer("kind", kind), zap.Error(err))
			}
		}
		for _, job := range due {
			slots <- struct{}{}
			running.Go(func() {
				defer func() { <-slots; j.Wake() }()
				j.do(ctx, w.Handler, job)
			})
		}
		if len(due) < free || free == 0 {
			pause(ctx, lookEvery, j.wake[kind])
		}
	}
}

// do makes one attempt at a job and records how it ended.
func (j *Jobs) do(ctx context.Context, h Handler, job journal.Job) {
	store := context.WithoutCancel(ctx)
	call, cancel := j.call(j.cfg.Background(ctx))
	defer cancel()
	held, err := j.breaker.hold(store, job)
	if err != nil || held != "" {
		if held != "" {
			err = errors.New(held)
		}
		j.record(store, job, TryLater(err, time.Minute))
		return
	}
	for range mostSteps {
		end := j.attempt(call, h, job)
		if end.Save != nil {
			if err := j.cfg.Journal.SaveJob(store, job, end.Save); err != nil {
				j.notRecorded(job, err)
				return
			}
			job.Work = end.Save
		}
		if end.Save == nil || end.Result != nil || end.Later != nil {
			j.record(store, job, end)
			return
		}
	}
	j.record(store, job, TryLater(fmt.Errorf("the handler did not come to an end in %d steps", mostSteps), 0))
}

// attempt calls the handler. A panic there costs one attempt: it must not end
// the service, which would meet the job again after a restart.
func (j *Jobs) attempt(ctx context.Context, h Handler, job journal.Job) (end Ending) {
	defer func() {
		if v := recover(); v != nil {
			j.log.Error("a job panicked", zap.Int64("job", job.ID), zap.String("source", job.Source), zap.Any("panic", v), zap.Stack("stack"))
			end = Ending{Later: fmt.Errorf("panic: %v", v)}
		}
	}()
	end = h.Do(ctx, job)
	if end.Result == nil && end.Later == nil && end.Save == nil {
		end.Later = errors.New("the handler came to no result")
	}
	return end
}

// record writes down how an attempt ended. A result that cannot be recorded is
// come to once more, when the claim has ended.
func (j *Jobs) record(ctx context.Context, job journal.Job, end Ending) {
	now := j.now()
	if end.Result != nil {
		if err := j.cfg.Journal.FinishJob(ctx, job, *end.Result, now); err != nil {
			j.notRecorded(job, err)
			return
		}
		failpoint.Hit("jobs.finished")
		j.log.Info("job done", zap.Int64("job", job.ID), zap.Stringer("kind", job.Kind), zap.String("source", job.Source), zap.Bool("succeeded", end.Result.Succeeded),
			zap.Int("code", end.Result.Code), zap.Bool("unanswered", end.Result.Unanswered), zap.Duration("elapsed", now.Sub(job.AcceptedAt)))
		return
	}
	delay := max(j.cfg.Retries.Delay(job.Attempts+1), end.NotBefore)
	j.log.Warn("a job is tried again", zap.Int64("job", job.ID), zap.Stringer("kind", job.Kind), zap.String("source", job.Source), zap.Int("attempt", job.Attempts+1),
		zap.Duration("elapsed", now.Sub(job.AcceptedAt)), zap.Duration("next_in", delay), zap.Error(end.Later))
	if err := j.cfg.Journal.PostponeJob(ctx, job, now.Add(delay), end.Later.Error()); err != nil {
		j.notRecorded(job, err)
	}
}

func (j *Jobs) notRecorded(job journal.Job, err error) {
	if errors.Is(err, journal.ErrLost) {
		j.log.Info("a job went on elsewhere", zap.Int64("job", job.ID))
		return
	}
	j.log.Error("what became of a job could not be recorded; it is taken up again when its claim ends",
		zap.Int64("job", job.ID), zap.String("source", job.Source), zap.Error(err))
}
