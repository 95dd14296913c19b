package journaltest

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/certconnector/certconnector/agent/journal"
)

// rivals is how many callers run at once.
const rivals = 64

func testRaces(t *testing.T, open func(*testing.T) *fixture) {
	t.Run("identical requests at once have one owner", func(t *testing.T) {
		f := open(t)
		owners, _, ids := f.race(func(int) journal.Intent { return f.intent("a") })
		if owners != 1 || len(ids) != 1 {
			t.Errorf("%d owners, %d entries; want one of each", owners, len(ids))
		}
	})
	t.Run("one challenge and different keys at once have one owner", func(t *testing.T) {
		f := open(t)
		owners, spent, _ := f.race(func(i int) journal.Intent {
			in := f.intent(fmt.Sprint("device-", i))
			in.ChallengeID = "shared"
			return in
		})
		if owners != 1 || spent != rivals-1 {
			t.Errorf("%d owners, %d refused; want 1 and %d", owners, spent, rivals-1)
		}
	})
	t.Run("one owner's steps at once are made once", func(t *testing.T) {
		f := open(t)
		_, owned := f.bring("a", journal.Submitted)
		var wg sync.WaitGroup
		results := make([]error, rivals)
		for i := range rivals {
			wg.Go(func() {
				_, results[i] = f.Journal.Advance(t.Context(), owned, journal.Step{To: journal.Issued, Now: f.clock()})
			})
		}
		wg.Wait()
		made := 0
		for _, err := range results {
			if err == nil {
				made++
			} else {
				wantError(t, "advance", err, journal.ErrLost)
			}
		}
		if made != 1 {
			t.Errorf("step was made %d times", made)
		}
	})
	t.Run("due entries go to one claimant each", func(t *testing.T) {
		f := open(t)
		for i := range rivals {
			f.begin(f.intent(fmt.Sprint("device-", i)))
		}
		f.pass(2 * lease)
		var (
			wg    sync.WaitGroup
			mu    sync.Mutex
			times = map[int64]int{}
		)
		for range rivals {
			wg.Go(func() {
				list, err := f.Journal.Claim(t.Context(), f.clock(), lease, 3)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Errorf("claim: %v", err)
				}
				for _, c := range list {
					times[c.Entry.ID]++
				}
			})
		}
		wg.Wait()
		if len(times) != rivals {
			t.Errorf("%d entries were claimed, want %d", len(times), rivals)
		}
		for id, n := range times {
			if n != 1 {
				t.Errorf("entry %d was claimed %d times", id, n)
			}
		}
	})
}

// race begins rivals requests at once.
func (f *fixture) race(in func(i int) journal.Intent) (owners, spent int, ids map[int64]bool) {
	f.t.Helper()
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		gate = make(chan struct{})
	)
	ids = map[int64]bool{}
	for i := range rivals {
		intent := in(i)
		wg.Go(func() {
			<-gate
			e, owned, err := f.Journal.Begin(f.t.Context(), intent)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				ids[e.ID] = true
				if owned != nil {
					owners++
				}
			case errors.Is(err, journal.ErrChallengeSpent):
				spent++
			default:
				f.t.Errorf("begin: %v", err)
			}
		})
	}
	close(gate)
	wg.Wait()
	return owners, spent, ids
}
