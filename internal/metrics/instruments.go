package metrics

import (
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Counter counts what happens. Its series begin with what happened first.
type Counter struct {
	family[prometheus.Counter]
}

// Counter adds a counter. Its name has neither prefix nor the ending _total.
func (r *Registry) Counter(name, help string, labels ...Label) *Counter {
	full, names := r.describe("counter", name+"_total", help, labels)
	vec := vector(r.shared, full, func() *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: full, Help: help}, names)
	})
	return &Counter{newFamily(labels, func(values []string) prometheus.Counter { return vec.WithLabelValues(values...) })}
}

// Inc counts one. There is a value for each label, in the order of the labels.
// It costs a look-up for each label and no memory.
func (c *Counter) Inc(values ...string) { c.handle(values).Inc() }

// Zero makes a series before anything has happened, so that a rate over it sees
// the first time.
func (c *Counter) Zero(values ...string) { c.handle(values) }

// Histogram measures durations from a millisecond to a minute.
type Histogram struct {
	family[prometheus.Observer]
}

// buckets are upper bounds in seconds. A device gives up after 20 s to 60 s.
var buckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 20, 30, 60}

// Histogram adds a histogram of durations. Its name has neither prefix nor the
// ending _duration_seconds.
func (r *Registry) Histogram(name, help string, labels ...Label) *Histogram {
	full, names := r.describe("histogram", name+"_duration_seconds", help, labels)
	vec := vector(r.shared, full, func() *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: full, Help: help, Buckets: buckets}, names)
	})
	return &Histogram{newFamily(labels, func(values []string) prometheus.Observer { return vec.WithLabelValues(values...) })}
}

// Observe notes one duration, with values as Counter.Inc has them.
func (h *Histogram) Observe(took time.Duration, values ...string) {
	h.handle(values).Observe(took.Seconds())
}

// family is one metric's series, each resolved once: a series is a place in a
// list, so that finding it again needs neither a lock nor memory.
type family[T any] struct {
	labels []closed
	series []atomic.Pointer[T]
	create func(values []string) T
}

// closed is a label's values, of which the last is Other.
type closed struct {
	values []string
	index  map[string]int
}

func newFamily[T any](labels []Label, create func([]string) T) family[T] {
	f := family[T]{create: create}
	size := 1
	for _, l := range labels {
		c := l.closed()
		f.labels = append(f.labels, c)
		size *= len(c.values)
	}
	f.series = make([]atomic.Pointer[T], size)
	return f
}

func (l Label) closed() closed {
	c := closed{index: map[string]int{}}
	for _, v := range append(slices.Clone(l.Values), Other) {
		if _, twice := c.index[v]; !twice {
			c.index[v] = len(c.values)
			c.values = append(c.values, strings.ToValidUTF8(v, "\uFFFD"))
		}
	}
	return c
}

// place is where a value stands; strange ones share the place of Other.
func (c *closed) place(value string) int {
	if i, ok := c.index[value]; ok {
		return i
	}
	return c.index[Other]
}

// handle finds the series of some values.
func (f *family[T]) handle(values []string) T {
	at := 0
	for i := range f.labels {
		value := Other
		if i < len(values) {
			value = values[i]
		}
		at = at*len(f.labels[i].values) + f.labels[i].place(value)
	}
	if t := f.series[at].Load(); t != nil {
		return *t
	}
	t := f.create(f.valuesAt(at))
	f.series[at].Store(&t)
	return t
}

// valuesAt are the values whose series stands at a place.
func (f *family[T]) valuesAt(at int) []string {
	values := make([]string, len(f.labels))
	for i := len(f.labels) - 1; i >= 0; i-- {
		n := len(f.labels[i].values)
		values[i] = f.labels[i].values[at%n]
		at /= n
	}
	return values
}
