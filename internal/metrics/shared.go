package metrics

import (
	"maps"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// shared is what a Registry and those that follow it have in common.
type shared struct {
	registry *prometheus.Registry

	mu      sync.Mutex
	vectors map[string]prometheus.Collector // counters and histograms, by full name
	sampled map[string]*sampled
}

func newShared() *shared {
	return &shared{registry: prometheus.NewRegistry(), vectors: map[string]prometheus.Collector{}, sampled: map[string]*sampled{}}
}

// Next returns a Registry for the same service under another configuration:
// labels may have other values, and counters go on where they are. Both may be
// counted with. What Sampled adds to it is read from Commit on.
func (r *Registry) Next() *Registry {
	return &Registry{shared: r.shared, known: slices.Clone(r.built), built: r.built, pending: map[string]*source{}}
}

// Commit has what was added to a Registry of Next read from now on, instead of
// what the one before it was read from. Totals go on from where those were.
func (r *Registry) Commit() {
	r.shared.mu.Lock()
	defer r.shared.mu.Unlock()
	for name, s := range r.shared.sampled {
		if _, again := r.pending[name]; !again && !r.isBuilt(name) {
			s.follow(&source{read: func(Emit) {}})
		}
	}
	for name, next := range r.pending {
		if s := r.shared.sampled[name]; s != nil {
			s.follow(next)
			continue
		}
		s := next.first
		s.from.Store(next)
		r.shared.sampled[name] = s
		r.shared.registry.MustRegister(s)
	}
	r.pending = nil
}

// isBuilt tells the metrics that New itself makes.
func (r *Registry) isBuilt(name string) bool {
	return slices.ContainsFunc(r.built, func(d Description) bool { return d.Name == name })
}

// vector returns the vector of a name, made at the first time.
func vector[T prometheus.Collector](s *shared, name string, make func() T) T {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, ok := s.vectors[name].(T); ok {
		return known
	}
	v := make()
	s.vectors[name] = v
	s.registry.MustRegister(v)
	return v
}

// source is where a sampled metric is read under one configuration.
type source struct {
	read   func(Emit)
	labels []*growing
	base   map[string]sample // of a Total: what sources before it had counted
	first  *sampled          // the metric, where no source was before
}

// follow replaces the source of a metric.
func (s *sampled) follow(next *source) {
	if s.kind == Total {
		next.base = maps.Clone(s.samples(s.from.Load()))
	}
	s.from.Store(next)
}
