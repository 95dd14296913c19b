package crphttp_test

import (
	"context"
	"sync"
	"time"

	"github.com/certconnector/certconnector/policymodule"
)

const minute = time.Minute

// fakeModule grants everything, unless told otherwise, and counts.
type fakeModule struct {
	verify func(ctx context.Context) (policymodule.Decision, error) // nil: granted
	notify func(ctx context.Context) error                          // nil: taken

	mu           sync.Mutex
	asked, heard int
}

func (m *fakeModule) Verify(ctx context.Context, _ policymodule.Request) (policymodule.Decision, error) {
	m.mu.Lock()
	m.asked++
	m.mu.Unlock()
	if m.verify != nil {
		return m.verify(ctx)
	}
	return policymodule.Decision{Granted: true, Notify: true, MaxValidity: time.Hour, ChallengeMade: time.Unix(1_800_000_000, 0)}, nil
}

func (m *fakeModule) Notify(ctx context.Context, _ policymodule.Outcome) error {
	m.mu.Lock()
	m.heard++
	m.mu.Unlock()
	if m.notify != nil {
		return m.notify(ctx)
	}
	return nil
}

// fakeVerdicts is a store in memory that can fail.
type fakeVerdicts struct {
	mu       sync.Mutex
	verdicts map[policymodule.VerdictKey]policymodule.Verdict
	looked   int   // calls of FindVerdict
	err      error // of every call
	settle   error // of SettleVerdict
}

func (f *fakeVerdicts) fail(err, settle error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err, f.settle = err, settle
}

func (f *fakeVerdicts) looks() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.looked
}

func (f *fakeVerdicts) GrantVerdict(_ context.Context, v policymodule.Verdict) (policymodule.Verdict, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return v, f.err
	}
	if f.verdicts == nil {
		f.verdicts = map[policymodule.VerdictKey]policymodule.Verdict{}
	}
	if old, ok := f.verdicts[v.VerdictKey]; ok {
		return old, nil
	}
	f.verdicts[v.VerdictKey] = v
	return v, nil
}

func (f *fakeVerdicts) FindVerdict(_ context.Context, k policymodule.VerdictKey) (policymodule.Verdict, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.looked++
	v, ok := f.verdicts[k]
	switch {
	case f.err != nil:
		return v, f.err
	case !ok:
		return v, policymodule.ErrNoVerdict
	}
	return v, nil
}

func (f *fakeVerdicts) SettleVerdict(_ context.Context, k policymodule.VerdictKey, outcome string, thumbprint [32]byte, at time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil || f.settle != nil {
		return f.settle
	}
	v := f.verdicts[k]
	if v.Outcome != "" && (v.Outcome != outcome || v.Thumbprint != thumbprint) {
		return policymodule.ErrOutcomeDiffers
	}
	v.Outcome, v.Thumbprint, v.OutcomeAt = outcome, thumbprint, at
	f.verdicts[k] = v
	return nil
}
