package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/jobs"
	"github.com/certconnector/certconnector/agent/journal"
)

var errDead = errors.New("the process is dead")

// dying is a journal of a process that dies at its n-th change: before it is
// recorded, or after it. From then on nothing is recorded any more, and the
// caller hears of nothing.
type dying struct {
	journal.Jobs
	mu    sync.Mutex
	left  int
	after bool
	dead  bool
}

func (d *dying) step(do func() error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return errDead
	}
	if d.left--; d.left > 0 {
		return do()
	}
	d.dead = true
	if d.after {
		_ = do()
	}
	return errDead
}

// gone tells whether the process has died before it could do more.
func (d *dying) gone() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dead
}

func (d *dying) Lead(ctx context.Context, source, owner string, now time.Time, term time.Duration) (l journal.Lead, err error) {
	err = d.step(func() (err error) { l, err = d.Jobs.Lead(ctx, source, owner, now, term); return err })
	return l, err
}

func (d *dying) RecordPoll(ctx context.Context, l journal.Lead, now time.Time) error {
	return d.step(func() error { return d.Jobs.RecordPoll(ctx, l, now) })
}

func (d *dying) Resign(context.Context, journal.Lead) error { return errDead } // the dead do not

func (d *dying) AcceptJobs(ctx context.Context, l journal.Lead, list []journal.NewJob, now time.Time) (b journal.Batch, err error) {
	err = d.step(func() (err error) { b, err = d.Jobs.AcceptJobs(ctx, l, list, now); return err })
	return b, err
}

func (d *dying) ClaimJobs(ctx context.Context, kind journal.JobKind, now time.Time, lease time.Duration, limit int) ([]journal.Job, error) {
	if d.gone() {
		return nil, errDead
	}
	return d.Jobs.ClaimJobs(ctx, kind, now, lease, limit)
}

func (d *dying) PostponeJob(ctx context.Context, j journal.Job, next time.Time, why string) error {
	return d.step(func() error { return d.Jobs.PostponeJob(ctx, j, next, why) })
}

func (d *dying) FinishJob(ctx context.Context, j journal.Job, r journal.JobResult, now time.Time) error {
	return d.step(func() error { return d.Jobs.FinishJob(ctx, j, r, now) })
}

func (d *dying) ClaimReports(ctx context.Context, source string, now time.Time, lease time.Duration, limit int) ([]journal.Job, error) {
	if d.gone() {
		return nil, errDead
	}
	return d.Jobs.ClaimReports(ctx, source, now, lease, limit)
}

func (d *dying) SettleReports(ctx context.Context, list []journal.Job, how journal.DebtOutcome, now time.Time) error {
	return d.step(func() error { return d.Jobs.SettleReports(ctx, list, how, now) })
}

func (d *dying) PostponeReports(ctx context.Context, list []journal.Job, next time.Time, why string) error {
	return d.step(func() error { return d.Jobs.PostponeReports(ctx, list, next, why) })
}

// TestDyingAtEachStep: wherever the process dies, every request that was
// accepted is answered, with one answer, and what should be revoked is.
func TestDyingAtEachStep(t *testing.T) {
	for _, after := range []bool{false, true} {
		for n, more := 1, true; more; n++ {
			more = false // unless it died: a test that fails before it knows is the last one
			t.Run(fmt.Sprintf("change %d, recorded %t", n, after), func(t *testing.T) {
				inWorld(t, func(t *testing.T, w *world) {
					w.polled.Interval, w.polled.Jitter = 5*time.Minute, time.Second
					w.cloud.again = true
					first, second := w.issue(w.issuing, "issuing", tenant, 0x1000), w.issue(w.branch, "branch", tenant, 0x2000)
					w.cloud.ask(request("a", first, "issuing"), request("b", second, "branch"), request("c", "99", "issuing"), request("d", "99", "Fabrikam CA"))
					d := &dying{Jobs: w.journal, left: n, after: after}
					w.change = func(c *jobs.Config) { c.Journal = d }
					w.run(time.Minute)
					accepted, err := w.journal.ListJobs(context.Background(), journal.JobQuery{})
					if err != nil {
						t.Fatal(err)
					}
					told := len(w.cloud.told)
					if len(accepted) == 0 && (told > 0 || w.issuing.asked()+w.branch.asked() > 0) {
						t.Error("something was done before the batch was recorded")
					}
					more = d.gone()
					w.close()
					w.open()
					w.change = nil
					w.run(12 * time.Minute)
					w.answers(map[string]string{"a": "None", "b": "None", "c": "CertificateNotFoundError", "d": ""})
					if !w.issuing.isRevoked(first) || !w.branch.isRevoked(second) {
						t.Error("not revoked")
					}
					after, err := w.journal.ListJobs(context.Background(), journal.JobQuery{})
					if err != nil || len(after) != 4 {
						t.Errorf("%d jobs, %v", len(after), err)
					}
					if s := w.source(); s.Open+s.Owed != 0 {
						t.Errorf("left behind: %+v", s)
					}
					if asked := w.cloud.downloads(); len(asked) > 4 {
						t.Errorf("asked %d times", len(asked))
					}
				})
			})
		}
	}
}

// TestStopInTheMiddle: a connector that is stopped while a CA works waits for
// it a while, and records what became of it.
func TestStopInTheMiddle(t *testing.T) {
	for name, hang := range map[string]time.Duration{"soon done": 8 * time.Second, "never done": time.Hour} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				serial := w.issue(w.issuing, "issuing", tenant, 0x1000)
				w.cloud.ask(request("r", serial, "issuing"))
				w.issuing.hang = hang
				stop := w.start()
				time.Sleep(5 * time.Second)
				began := time.Now()
				stop()
				if d := time.Since(began); d > 11*time.Second {
					t.Errorf("stopped after %v", d)
				}
				if s := w.source(); name == "soon done" && s.Open != 0 {
					t.Error("what the CA did meanwhile was not recorded")
				}
				w.issuing.set(func() { w.issuing.hang = 0 })
				w.run(time.Minute)
				w.answers(map[string]string{"r": "None"})
				if n := w.issuing.revoked[serial]; n != 1 {
					t.Errorf("revoked %d times", n)
				}
			})
		})
	}
}
