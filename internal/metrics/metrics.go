// Package metrics counts and measures for Prometheus. A Registry belongs to one
// service; there is no global one. Every label has few values that are known
// before: what comes from outside becomes "other", so that no stranger makes
// series.
package metrics

import (
	"net/http"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Other is the value of a label for everything that is none of its values.
const Other = "other"

// prefix is what the names of all metrics of our own begin with.
const prefix = "certconnector_"

// Label is a dimension of a metric, and the values that it may have besides
// Other.
type Label struct {
	Name   string
	Values []string
	// Most makes the label take values as they come, up to so many different
	// ones: for names that are ours but not known at the start. 0: only Values.
	// Sampled metrics alone may have it.
	Most int
}

// Registry is the metrics of one service. It is safe for concurrent use.
type Registry struct {
	shared  *shared
	known   []Description
	built   []Description      // of known: what New made
	pending map[string]*source // of a Registry of Next, until Commit
}

// Description is one metric as a page of documentation shows it.
type Description struct {
	Name   string
	Type   string // counter, gauge or histogram
	Help   string
	Labels []string
}

// Build is what certconnector_build_info tells.
type Build struct {
	Version string
}

// New returns a registry with the Go runtime, the process and the build in it.
func New(b Build) *Registry {
	r := &Registry{shared: newShared()}
	r.shared.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	labels := []Label{
		{Name: "version", Values: []string{b.Version}}, {Name: "goversion", Values: []string{runtime.Version()}},
		{Name: "goos", Values: []string{runtime.GOOS}}, {Name: "goarch", Values: []string{runtime.GOARCH}},
	}
	r.Sampled(Gauge, "build_info", "The running program; always 1.", labels, func(emit Emit) {
		emit(1, b.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	})
	r.built = slices.Clone(r.known)
	return r
}

// Descriptions are all metrics of our own, by name. Those of the Go runtime and
// of the process are left out.
func (r *Registry) Descriptions() []Description {
	all := slices.Clone(r.known)
	slices.SortFunc(all, func(a, b Description) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// scrapeWithin bounds one answer of Handler; atOnce how many are made at one time.
const (
	scrapeWithin = 10 * time.Second
	atOnce       = 3
)

// Handler answers a scrape, in the text form or what else the scraper asks for.
func (r *Registry) Handler() http.Handler {
	return promhttp.HandlerFor(r.shared.registry, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: atOnce, Timeout: scrapeWithin,
	})
}

// describe notes a metric, and returns its full name and the names of its labels.
func (r *Registry) describe(kind, name, help string, labels []Label) (string, []string) {
	d := Description{Name: prefix + name, Type: kind, Help: help}
	for _, l := range labels {
		d.Labels = append(d.Labels, l.Name)
	}
	r.known = append(r.known, d)
	return d.Name, d.Labels
}
