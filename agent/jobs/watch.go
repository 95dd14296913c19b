package jobs

import (
	"context"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent/journal"
)

// watch looks at all sources once a minute, for Problems.
func (j *Jobs) watch(ctx context.Context) {
	for ctx.Err() == nil {
		sources, err := j.cfg.Journal.Sources(ctx)
		if err != nil && ctx.Err() == nil {
			j.log.Error("the sources of jobs could not be read from the journal", zap.Error(err))
		}
		if err == nil {
			j.breaker.look(sources)
			for _, p := range j.pollers {
				p.judge(j.now(), sourceOf(sources, p.name))
			}
		}
		j.sweep(ctx)
		pause(ctx, watchEvery, nil)
	}
}

// sourceOf returns how a source stands; one that is not there has no jobs.
func sourceOf(list []journal.Source, name string) journal.Source {
	for _, s := range list {
		if s.Name == name {
			return s
		}
	}
	return journal.Source{Name: name}
}

// sweep forgets jobs that have been over for long, a few at a time so that
// nothing waits for it.
func (j *Jobs) sweep(ctx context.Context) {
	n, err := j.cfg.Journal.SweepJobs(ctx, j.now().Add(-keepOver), sweepBatch)
	switch {
	case err != nil && ctx.Err() == nil:
		j.log.Error("old jobs could not be swept from the journal; it is tried again", zap.Error(err))
	case n > 0:
		j.log.Debug("old jobs were swept from the journal", zap.Int("jobs", n))
	}
}
