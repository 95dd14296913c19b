package jobs

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/internal/eventid"
)

// breaker pauses a source that wants too much: whoever holds a tenant could
// otherwise have every certificate revoked within a night. Its jobs stay
// accepted until a person has looked and resumes.
type breaker struct {
	jobs *Jobs
	most map[string]int // by source; 0: no bound

	mu     sync.Mutex
	paused map[string]string // why, by source
}

// hold tells why a job must not be done now; "" lets it pass. As many jobs
// more as are under way at once may pass when the bound is met.
func (b *breaker) hold(ctx context.Context, job journal.Job) (string, error) {
	most := b.most[job.Source]
	if most <= 0 {
		return "", nil
	}
	now := b.jobs.now()
	since := now.Add(-time.Hour)
	done, err := b.jobs.cfg.Journal.FinishedJobs(ctx, job.Source, job.Kind, since)
	if err != nil {
		return "", fmt.Errorf("counting jobs of the last hour: %w", err)
	}
	if done < most {
		return "", nil
	}
	// What was done before an operator resumed does not count.
	sources, err := b.jobs.cfg.Journal.Sources(ctx)
	if err != nil {
		return "", fmt.Errorf("reading the sources of jobs: %w", err)
	}
	for _, s := range sources {
		switch {
		case s.Name != job.Source:
			continue
		case !s.PausedAt.IsZero():
			return "the source is paused: " + s.PausedWhy, nil
		case s.ResumedAt.After(since):
			if done, err = b.jobs.cfg.Journal.FinishedJobs(ctx, job.Source, job.Kind, s.ResumedAt); err != nil {
				return "", fmt.Errorf("counting jobs since the source was resumed: %w", err)
			}
			if done < most {
				return "", nil
			}
		}
	}
	return b.trip(ctx, job, done, most)
}

func (b *breaker) trip(ctx context.Context, job journal.Job, done, most int) (string, error) {
	why := fmt.Sprintf("%d jobs to %s within an hour, %d are allowed (at_most_per_hour)", done, job.Kind, most)
	if err := b.jobs.cfg.Journal.PauseSource(ctx, job.Source, why, b.jobs.now()); err != nil {
		return "", fmt.Errorf("pausing the source: %w", err)
	}
	b.mu.Lock()
	b.paused[job.Source] = why
	b.mu.Unlock()
	fields := []zap.Field{zap.String("source", job.Source), zap.Stringer("kind", job.Kind), zap.Int("done", done), zap.Int("at_most_per_hour", most), event(job.Kind, eventid.RevokeRequestFailure)}
	b.jobs.log.Error("a source wants more than it may within an hour; its jobs wait until somebody has looked and resumes it", fields...)
	b.jobs.cfg.Audit.Error("source paused", fields...)
	return "the source is paused: " + why, nil
}

// look learns of pauses that another instance or an operator has made or ended.
func (b *breaker) look(sources []journal.Source) {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.paused)
	for _, s := range sources {
		if !s.PausedAt.IsZero() {
			b.paused[s.Name] = s.PausedWhy
		}
	}
}

func (b *breaker) problems() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []string
	for source, why := range b.paused {
		list = append(list, fmt.Sprintf("source %s is paused: %s", source, why))
	}
	return list
}
