package agent

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/certconnector/certconnector/agent/enroll"
	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/agent/outbox"
	"github.com/certconnector/certconnector/internal/metrics"
	"github.com/certconnector/certconnector/intune"
	"github.com/certconnector/certconnector/scep"
	"github.com/certconnector/certconnector/scep/scephttp"
)

// Observe implements scephttp.Observer.
func (m *meter) Observe(e scephttp.Event) {
	endpoint, operation := cmp.Or(e.Endpoint, none), cmp.Or(e.Operation, none)
	m.requests.Inc(endpoint, operation, statuses[e.HTTPStatus]) // "" becomes other
	m.exchanges.Observe(e.Duration, endpoint, operation)
	if e.Limited != "" {
		m.limited.Inc(endpoint, e.Limited)
	}
	if e.Replied {
		result := e.Status.String()
		if e.Status == scep.Failure {
			result = e.FailInfo.String()
		}
		m.replies.Inc(endpoint, e.MessageType.String(), result)
	}
}

// Stage implements enroll.Observer.
func (m *meter) Stage(endpoint string, s enroll.Stage, r enroll.Result, took time.Duration) {
	m.stages.Inc(endpoint, string(s), string(r))
	m.staged.Observe(took, endpoint, string(s))
}

// delivered counts an attempt of the outbox.
func (m *meter) delivered(lane journal.Lane, e outbox.Ending) {
	m.deliveries.Inc(owed(lane.Kind), lane.Neighbour, string(e))
}

// observeCloud counts the exchanges of one tenant.
func (m *meter) observeCloud(tenant string) func(call string, took time.Duration, err error) {
	return func(call string, took time.Duration, err error) {
		class := intune.Classify(err)
		m.cloudCalls.Inc(tenant, call, string(class))
		m.cloudTook.Observe(took, tenant, call)
		switch class {
		case intune.ClassOK:
			m.cloud.good(tenant, call, m.clock())
		case intune.ClassCancelled: // says nothing about the cloud
		default:
			m.cloud.bad(tenant, call, cloudTrouble(class, err), m.clock())
		}
	}
}

// contact is what is known of one call to one neighbour.
type contact struct {
	answered time.Time // the last good answer; zero: none since the start
	failed   time.Time // the last failure
	trouble  string    // of the last call; "": it went well
}

type contactKey struct{ who, call string }

// contacts remembers how calls ended. It is safe for concurrent use; the zero
// value is ready.
type contacts struct {
	mu  sync.Mutex
	all map[contactKey]contact
}

func (c *contacts) good(who, call string, now time.Time) {
	c.set(contactKey{who, call}, func(k *contact) { k.answered, k.trouble = now, "" })
}

func (c *contacts) bad(who, call, trouble string, now time.Time) {
	c.set(contactKey{who, call}, func(k *contact) { k.failed, k.trouble = now, trouble })
}

func (c *contacts) set(key contactKey, change func(*contact)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil {
		c.all = map[contactKey]contact{}
	}
	k := c.all[key]
	change(&k)
	c.all[key] = k
}

func (c *contacts) of(who, call string) contact {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.all[contactKey{who, call}]
}

// answers calls do for each call that was answered since the start.
func (c *contacts) answers(do func(who, call string, at time.Time)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, k := range c.all {
		if !k.answered.IsZero() {
			do(key.who, key.call, k.answered)
		}
	}
}

// follow takes over what is known of neighbours that are still there. The
// trouble with one that is reached in another way may be mended.
func (c *contacts) follow(from *contacts, names []string, same func(name string) bool) {
	from.mu.Lock()
	defer from.mu.Unlock()
	for key, k := range from.all {
		if slices.Contains(names, key.who) {
			if !same(key.who) {
				k = contact{answered: k.answered}
			}
			c.set(key, func(into *contact) { *into = k })
		}
	}
}

// last adds a metric of when a neighbour was last heard of.
func (m *meter) last(name, help string, of *contacts, labels ...metrics.Label) {
	m.Sampled(metrics.Earliest, name, help, labels, func(emit metrics.Emit) {
		of.answers(func(who, call string, at time.Time) { emit(unix(at), who, call) })
	})
}

// unix is a time as Prometheus has it.
func unix(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
