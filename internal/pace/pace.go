// Package pace limits how often somebody may do something: a token bucket for
// each. A bucket that is full again is forgotten, so that who keeps the pace
// costs no memory.
package pace

import (
	"net/netip"
	"sync"
	"time"
)

// Buckets holds a token bucket for each key. A bucket has as many tokens as
// come in a minute, and is full at first. A clock that was set back takes nothing
// away. It is safe for concurrent use.
type Buckets[K comparable] struct {
	most int

	mu      sync.Mutex
	buckets map[K]bucket
}

type bucket struct {
	tokens, perMinute float64
	at                time.Time
}

// New returns buckets for at most so many keys that are not full; 0: any
// number, for keys that no stranger chooses.
func New[K comparable](most int) *Buckets[K] {
	return &Buckets[K]{most: most, buckets: map[K]bucket{}}
}

func (b bucket) refill(now time.Time) bucket {
	gained := max(0, now.Sub(b.at).Minutes()) * b.perMinute
	b.tokens, b.at = min(b.perMinute, b.tokens+gained), now
	return b
}

func (b bucket) full() bool { return b.tokens >= b.perMinute }

// Left returns how many tokens a key has, and whether it has used any lately.
func (s *Buckets[K]) Left(key K, perMinute int, now time.Time) (tokens float64, used bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.look(key, perMinute, now)
	return b.tokens, !b.full()
}

// Wait returns how long a key must wait for its next token; 0: it has one.
func (s *Buckets[K]) Wait(key K, perMinute int, now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.look(key, perMinute, now).wait()
}

func (b bucket) wait() time.Duration {
	if b.tokens >= 1 {
		return 0
	}
	return time.Duration((1 - b.tokens) / b.perMinute * float64(time.Minute))
}

// Take takes a token, or what is left of one.
func (s *Buckets[K]) Take(key K, perMinute int, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.look(key, perMinute, now)
	b.tokens = max(0, b.tokens-1)
	s.keep(key, b)
}

// TryTake takes a token, or returns how long to wait for one and takes none.
func (s *Buckets[K]) TryTake(key K, perMinute int, now time.Time) (wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.look(key, perMinute, now)
	if wait = b.wait(); wait == 0 {
		b.tokens--
		s.keep(key, b)
	}
	return wait
}

// look returns a bucket as it is now, and forgets one that is full again.
func (s *Buckets[K]) look(key K, perMinute int, now time.Time) bucket {
	b, known := s.buckets[key]
	if !known {
		return bucket{tokens: float64(perMinute), perMinute: float64(perMinute), at: now}
	}
	b.perMinute = float64(perMinute)
	if b = b.refill(now); b.full() {
		delete(s.buckets, key)
	}
	return b
}

func (s *Buckets[K]) keep(key K, b bucket) {
	if _, known := s.buckets[key]; !known {
		s.makeRoom(b.at)
	}
	s.buckets[key] = b
}

// makeRoom keeps the table bounded: of a few keys, picked as map iteration
// pleases, those that are full again go, or else the one with the most tokens.
func (s *Buckets[K]) makeRoom(now time.Time) {
	if s.most == 0 || len(s.buckets) < s.most {
		return
	}
	var best K
	most, looked := -1.0, 0
	for key, b := range s.buckets {
		if b = b.refill(now); b.full() {
			delete(s.buckets, key)
		} else if b.tokens > most {
			best, most = key, b.tokens
		}
		if looked++; looked == 32 {
			break
		}
	}
	if len(s.buckets) >= s.most {
		delete(s.buckets, best)
	}
}

// Source is what counts as one source of requests: a host has a whole /64 of
// IPv6 to itself. All addresses that cannot be read are one.
func Source(a netip.Addr) netip.Prefix {
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
