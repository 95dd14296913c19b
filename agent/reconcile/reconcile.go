// Package reconcile compares what the journal says with what the certificate
// authorities say and what the clouds have answered, and names every place
// where they differ: certificates issued and never accepted, revoked at the CA
// behind our back, owed to be revoked, unknown; devices that stopped renewing;
// work that is stuck. It changes nothing unless it is told to, and then only
// what is safe to do twice.
package reconcile

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/ca"
)

// Journal is what is read of the record. Nothing is claimed or changed.
type Journal interface {
	List(ctx context.Context, q journal.Query) ([]journal.Entry, error)
	OwedDebts(ctx context.Context, before int64, limit int) ([]journal.Debt, error)
	ListJobs(ctx context.Context, q journal.JobQuery) ([]journal.Job, error)
	Sources(ctx context.Context) ([]journal.Source, error)
}

// Config is what New needs.
type Config struct {
	Journal Journal
	CAs     map[string]ca.Authority // by the names that entries carry

	// Revoke revokes a certificate, or records that it is to be: for
	// Options.Fix. Doing it twice must be harmless; after an error the finding
	// stays, and the next run repeats it. Nil: nothing is repaired.
	Revoke func(ctx context.Context, ca string, serial *big.Int) error
	// Wake tells the outbox that something may be due, for Options.Fix.
	Wake func()
	// Background marks calls to a CA as work that never gets ahead of a
	// device's; nil: they are not marked.
	Background func(context.Context) context.Context

	Clock func() time.Time // nil: time.Now
	Log   *zap.Logger      // nil: nothing is logged
	Audit *zap.Logger      // nil: nothing is audited

	// Owed is how long a revocation or a report may be owed before it is a
	// finding; 0: 1 h.
	Owed time.Duration
	// JobOpen is how long a job may be open; 0: 24 h.
	JobOpen time.Duration
	// Polled is how long ago a source may have been asked for work; 0: 6 h.
	Polled time.Duration
	// Settling is how long an entry is left alone after it changed: work in
	// flight is no difference; 0: 10 min.
	Settling time.Duration
	// RenewalShare is the share of a certificate's life that is left when
	// platforms renew; 0: 0.2, which is the default of Intune's SCEP profiles.
	RenewalShare float64

	// Concurrency bounds questions to CAs at once; 0: 2.
	Concurrency int
	// CheckEvery is the least time between two questions; 0: 20 ms.
	CheckEvery time.Duration
	// CheckWithin bounds one question; 0: 30 s.
	CheckWithin time.Duration
}

// Options are what one run looks at.
type Options struct {
	// Since is how far back entries and jobs are looked at; 0: 400 days, longer
	// than the usual life of a certificate.
	Since time.Duration
	// Limit is the most findings that are listed (all are counted); 0: 1,000.
	Limit int
	// Checks is the most certificates that CAs are asked about, the newest
	// first; 0: 10,000, negative: none.
	Checks int
	// CheckBefore goes on with an earlier run's questions: only entries with
	// smaller IDs are asked about. See Report.NextCheck.
	CheckBefore int64
	// Fix repairs what can be repaired.
	Fix bool
}

const (
	defaultSince  = 400 * 24 * time.Hour
	defaultLimit  = 1000
	defaultChecks = 10_000
	page          = 500 // rows read at once
)

// Reconciler compares. It is safe for concurrent use; runs follow each other,
// so that CAs are not asked twice as much.
type Reconciler struct {
	Config
	one chan struct{} // held by the run that is under way
}

// New returns a Reconciler, or what is missing.
func New(cfg Config) (*Reconciler, error) {
	if cfg.Journal == nil {
		return nil, errors.New("reconcile: a journal is missing")
	}
	if cfg.RenewalShare < 0 || cfg.RenewalShare >= 1 {
		return nil, fmt.Errorf("reconcile: a renewal share of %g is no share of a life", cfg.RenewalShare)
	}
	fill := func(d *time.Duration, value time.Duration) {
		if *d <= 0 {
			*d = value
		}
	}
	fill(&cfg.Owed, time.Hour)
	fill(&cfg.JobOpen, 24*time.Hour)
	fill(&cfg.Polled, 6*time.Hour)
	fill(&cfg.Settling, 10*time.Minute)
	fill(&cfg.CheckEvery, 20*time.Millisecond)
	fill(&cfg.CheckWithin, 30*time.Second)
	if cfg.RenewalShare == 0 {
		cfg.RenewalShare = 0.2
	}
	if cfg.Concurrency <= 0 {
		cfg.Concurrency = 2
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	if cfg.Audit == nil {
		cfg.Audit = zap.NewNop()
	}
	if cfg.Background == nil {
		cfg.Background = func(ctx context.Context) context.Context { return ctx }
	}
	return &Reconciler{Config: cfg, one: make(chan struct{}, 1)}, nil
}

// Run compares once; a run that is under way is waited for. An error means that the journal could not be read to its
// end; the report says what was found until then. CAs that could not be asked
// are named in Report.Incomplete.
func (r *Reconciler) Run(ctx context.Context, o Options) (Report, error) {
	select {
	case r.one <- struct{}{}:
		defer func() { <-r.one }()
	case <-ctx.Done():
		return Report{Incomplete: []string{"another run is under way"}}, fmt.Errorf("another run is under way: %w", ctx.Err())
	}
	s := r.newScan(o)
	r.Log.Info("reconciliation begins", zap.Time("since", s.from), zap.Bool("fix", o.Fix))
	err := s.run(r.Background(ctx))
	switch {
	case err != nil && ctx.Err() != nil:
		s.incomplete("the run was cut off before its end")
	case err != nil:
		s.incomplete(fmt.Sprintf("the journal could not be read to its end: %v", err))
	}
	if !s.cut && err == nil {
		s.report.NextCheck = 0
	}
	if o.Fix && s.owed && r.Wake != nil {
		r.Wake()
	}
	s.report.FinishedAt = r.Clock().UTC()
	r.Log.Info("reconciliation ended", zap.Int("entries", s.report.Entries), zap.Int("jobs", s.report.Jobs), zap.Int("checked", s.report.Checked),
		zap.Int("findings", s.report.total()), zap.Int("fixed", s.report.Fixed), zap.Strings("incomplete", s.report.Incomplete))
	return s.report, err
}
