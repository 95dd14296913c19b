package admission

import (
	"context"
	"sync"
	"time"
)

// Config is what New needs.
type Config struct {
	Slots int // how many are inside at one time; 0: 1
	// Queue is how many may wait; 0: nobody. Answers are not counted: whoever
	// admitted their first half bounds them.
	Queue int
	// Patience is how long anybody waits at most; 0: as long as its context.
	Patience time.Duration
	Clock    func() time.Time // compared with Ticket.Deadline; nil: time.Now
}

// Ticket is who wants to come in.
type Ticket struct {
	Class Class
	// Deadline is when the work is of no use any more; zero: never. Of two
	// devices the earlier one goes first, and those without one come last, in
	// the order they came.
	Deadline time.Time
	// Key names a share of the gate, such as an endpoint, and Most is how many
	// of it may be inside at one time; 0: no limit. Others pass by one who
	// waits for its share.
	Key  string
	Most int
}

// Gate lets so many in at one time. It is safe for concurrent use.
type Gate struct {
	cfg Config
	// epoch is what durations are measured from: a clock that is set changes
	// neither ages nor means.
	epoch time.Time

	mu      sync.Mutex
	inside  [classes]int
	total   int            // of inside
	shares  map[string]int // of inside, by key, only of tickets with Most
	line    line
	mean    [classes]float64 // measured time inside, in ns
	shed    map[Reason]uint64
	arrived uint64
	device  time.Duration // when the last device came, since epoch
}

// New returns a gate.
func New(cfg Config) *Gate {
	cfg.Slots, cfg.Queue = max(cfg.Slots, 1), max(cfg.Queue, 0)
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	return &Gate{cfg: cfg, epoch: time.Now(), shares: map[string]int{}, shed: map[Reason]uint64{}}
}

// Enter waits until the ticket's turn has come; leave gives the turn back and
// must be called exactly once. The error is a *Shed, or the context's when it
// ended first. Jobs leave one slot to devices, if there are two, and none comes
// in while a device waits that could.
func (g *Gate) Enter(ctx context.Context, t Ticket) (leave func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var left time.Duration // 0: any
	if !t.Deadline.IsZero() && t.Class != Answer {
		if left = t.Deadline.Sub(g.cfg.Clock()); left <= 0 {
			return nil, g.Refuse(DeadlinePassed)
		}
	}
	now := time.Since(g.epoch)
	g.mu.Lock()
	if t.Class == Device {
		g.device = now
	}
	// Who waits cannot come in now: else it would have been let in when the
	// last one left. So a ticket that can passes nobody.
	if g.fits(t.Class, t.Key, t.Most) {
		g.take(t.Class, t.Key, t.Most)
		g.mu.Unlock()
		return g.leaver(t, now), nil
	}
	w := &waiter{Ticket: t, since: now, number: g.arrived, decided: make(chan struct{})}
	g.arrived++
	wait := g.patience(ctx, t, left)
	if shed := g.join(w, wait); shed != nil {
		g.mu.Unlock()
		return nil, shed
	}
	g.mu.Unlock()
	return g.await(ctx, w, wait, left)
}

// patience is how long a ticket can wait; 0: any time.
func (g *Gate) patience(ctx context.Context, t Ticket, left time.Duration) time.Duration {
	if t.Class == Answer {
		return 0
	}
	wait := left
	shorten := func(d time.Duration) {
		if wait == 0 || d < wait {
			wait = max(d, 1)
		}
	}
	if g.cfg.Patience > 0 {
		shorten(g.cfg.Patience)
	}
	if end, ok := ctx.Deadline(); ok {
		shorten(time.Until(end))
	}
	return wait
}

// join puts a ticket into the line, and says when it cannot stay there. Where
// the line is full, the one with the most time goes: it can come again.
func (g *Gate) join(w *waiter, wait time.Duration) *Shed {
	if w.Class == Answer {
		g.line.add(w)
		return nil
	}
	at := g.line.place(w)
	if wait > 0 && g.estimate(w, at) > wait {
		return g.refuse(TooSlow)
	}
	if g.line.limited() < g.cfg.Queue {
		g.line.insert(at, w)
		return nil
	}
	if g.cfg.Queue == 0 || at == g.line.len() {
		return g.refuse(QueueFull)
	}
	last := g.line.last()
	g.line.remove(last)
	last.refused = g.refuse(QueueFull)
	close(last.decided)
	g.line.insert(at, w)
	return nil
}

// await waits for the decision.
func (g *Gate) await(ctx context.Context, w *waiter, wait, left time.Duration) (func(), error) {
	var late <-chan time.Time
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case <-w.decided:
	case <-late:
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case w.refused != nil:
		return nil, w.refused
	case w.admitted: // even if it gave up at this moment: its work will notice
		return g.leaver(w.Ticket, w.since), nil
	}
	g.line.remove(w)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case left > 0 && left <= wait:
		return nil, g.refuse(DeadlinePassed)
	case w.Most > 0 && g.shares[w.Key] >= w.Most:
		return nil, g.refuse(EndpointLimit)
	}
	return nil, g.refuse(TooSlow)
}

// fits tells whether somebody could come in now.
func (g *Gate) fits(c Class, key string, most int) bool {
	if g.total >= g.cfg.Slots || most > 0 && g.shares[key] >= most {
		return false
	}
	return c != Job || g.inside[Job] < max(g.cfg.Slots-1, 1)
}

func (g *Gate) take(c Class, key string, most int) {
	g.total++
	g.inside[c]++
	if most > 0 {
		g.shares[key]++
	}
}

// leaver returns the function that gives a turn back.
func (g *Gate) leaver(t Ticket, since time.Duration) func() {
	class, key, limited := t.Class, t.Key, t.Most > 0
	return func() { g.leave(class, key, limited, since) }
}

// weight is how much one more measurement changes a mean.
const weight = 1.0 / 16

func (g *Gate) leave(c Class, key string, limited bool, since time.Duration) {
	took := float64(time.Since(g.epoch) - since)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.total--
	g.inside[c]--
	if limited {
		if g.shares[key]--; g.shares[key] == 0 {
			delete(g.shares, key)
		}
	}
	if g.mean[c] == 0 {
		g.mean[c] = took
	} else {
		g.mean[c] += (took - g.mean[c]) * weight
	}
	g.advance()
}

// advance lets in whoever can come in, in order.
func (g *Gate) advance() {
	for g.total < g.cfg.Slots {
		w := g.line.first(func(w *waiter) bool { return g.fits(w.Class, w.Key, w.Most) })
		if w == nil {
			return
		}
		g.line.remove(w)
		g.take(w.Class, w.Key, w.Most)
		w.admitted, w.since = true, time.Since(g.epoch)
		close(w.decided)
	}
}
