package scephttp

import (
	"net/http"
	"net/netip"
	"runtime"
	"time"

	"github.com/certconnector/certconnector/internal/pace"
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
	// default twice GOMAXPROCS. Others wait up to QueueTime (default 5 s), the
	// one whose challenge ends first before the others, and are then answered
	// with 503; at once where it can be told that their turn would not come.
	Concurrency int
	QueueTime   time.Duration
	// Queue is how many may wait; default three quarters of Held. When it is
	// full, the one with the most time left is sent away, be it the newcomer
	// or one that waits.
	Queue int

	// ChallengeLife is how long a challenge is good, as far as the order is
	// concerned; default 1 h. It counts from the first time that a transaction
	// was seen: a device that was sent away, or told PENDING, goes before
	// newcomers when it comes again.
	ChallengeLife time.Duration
	Transactions  int // how many of those are remembered; default 16384

	// Held is how many PKIOperations may be under way at the same time,
	// including those that an Enroller holds open; default 2000, then 503.
	Held int

	// PerSource is how many of them one source address (an IPv6 source is a
	// /64) may have; default half of Held, negative: no limit. A NAT, or a proxy
	// that nobody trusts to name devices (internal/forwarded), is one source: a
	// limit fit for single devices would lock out all behind it. Loopback
	// addresses are those of such a proxy on this machine, and have no limit.
	PerSource int

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

	// Source tells the device's address; default is the request's RemoteAddr,
	// the peer of the connection or whom a trusted proxy names.
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
	l.Held = max(l.Held, 1)
	fill(&l.Queue, max(l.Held*3/4, 1))
	fill(&l.PerSource, max(l.Held/2, 1))
	fill(&l.Transactions, 16384)
	if l.ChallengeLife <= 0 {
		l.ChallengeLife = time.Hour
	}
	fill(&l.Large, 16)
	fill(&l.FailuresPerMinute, 60)
	fill(&l.OpeningsPerMinute, 10*l.FailuresPerMinute)
	fill(&l.Sources, 16384)
	l.Concurrency, l.Transactions, l.Large = max(l.Concurrency, 1), max(l.Transactions, 1), max(l.Large, 1)
	if l.Source == nil {
		l.Source = peer
	}
	return l
}

// peer is the address of the connection's other end, or whom a trusted proxy
// speaks for.
func peer(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

// failures limits the messages of each source that could not be used. Only
// failures take tokens and only failures make an entry, so honest devices cost
// no memory.
type failures struct {
	perMinute int
	openings  int // of all sources together
	exempt    bool

	sources *pace.Buckets[netip.Prefix]
	opening *pace.Buckets[struct{}]
}

func newFailures(l Limits) *failures {
	if l.FailuresPerMinute < 0 {
		return nil
	}
	return &failures{
		perMinute: l.FailuresPerMinute, openings: max(l.OpeningsPerMinute, 1), exempt: l.ExemptLoopback,
		sources: pace.New[netip.Prefix](max(l.Sources, 1)), opening: pace.New[struct{}](0),
	}
}

// counts tells whether failures of a source are counted.
func (f *failures) counts(a netip.Addr) bool {
	return f != nil && a.IsValid() && !(f.exempt && a.IsLoopback())
}

// allows tells whether a source may try again.
func (f *failures) allows(a netip.Addr) bool {
	if !f.counts(a) {
		return true
	}
	now := time.Now()
	tokens, failed := f.sources.Left(pace.Source(a), f.perMinute, now)
	if !failed {
		return true
	}
	return tokens >= 1 && f.opening.Wait(struct{}{}, f.openings, now) == 0
}

// count takes a token from a source; opening says that the RA key was asked
// in vain.
func (f *failures) count(a netip.Addr, opening bool) {
	if !f.counts(a) {
		return
	}
	now := time.Now()
	if opening {
		f.opening.Take(struct{}{}, f.openings, now)
	}
	f.sources.Take(pace.Source(a), f.perMinute, now)
}
