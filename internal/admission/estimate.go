package admission

import (
	"math/rand/v2"
	"time"
)

// Those who are sent away hear of at least soonest, and at most twice latest.
const (
	soonest = 5 * time.Second
	latest  = 2 * time.Minute
)

// estimate is how long somebody at a place in the line would wait: those ahead
// by what their like took so far. An admitted device comes back with its answer,
// which counts too. Who is first in line may always stay: that is how a gate
// learns that things have become better.
func (g *Gate) estimate(w *waiter, at int) time.Duration {
	var ahead [classes]int
	if w.Class == Job {
		ahead[Answer], ahead[Device] = g.line.count[Answer], g.line.count[Device]
		ahead[Job] = at - ahead[Answer] - ahead[Device]
	} else {
		ahead[Answer] = g.line.count[Answer]
		ahead[Device] = at - ahead[Answer]
	}
	wait := g.work(ahead) / float64(g.cfg.Slots)
	if w.Most > 0 && w.Most < g.cfg.Slots {
		var mine [classes]int
		for _, o := range g.line.waiters[:at] {
			if o.Key == w.Key {
				mine[o.Class]++
			}
		}
		wait = max(wait, g.work(mine)/float64(w.Most))
	}
	return time.Duration(wait)
}

// work is how long so many of each class would take in one slot, in ns.
func (g *Gate) work(of [classes]int) float64 {
	return float64(of[Answer])*g.mean[Answer] + float64(of[Device])*(g.mean[Device]+g.mean[Answer]) +
		float64(of[Job])*g.mean[Job]
}

// refuse counts a refusal. Coming again helps when those who wait now are gone,
// and is spread over as long again.
func (g *Gate) refuse(why Reason) *Shed {
	g.shed[why]++
	after := min(max(2*time.Duration(g.work(g.line.count)/float64(g.cfg.Slots)), soonest), latest)
	after += rand.N(after)
	return &Shed{Reason: why, After: after}
}

// Refuse counts a refusal that was decided beside the gate, such as one by
// Counts, and returns it.
func (g *Gate) Refuse(why Reason) *Shed {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.refuse(why)
}

// Stats is a gate at one moment.
type Stats struct {
	Slots int // how many can be inside
	InUse int // how many are
	Queue int // how many may wait
	// How many wait, by class.
	Answers, Devices, Jobs int

	Quiet  time.Duration     // how long no device has come
	Oldest time.Duration     // how long the one that came first has waited; 0: nobody waits
	Mean   time.Duration     // measured time that a device takes inside
	Shed   map[Reason]uint64 // refusals since the start; every reason is present
}

// Stats returns the gate's state now.
func (g *Gate) Stats() Stats {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := Stats{
		Slots: g.cfg.Slots, InUse: g.total, Queue: g.cfg.Queue,
		Answers: g.line.count[Answer], Devices: g.line.count[Device], Jobs: g.line.count[Job],
		Mean: time.Duration(g.mean[Device]), Shed: make(map[Reason]uint64, 5),
	}
	for _, why := range []Reason{QueueFull, TooSlow, DeadlinePassed, EndpointLimit, SourceLimit} {
		s.Shed[why] = g.shed[why]
	}
	now := time.Since(g.epoch)
	s.Quiet = now - g.device
	for _, w := range g.line.waiters {
		s.Oldest = max(s.Oldest, now-w.since)
	}
	return s
}
