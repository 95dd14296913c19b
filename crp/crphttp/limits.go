package crphttp

import (
	"sync"
	"time"

	"github.com/certconnector/certconnector/internal/pace"
)

// Limits keep a front end that went wrong from using up the machine or the
// cloud's patience. A zero field takes its default.
type Limits struct {
	MaxBody     int64         // longest body in octets, else 413; default 256 KiB
	Concurrency int           // exchanges under way, others get 503; default 256
	AskTime     time.Duration // for the cloud to answer, else 503; default 35 s
	RetryAfter  time.Duration // said with 503 where the cloud said nothing; default 30 s

	// FailuresPerMinute is how many requests of one front end may be refused a
	// minute for what the front end itself did wrong (a malformed body, no
	// proof of the key, an outcome without a verdict) before it is answered
	// with 503; default 60, and as many at once. Negative: no limit. What a
	// device did wrong is not counted.
	FailuresPerMinute int

	// GrantLife is how long a recorded grant without an outcome is repeated
	// without asking again; default 10 min.
	GrantLife time.Duration
}

const (
	mostRetryAfter = 10 * time.Minute
	maxDepth       = 8 // of nested values in a body
)

func (l Limits) withDefaults() Limits {
	if l.MaxBody <= 0 {
		l.MaxBody = 256 << 10
	}
	if l.Concurrency <= 0 {
		l.Concurrency = 256
	}
	if l.AskTime <= 0 {
		l.AskTime = 35 * time.Second
	}
	if l.RetryAfter <= 0 {
		l.RetryAfter = 30 * time.Second
	}
	if l.FailuresPerMinute == 0 {
		l.FailuresPerMinute = 60
	}
	if l.GrantLife <= 0 {
		l.GrantLife = 10 * time.Minute
	}
	return l
}

// failures limits what front ends do wrong. Callers without a name share one
// bucket, which limits log lines only: nobody can use up another's tokens.
type failures struct {
	clock     func() time.Time
	perMinute int                   // negative: no limit
	buckets   *pace.Buckets[string] // by front end; configured names only
}

func newFailures(perMinute int, clock func() time.Time) *failures {
	return &failures{clock: clock, perMinute: perMinute, buckets: pace.New[string](0)}
}

// allows tells whether a caller has failed less than it may.
func (f *failures) allows(name string) bool {
	return f.perMinute < 0 || f.buckets.Wait(name, f.perMinute, f.clock()) == 0
}

// count takes a token.
func (f *failures) count(name string) {
	if f.perMinute > 0 {
		f.buckets.Take(name, f.perMinute, f.clock())
	}
}

// locks are mutexes by name that exist while somebody holds or awaits one.
type locks struct {
	mu   sync.Mutex
	held map[string]*lock
}

type lock struct {
	sync.Mutex
	users int
}

func (l *locks) lock(name string) (unlock func()) {
	l.mu.Lock()
	if l.held == nil {
		l.held = map[string]*lock{}
	}
	one := l.held[name]
	if one == nil {
		one = &lock{}
		l.held[name] = one
	}
	one.users++
	l.mu.Unlock()
	one.Lock()
	return func() {
		one.Unlock()
		l.mu.Lock()
		defer l.mu.Unlock()
		if one.users--; one.users == 0 {
			delete(l.held, name)
		}
	}
}
