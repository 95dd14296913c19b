package webauth

import (
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// How many wrong passwords a source may send, and how many sources that did
// lately are remembered.
const (
	failuresPerMinute = 10
	maxSources        = 4096
)

// failures is a token bucket for each source that failed lately. Only
// failures make an entry, so that honest callers cost no memory.
type failures struct {
	clock func() time.Time

	mu      sync.Mutex
	buckets map[netip.Prefix]bucket
}

type bucket struct {
	tokens float64
	at     time.Time
}

func newFailures(clock func() time.Time) *failures {
	return &failures{clock: clock, buckets: map[netip.Prefix]bucket{}}
}

// refill returns the bucket as it is now. A clock that was set back takes
// nothing away.
func (b bucket) refill(now time.Time) bucket {
	gained := max(0, now.Sub(b.at).Minutes()) * failuresPerMinute
	return bucket{tokens: min(failuresPerMinute, b.tokens+gained), at: now}
}

// limited tells whether a source must wait, and how long.
func (f *failures) limited(a netip.Addr) (time.Duration, bool) {
	key, now := network(a), f.clock()
	f.mu.Lock()
	defer f.mu.Unlock()
	b, failed := f.buckets[key]
	if !failed {
		return 0, false
	}
	if b = b.refill(now); b.tokens >= 1 {
		return 0, false
	}
	f.buckets[key] = b
	return time.Duration((1 - b.tokens) / failuresPerMinute * float64(time.Minute)), true
}

// count takes a token from a source.
func (f *failures) count(a netip.Addr) {
	key, now := network(a), f.clock()
	f.mu.Lock()
	defer f.mu.Unlock()
	b, known := f.buckets[key]
	if !known {
		f.makeRoom(now)
		b = bucket{tokens: failuresPerMinute, at: now}
	}
	b = b.refill(now)
	b.tokens = max(0, b.tokens-1)
	f.buckets[key] = b
}

// makeRoom keeps the table bounded: of a few entries, picked as map iteration
// pleases, the recovered ones go, or else the one that failed least.
func (f *failures) makeRoom(now time.Time) {
	if len(f.buckets) < maxSources {
		return
	}
	var best netip.Prefix
	most, looked := -1.0, 0
	for key, b := range f.buckets {
		if b = b.refill(now); b.tokens >= failuresPerMinute {
			delete(f.buckets, key)
		} else if b.tokens > most {
			best, most = key, b.tokens
		}
		if looked++; looked == 32 {
			break
		}
	}
	if len(f.buckets) >= maxSources {
		delete(f.buckets, best)
	}
}

// network is what counts as one source: a host has a whole /64 to itself. All
// addresses that cannot be read are one.
func network(a netip.Addr) netip.Prefix {
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// peer is the address of the connection's other end.
func peer(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}
