package admission

import (
	"cmp"
	"slices"
	"time"
)

// waiter is one who waits. Its fields belong to the gate's mutex.
type waiter struct {
	Ticket
	since    time.Duration // when it came, and once admitted, when that was
	number   uint64        // order of arrival
	decided  chan struct{} // closed when it is admitted or refused
	admitted bool
	refused  *Shed
}

// order says who goes first: answers, devices, jobs; in a class the one
// with the least time left; then who came first.
func (w *waiter) order(o *waiter) int {
	if c := cmp.Compare(w.rank(), o.rank()); c != 0 {
		return c
	}
	switch a, b := w.Deadline, o.Deadline; {
	case a.IsZero() != b.IsZero():
		if a.IsZero() {
			return 1
		}
		return -1
	case !a.Equal(b):
		return a.Compare(b)
	}
	return cmp.Compare(w.number, o.number)
}

func (w *waiter) rank() int {
	if w.Class == Answer {
		return -1
	}
	return int(w.Class)
}

// line is who waits, in order. Newcomers have the most time left and come to
// the end, so a sorted slice costs little; its index is the number of those
// ahead.
type line struct {
	waiters []*waiter
	count   [classes]int
}

func (l *line) len() int { return len(l.waiters) }

// limited is how many of those wait whose number is limited.
func (l *line) limited() int { return len(l.waiters) - l.count[Answer] }

// place is where somebody would stand.
func (l *line) place(w *waiter) int {
	at, _ := slices.BinarySearchFunc(l.waiters, w, (*waiter).order)
	return at
}

func (l *line) add(w *waiter) { l.insert(l.place(w), w) }

func (l *line) insert(at int, w *waiter) {
	l.waiters = slices.Insert(l.waiters, at, w)
	l.count[w.Class]++
}

// remove takes somebody out who is in the line.
func (l *line) remove(w *waiter) {
	at := l.place(w)
	l.waiters = slices.Delete(l.waiters, at, at+1)
	l.count[w.Class]--
}

// last is the one with the most time left.
func (l *line) last() *waiter { return l.waiters[len(l.waiters)-1] }

// first is the first one that can go, or nil.
func (l *line) first(can func(*waiter) bool) *waiter {
	for _, w := range l.waiters {
		if can(w) {
			return w
		}
	}
	return nil
}
