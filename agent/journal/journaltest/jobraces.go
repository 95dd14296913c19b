package journaltest

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/certconnector/certconnector/agent/journal"
)

func names(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprint("job-", i)
	}
	return list
}

func testJobRaces(t *testing.T, open func(*testing.T) *fixture) {
	t.Run("a source that all want at once has one leader", func(t *testing.T) {
		f := open(t)
		var wg sync.WaitGroup
		results := make([]error, rivals)
		for i := range rivals {
			wg.Go(func() {
				_, results[i] = f.Journal.Lead(t.Context(), "contoso", fmt.Sprint("agent-", i), f.clock(), term)
			})
		}
		wg.Wait()
		led := 0
		for _, err := range results {
			if err == nil {
				led++
			} else {
				wantError(t, "lead", err, journal.ErrLed)
			}
		}
		if led != 1 {
			t.Errorf("%d lead the source", led)
		}
	})
	t.Run("one batch at once is recorded once", func(t *testing.T) {
		f := open(t)
		l := f.lead("contoso", "a")
		jobs := []journal.NewJob{newJob("one"), newJob("two"), newJob("three")}
		var wg sync.WaitGroup
		batches := make([]journal.Batch, rivals)
		for i := range rivals {
			wg.Go(func() {
				var err error
				if batches[i], err = f.Journal.AcceptJobs(t.Context(), l, jobs, f.clock()); err != nil {
					t.Errorf("accept: %v", err)
				}
			})
		}
		wg.Wait()
		var sum journal.Batch
		for _, b := range batches {
			sum.New += b.New
			sum.Known += b.Known
		}
		f.wantBatch(sum, journal.Batch{New: 3, Known: 3 * (rivals - 1)})
		if n := len(f.jobs()); n != 3 {
			t.Errorf("%d jobs are recorded", n)
		}
	})
	t.Run("no job and no report goes to two", func(t *testing.T) {
		f := open(t)
		const n = 3 * rivals
		f.accept(f.lead("contoso", "a"), names(n)...)
		done := f.workOff(t, n, func(j journal.Job) error {
			return f.Journal.FinishJob(t.Context(), j, journal.JobResult{Succeeded: true}, f.clock())
		}, func() ([]journal.Job, error) {
			return f.Journal.ClaimJobs(t.Context(), journal.RevokeJob, f.clock(), lease, 2)
		})
		if len(done) != n {
			t.Errorf("%d of %d jobs were done", len(done), n)
		}
		told := f.workOff(t, n, func(j journal.Job) error {
			return f.Journal.SettleReports(t.Context(), []journal.Job{j}, journal.Taken, f.clock())
		}, func() ([]journal.Job, error) {
			return f.Journal.ClaimReports(t.Context(), "contoso", f.clock(), lease, 2)
		})
		if len(told) != n {
			t.Errorf("%d of %d reports were taken", len(told), n)
		}
		for _, j := range f.jobs() {
			if j.State != journal.JobOver {
				t.Errorf("job %s is %v", j.Context, j.State)
			}
		}
	})
	t.Run("one claim's results at once are recorded once", func(t *testing.T) {
		f := open(t)
		f.accept(f.lead("contoso", "a"), "one")
		j := f.claimJobs(1)[0]
		var wg sync.WaitGroup
		results := make([]error, rivals)
		for i := range rivals {
			wg.Go(func() { results[i] = f.Journal.FinishJob(t.Context(), j, journal.JobResult{Code: i}, f.clock()) })
		}
		wg.Wait()
		recorded := f.wantJob("one", journal.JobOwed).Result.Code
		for i, err := range results {
			if lost := errors.Is(err, journal.ErrLost); lost == (i == recorded) {
				t.Errorf("result %d: error %v, and result %d is recorded", i, err, recorded)
			}
		}
	})
}

// workOff lets rivals claim and end work until there is none, and returns the
// IDs of what they had. It fails when two had the same.
func (f *fixture) workOff(t *testing.T, n int, end func(journal.Job) error, claim func() ([]journal.Job, error)) map[int64]bool {
	t.Helper()
	var (
		mu   sync.Mutex
		seen = map[int64]bool{}
		wg   sync.WaitGroup
	)
	for range min(rivals, n) {
		wg.Go(func() {
			for {
				list, err := claim()
				if err != nil {
					t.Errorf("claim: %v", err)
				}
				if len(list) == 0 {
					return
				}
				for _, j := range list {
					mu.Lock()
					if seen[j.ID] {
						t.Errorf("job %s was handed out twice", j.Context)
					}
					seen[j.ID] = true
					mu.Unlock()
					if err := end(j); err != nil {
						t.Errorf("job %s: %v", j.Context, err)
					}
				}
			}
		})
	}
	wg.Wait()
	return seen
}
