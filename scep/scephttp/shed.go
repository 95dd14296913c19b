package scephttp

import (
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/certconnector/certconnector/internal/admission"
	"github.com/certconnector/certconnector/internal/pace"
)

// Limits that are none of the gate's reasons, as Event.Limited and the log name
// them.
const (
	limitFailures = "failures"
	limitHeld     = "held"
	limitLarge    = "large"
)

// Queue tells how many wait for cryptography, for how long, and how many were
// sent away since the start, by reason.
func (h *Handler) Queue() admission.Stats { return h.gate.Stats() }

// room takes a place among the exchanges under way: of its source, of its
// endpoint, of all. Release is nil when there was none, and the exchange is
// answered.
func (x *exchange) room() (release func()) {
	source := pace.Source(x.source)
	// From this machine comes a proxy that nobody trusts to name devices, with
	// all who are behind it.
	perSource := x.limits.PerSource > 0 && !x.source.IsLoopback()
	perEndpoint := x.endpoint.Held > 0
	if perSource && !x.sources.Enter(source, x.limits.PerSource) {
		x.turnedAway(x.gate.Refuse(admission.SourceLimit))
		return nil
	}
	leave := func() {
		if perSource {
			x.sources.Leave(source)
		}
	}
	if perEndpoint && !x.underWay.Enter(x.endpoint.Name, x.endpoint.Held) {
		leave()
		x.turnedAway(x.gate.Refuse(admission.EndpointLimit))
		return nil
	}
	select {
	case x.held <- struct{}{}:
	default:
		leave()
		if perEndpoint {
			x.underWay.Leave(x.endpoint.Name)
		}
		x.limited(limitHeld, x.endpoint.RetryAfter+rand.N(x.endpoint.RetryAfter))
		return nil
	}
	return func() {
		<-x.held
		if perEndpoint {
			x.underWay.Leave(x.endpoint.Name)
		}
		leave()
	}
}

// slot waits for a slot for cryptography. Leave is nil when there was none, and
// the exchange is answered.
func (x *exchange) slot(class admission.Class, deadline time.Time) (leave func()) {
	leave, err := x.gate.Enter(x.r.Context(), admission.Ticket{
		Class: class, Deadline: deadline, Key: x.endpoint.Name, Most: x.endpoint.Concurrent,
	})
	if err == nil {
		return leave
	}
	if shed, ok := errors.AsType[*admission.Shed](err); ok {
		x.turnedAway(shed)
	} else {
		x.gone()
	}
	return nil
}

// turnedAway answers whom the gate did not admit.
func (x *exchange) turnedAway(shed *admission.Shed) { x.limited(string(shed.Reason), shed.After) }

// quiet lets one line a second through for each thing to say, and counts the
// others: a flood must not fill the log.
type quiet struct {
	mu    sync.Mutex
	lines map[string]*spoken // keys are the configuration's and ours, hence few
}

type spoken struct {
	at       time.Time
	unlogged int
}

// speaks tells whether a line may be written, and how many were not since the
// last one.
func (q *quiet) speaks(what string, now time.Time) (unlogged int, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.lines == nil {
		q.lines = map[string]*spoken{}
	}
	s := q.lines[what]
	if s == nil {
		q.lines[what] = &spoken{at: now}
		return 0, true
	}
	if now.Sub(s.at) < time.Second {
		s.unlogged++
		return 0, false
	}
	unlogged, s.unlogged, s.at = s.unlogged, 0, now
	return unlogged, true
}
