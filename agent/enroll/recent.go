package enroll

import (
	"sync"
	"time"

	"github.com/certconnector/certconnector/scep"
)

// recentRefusals is how many refusals are remembered.
const recentRefusals = 4096

// Refusal is one refusal of which the journal knows nothing: it was made
// before anything was recorded.
type Refusal struct {
	Time          time.Time
	Endpoint      string
	TransactionID string
	Source        string // address of the device, "" when not known
	Subject       string // "" of a poll
	Rule          string
	FailInfo      scep.FailInfo
	Detail        string // for people, without secrets
}

// recent is the newest refusals, in memory only: strangers must not be able to
// fill a disk.
type recent struct {
	mu   sync.Mutex
	ring []Refusal
	next int // where the next one goes once the ring is full
}

func (r *recent) add(refusal Refusal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.ring) < recentRefusals {
		r.ring = append(r.ring, refusal)
		return
	}
	r.ring[r.next] = refusal
	r.next = (r.next + 1) % recentRefusals
}

// Recent returns refusals that are not in the journal, newest first: those of
// one transaction ID, or all for "". Older ones than the last few thousand,
// and those from before the start, are gone.
func (r *Registration) Recent(transactionID string) []Refusal {
	r.recent.mu.Lock()
	defer r.recent.mu.Unlock()
	var found []Refusal
	for i := range r.recent.ring {
		refusal := r.recent.ring[(r.recent.next+len(r.recent.ring)-1-i)%len(r.recent.ring)]
		if transactionID == "" || refusal.TransactionID == transactionID {
			found = append(found, refusal)
		}
	}
	return found
}
