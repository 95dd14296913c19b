package agent

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/certconnector/certconnector/agent/control"
	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/internal/admission"
	"github.com/certconnector/certconnector/internal/metrics"
)

const (
	// countedFor is how long what the journal counted is told again: counting
	// holds up its writer.
	countedFor  = 15 * time.Second
	countWithin = 3 * time.Second
	// mostCertificates bounds the names of our own certificates as labels.
	mostCertificates = 500
)

// counted is what the journal was asked last, for everybody who asks soon after.
type counted[T any] struct {
	read func(context.Context) (T, error)

	mu    sync.Mutex
	at    time.Time // by the machine's clock
	value T
	err   error
}

func (c *counted[T]) get() (T, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at.IsZero() || time.Since(c.at) >= countedFor {
		ctx, cancel := context.WithTimeout(context.Background(), countWithin)
		defer cancel()
		c.value, c.err = c.read(ctx)
		c.at = time.Now()
	}
	return c.value, c.err
}

// sampleState adds the metrics of parts that have a state of their own. What cannot be
// read is left out, and certconnector_able says why not.
func (a *Agent) sampleState() {
	a.sampleGates()
	a.sampleOwed()
	a.sampleSources()
	a.sampleCertificates()
	a.sampleReloads()
	a.meter.Sampled(metrics.Gauge, "ready", "Whether /readyz answers 200.", nil, func(emit metrics.Emit) {
		emit(truth(len(a.status.Problems()) == 0))
	})
	able := metrics.Label{Name: "able", Values: []string{"validate", "issue", "notify", "inspection", "jobs", "journal", "certificates"}}
	a.meter.Sampled(metrics.Gauge, "able", "Whether the service can do a part of its work, as far as it knows: the groups of /readyz?verbose.",
		[]metrics.Label{able}, func(emit metrics.Emit) {
			for _, g := range a.status.Groups() {
				emit(truth(g.Problem == ""), g.Name)
			}
		})
}

func (a *Agent) sampleReloads() {
	a.meter.Sampled(metrics.Gauge, "config_last_reload_successful", "Whether the configuration was applied when it was read the last time; 1 from the start on.", nil,
		func(emit metrics.Emit) {
			last, _ := a.record.get()
			emit(truth(last == nil || last.Applied))
		})
	a.meter.Sampled(metrics.Gauge, "config_last_reload_success_timestamp_seconds", "When the configuration in use was read, in Unix time.", nil,
		func(emit metrics.Emit) {
			_, applied := a.record.get()
			emit(unix(applied))
		})
	a.meter.Sampled(metrics.Gauge, "config_restart_settings", "How many settings of the file apply after a restart only.", nil,
		func(emit metrics.Emit) {
			last, _ := a.record.get()
			if last == nil || !last.Applied {
				last = &control.Reload{}
			}
			emit(float64(len(last.Restart)))
		})
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// gate is a bounded resource, by the name that status shows.
type gate struct {
	name  string
	stats func() admission.Stats
}

// gates are the RA's keys and the CAs that bound their calls.
func (a *Agent) gates() []gate {
	all := []gate{{"RA keys", a.handler.Queue}}
	for _, c := range a.cfg.CAs {
		if g, ok := a.cas[c.Name].Authority.(interface{ Queue() admission.Stats }); ok {
			all = append(all, gate{"CA " + c.Name, g.Queue})
		}
	}
	return all
}

func (a *Agent) sampleGates() {
	gates := a.gates()
	name := metrics.Label{Name: "gate"}
	for _, g := range gates {
		name.Values = append(name.Values, g.name)
	}
	each := func(kind metrics.Kind, metric, help string, tell func(admission.Stats, metrics.Emit, string), more ...metrics.Label) {
		a.meter.Sampled(kind, metric, help, append([]metrics.Label{name}, more...), func(emit metrics.Emit) {
			for _, g := range gates {
				tell(g.stats(), emit, g.name)
			}
		})
	}
	each(metrics.Gauge, "admission_slots", "How many a gate lets in at one time.",
		func(s admission.Stats, emit metrics.Emit, gate string) { emit(float64(s.Slots), gate) })
	each(metrics.Gauge, "admission_in_use", "How many are inside a gate.",
		func(s admission.Stats, emit metrics.Emit, gate string) { emit(float64(s.InUse), gate) })
	each(metrics.Gauge, "admission_queue_limit", "How many may wait at a gate.",
		func(s admission.Stats, emit metrics.Emit, gate string) { emit(float64(s.Queue), gate) })
	each(metrics.Gauge, "admission_oldest_wait_seconds", "How long the first in line at a gate has waited.",
		func(s admission.Stats, emit metrics.Emit, gate string) { emit(s.Oldest.Seconds(), gate) })
	each(metrics.Gauge, "admission_waiting", "How many wait at a gate.",
		func(s admission.Stats, emit metrics.Emit, gate string) {
			emit(float64(s.Devices), gate, "device")
			emit(float64(s.Jobs), gate, "job")
			emit(float64(s.Answers), gate, "answer")
		}, metrics.Label{Name: "class", Values: []string{"device", "job", "answer"}})
	each(metrics.Total, "admission_shed_total", "How many a gate sent away, by reason.",
		func(s admission.Stats, emit metrics.Emit, gate string) {
			for why, n := range s.Shed {
				emit(float64(n), gate, string(why))
			}
		}, metrics.Label{Name: "reason", Values: reasons()})
}

func (a *Agent) sampleOwed() {
	kinds := []metrics.Label{{Name: "owed", Values: owedKinds()}}
	stats := func(tell func(map[journal.DebtKind]journal.DebtStat)) {
		list, err := a.owed.get()
		if err != nil {
			return
		}
		all := map[journal.DebtKind]journal.DebtStat{}
		for _, d := range list {
			all[d.Kind] = d
		}
		tell(all)
	}
	a.meter.Sampled(metrics.Gauge, "outbox_owed", "How much is owed, by kind.", kinds, func(emit metrics.Emit) {
		stats(func(all map[journal.DebtKind]journal.DebtStat) {
			for k := journal.OweSuccess; k <= journal.OweRevocation; k++ {
				emit(float64(all[k].N), owed(k))
			}
		})
	})
	a.meter.Sampled(metrics.Gauge, "outbox_oldest_seconds", "How long the oldest debt of a kind has been owed; 0: none is.", kinds, func(emit metrics.Emit) {
		stats(func(all map[journal.DebtKind]journal.DebtStat) {
			for k := journal.OweSuccess; k <= journal.OweRevocation; k++ {
				emit(a.age(all[k].Oldest), owed(k))
			}
		})
	})
}

// age is how long ago something was, in seconds; 0 of what never was.
func (a *Agent) age(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return max(0, a.options.Clock().Sub(t).Seconds())
}

func (a *Agent) sampleSources() {
	names := namesOf(a.cfg)
	labels, polled := []metrics.Label{{Name: "source", Values: names.sources}}, names.polled
	each := func(kind metrics.Kind, name, help string, tell func(journal.Source, metrics.Emit)) {
		a.meter.Sampled(kind, name, help, labels, func(emit metrics.Emit) {
			list, err := a.sources.get()
			if err != nil {
				return
			}
			for _, s := range list {
				tell(s, emit)
			}
		})
	}
	each(metrics.Gauge, "jobs_open", "Jobs of a source that are accepted and not done.",
		func(s journal.Source, emit metrics.Emit) { emit(float64(s.Open), s.Name) })
	each(metrics.Gauge, "jobs_owed", "Jobs of a source whose result is not reported yet.",
		func(s journal.Source, emit metrics.Emit) { emit(float64(s.Owed), s.Name) })
	each(metrics.Gauge, "jobs_open_oldest_seconds", "How long the oldest open job of a source has been open; 0: none is.",
		func(s journal.Source, emit metrics.Emit) { emit(a.age(s.OldestOpen), s.Name) })
	each(metrics.Gauge, "jobs_owed_oldest_seconds", "How long the oldest report of a source has been owed; 0: none is.",
		func(s journal.Source, emit metrics.Emit) { emit(a.age(s.OldestOwed), s.Name) })
	each(metrics.Gauge, "jobs_paused", "Whether a source is paused until a person resumes it.",
		func(s journal.Source, emit metrics.Emit) { emit(truth(!s.PausedAt.IsZero()), s.Name) })
	each(metrics.Earliest, "jobs_last_poll_timestamp_seconds", "When a source was last asked, by whichever instance leads it, in Unix time.",
		func(s journal.Source, emit metrics.Emit) {
			// One that is not configured any more would seem silent for ever.
			if slices.Contains(polled, s.Name) && !s.LastPoll.IsZero() {
				emit(unix(s.LastPoll), s.Name)
			}
		})
}

func (a *Agent) sampleCertificates() {
	labels := []metrics.Label{{Name: "name", Most: mostCertificates}, {Name: "kind", Most: 32}}
	a.meter.Sampled(metrics.Earliest, "certificate_not_after_timestamp_seconds", "When a certificate of our own ends, in Unix time.", labels, func(emit metrics.Emit) {
		latest := map[[2]string]time.Time{}
		for _, i := range a.keeper.Inventory() { // of two that serve side by side the later one counts
			if key := [2]string{i.Name, string(i.Kind)}; i.NotAfter.After(latest[key]) {
				latest[key] = i.NotAfter
			}
		}
		for key, at := range latest {
			emit(unix(at), key[0], key[1])
		}
	})
	a.meter.Sampled(metrics.Gauge, "certificate_problem", "How many certificates of our own are not renewed as they should be.", labels, func(emit metrics.Emit) {
		for _, i := range a.keeper.Inventory() {
			emit(truth(i.Problem != ""), i.Name, string(i.Kind))
		}
	})
}
