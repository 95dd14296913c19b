package metrics

import (
	"strings"
	"sync"

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
	s := &sampled{kind: kind, as: as, read: read, desc: prometheus.NewDesc(full, help, names, nil)}
	for _, l := range labels {
		s.labels = append(s.labels, &growing{closed: l.closed(), most: l.Most})
	}
	r.registry.MustRegister(s)
}

// sampled implements prometheus.Collector.
type sampled struct {
	kind   Kind
	as     prometheus.ValueType
	desc   *prometheus.Desc
	read   func(Emit)
	labels []*growing
}

// Describe implements prometheus.Collector.
func (s *sampled) Describe(to chan<- *prometheus.Desc) { to <- s.desc }

// Collect implements prometheus.Collector.
func (s *sampled) Collect(to chan<- prometheus.Metric) {
	type sample struct {
		value  float64
		labels []string
	}
	seen := map[string]*sample{}
	s.read(func(value float64, values ...string) {
		labels := make([]string, len(s.labels))
		for i, l := range s.labels {
			labels[i] = Other
			if i < len(values) {
				labels[i] = l.value(values[i])
			}
		}
		key := strings.Join(labels, "\x00")
		switch old := seen[key]; {
		case old == nil:
			seen[key] = &sample{value, labels}
		case s.kind == Earliest:
			old.value = min(old.value, value)
		default:
			old.value += value
		}
	})
	for _, one := range seen {
		to <- prometheus.MustNewConstMetric(s.desc, s.as, one.value, one.labels...)
	}
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
