package negotiate

import (
	"sync"
	"testing"
	"time"
)

// Requests that are made at the same time are not taken for replays of each
// other.
func TestNoTwoAuthenticatorsAtOneTime(t *testing.T) {
	var s ticket
	var mu sync.Mutex
	seen := map[time.Time]bool{}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 1000 {
				at := s.moment()
				mu.Lock()
				seen[at] = true
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if len(seen) != 4000 {
		t.Errorf("4000 authenticators have %d times", len(seen))
	}
	if off := time.Until(s.moment()); off > time.Minute {
		t.Errorf("the times run ahead by %v", off)
	}
}
