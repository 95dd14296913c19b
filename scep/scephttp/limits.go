package scephttp

import (
	"net/http"
	"net/netip"
	"runtime"
	"sync"
	"time"
)

// Limits keep strangers from using up the machine and the RA key. A zero
// field takes its default.
type Limits struct {
	MaxURL  int   // longest request target in octets, else 414; default and least 65534
	MaxBody int64 // longest body of a POST in octets, else 413; default 2 MiB

	// BodyTime is how long a message and its answer may take on the wire,
	// each; default 30 s. Server timeouts do not apply while an exchange is
	// held open.
	BodyTime time.Duration

	// Concurrency is how many requests may do cryptography at the same time;
	// default twice GOMAXPROCS. Others wait up to QueueTime (default 5 s) and
	// are then answered with 503.
	Concurrency int
	QueueTime   time.Duration

	// Held is how many PKIOperations may be under way at the same time,
	// including those that an Enroller holds open; default 2000, then 503.
	Held int

	// Large is how many of them may have a body of more than 64 KiB; default
	// 16, then 503. No device sends such a body.
	Large int

	// FailuresPerMinute is how many refused messages one source address (an
	// IPv6 source is a /64) may send a minute before it is answered with 503;
	// default 60, and as many at once. Negative: no limit.
	FailuresPerMinute int

	// OpeningsPerMinute is how many messages in a minute may fail to open at
	// all sources of the handler together; default ten times
	// FailuresPerMinute. Beyond, sources that failed lately are answered with
	// 503: it slows down a search for the RA key's plain texts that comes from
	// many addresses and leaves honest devices alone.
	OpeningsPerMinute int

	Sources        int  // how many failing sources are remembered; default 16384
	ExemptLoopback bool // count no failures of 127.0.0.0/8 and ::1

	// Source tells the device's address, for a proxy in front; default is the
	// peer of the connection.
	Source func(*http.Request) netip.Addr
}

const largeBody = 64 << 10

func (l Limits) withDefaults() Limits {
	fill := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	l.MaxURL = max(l.MaxURL, 65534)
	if l.MaxBody <= 0 {
		l.MaxBody = 2 << 20
	}
	if l.BodyTime <= 0 {
		l.BodyTime = 30 * time.Second
	}
	if l.QueueTime <= 0 {
		l.QueueTime = 5 * time.Second
	}
	fill(&l.Concurrency, 2*runtime.GOMAXPROCS(0))
	fill(&l.Held, 2000)
	fill(&l.Large, 16)
	fill(&l.FailuresPerMinute, 60)
	fill(&l.OpeningsPerMinute, 10*l.FailuresPerMinute)
	fill(&l.Sources, 16384)
	l.Concurrency, l.Held, l.Large = max(l.Concurrency, 1), max(l.Held, 1), max(l.Large, 1)
	if l.Source == nil {
		l.Source = peer
	}
	return l
}

// peer is the address of the connection's other end.
func peer(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

// failures is a token bucket for each source that failed lately. Only
// failures take tokens and only failures make an entry, so honest devices
// cost no memory.
type failures struct {
	perSecond float64
	burst     float64
	sources   int
	exempt    bool

	mu      sync.Mutex
	buckets map[netip.Prefix]bucket
	opening bucket // of all sources
	total   float64
}

type bucket struct {
	tokens float64
	at     time.Time
}

func newFailures(l Limits) *failures {
	if l.FailuresPerMinute < 0 {
		return nil
	}
	burst := float64(l.FailuresPerMinute)
	total := float64(max(l.OpeningsPerMinute, 1))
	return &failures{
		perSecond: burst / 60, burst: burst, sources: max(l.Sources, 1), exempt: l.ExemptLoopback,
		buckets: map[netip.Prefix]bucket{}, opening: bucket{tokens: total, at: time.Now()}, total: total,
	}
}

// key is what counts as one source: a host has a whole /64 to itself.
func (f *failures) key(a netip.Addr) (netip.Prefix, bool) {
	if f == nil || f.exempt && a.IsLoopback() {
		return netip.Prefix{}, false
	}
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	return p, err == nil
}

// refill returns the bucket as it is now.
func (b bucket) refill(now time.Time, perSecond, burst float64) bucket {
	return bucket{tokens: min(burst, b.tokens+perSecond*now.Sub(b.at).Seconds()), at: now}
}

// allows tells whether a source may try again.
func (f *failures) allows(a netip.Addr) bool {
	key, counted := f.key(a)
	if !counted {
		return true
	}
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	b, failed := f.buckets[key]
	if !failed {
		return true
	}
	if b = b.refill(now, f.perSecond, f.burst); b.tokens >= f.burst {
		delete(f.buckets, key)
		return true
	}
	if f.opening.refill(now, f.total/60, f.total).tokens < 1 {
		return false
	}
	return b.tokens >= 1
}

// count takes a token from a source; opening says that the RA key was asked
// in vain.
func (f *failures) count(a netip.Addr, opening bool) {
	key, counted := f.key(a)
	if !counted {
		return
	}
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	if opening {
		o := f.opening.refill(now, f.total/60, f.total)
		o.tokens = max(0, o.tokens-1)
		f.opening = o
	}
	b, known := f.buckets[key]
	if !known {
		f.makeRoom(now)
		b = bucket{tokens: f.burst, at: now}
	}
	b = b.refill(now, f.perSecond, f.burst)
	b.tokens = max(0, b.tokens-1)
	f.buckets[key] = b
}

// makeRoom keeps the table bounded: of a few entries, picked as map iteration
// pleases, the recovered ones go, or else the one that failed least.
func (f *failures) makeRoom(now time.Time) {
	if len(f.buckets) < f.sources {
		return
	}
	var best netip.Prefix
	most, looked := -1.0, 0
	for key, b := range f.buckets {
		b = b.refill(now, f.perSecond, f.burst)
		if b.tokens >= f.burst {
			delete(f.buckets, key)
		} else if b.tokens > most {
			best, most = key, b.tokens
		}
		if looked++; looked == 32 {
			break
		}
	}
	if len(f.buckets) >= f.sources {
		delete(f.buckets, best)
	}
}
