package metrics

import (
	"maps"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// Kind is how values of a sampled metric are to be read.
type Kind int

// Where two samples have the same labels, as two strange names that both become
// Other, they are one: of counters and gauges the sum, of an Earliest the
// smaller one.
const (
	Gauge    Kind = iota // goes up and down
	Total                // a counter that is kept elsewhere; its name ends in _total
	Earliest             // a gauge of which the smallest matters, such as an expiry
)

// Emit tells one sample: its value, and a value for each label.
type Emit func(value float64, labels ...string)

// Sampled adds a metric whose values are known elsewhere and are read at each
// scrape. read must be quick, and safe for concurrent use. The name has no prefix.
func (r *Registry) Sampled(kind Kind, name, help string, labels []Label, read func(emit Emit)) {
	typ, as := "gauge", prometheus.GaugeValue
	if kind == Total {
		typ, as = "counter", prometheus.CounterValue
	}
	full, names := r.describe(typ, name, help, labels)
	from := &source{read: read}
	for _, l := range labels {
		from.labels = append(from.labels, &growing{closed: l.closed(), most: l.Most})
	}
	s := &sampled{kind: kind, as: as, desc: prometheus.NewDesc(full, help, names, nil)}
	if r.pending != nil {
		from.first = s
		r.pending[full] = from
		return
	}
	s.from.Store(from)
	r.shared.mu.Lock()
	defer r.shared.mu.Unlock()
	r.shared.sampled[full] = s
	r.shared.registry.MustRegister(s)
}

// sampled implements prometheus.Collector.
type sampled struct {
	kind Kind
	as   prometheus.ValueType
	desc *prometheus.Desc
	from atomic.Pointer[source]
}

// sample is one value of a sampled metric.
type sample struct {
	value  float64
	labels []string
}

// Describe implements prometheus.Collector.
func (s *sampled) Describe(to chan<- *prometheus.Desc) { to <- s.desc }

// Collect implements prometheus.Collector.
func (s *sampled) Collect(to chan<- prometheus.Metric) {
	for _, one := range s.samples(s.from.Load()) {
		to <- prometheus.MustNewConstMetric(s.desc, s.as, one.value, one.labels...)
	}
}

// samples reads a source.
func (s *sampled) samples(from *source) map[string]sample {
	seen := map[string]sample{}
	maps.Copy(seen, from.base)
	from.read(func(value float64, values ...string) {
		labels := make([]string, len(from.labels))
		for i, l := range from.labels {
			labels[i] = Other
			if i < len(values) {
				labels[i] = l.value(values[i])
			}
		}
		key := strings.Join(labels, "\x00")
		old, known := seen[key]
		switch {
		case !known:
			old = sample{value, labels}
		case s.kind == Earliest:
			old.value = min(old.value, value)
		default:
			old.value += value
		}
		seen[key] = old
	})
	return seen
}

// growing is a label that may take values as they come, up to a number.
type growing struct {
	mu sync.Mutex
	closed
	most int
}

func (g *growing) value(v string) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, known := g.index[v]; !known && len(g.index) <= g.most { // Other is one of them
		g.index[v] = len(g.values)
		g.values = append(g.values, strings.ToValidUTF8(v, "\uFFFD"))
	}
	return g.values[g.place(v)]
}
