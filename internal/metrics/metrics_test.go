package metrics_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/certconnector/certconnector/internal/metrics"
)

func scrape(t *testing.T, r *metrics.Registry) string {
	t.Helper()
	w := httptest.NewRecorder()
	r.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	b, err := io.ReadAll(w.Body)
	if err != nil || w.Code != http.StatusOK {
		t.Fatalf("HTTP %d, %v: %s", w.Code, err, b)
	}
	return string(b)
}

// series are the lines of a metric.
func series(text, name string) (lines []string) {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, name+"{") || strings.HasPrefix(line, name+" ") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

func want(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("no line %s", line)
		}
	}
}

var (
	endpoints = metrics.Label{Name: "endpoint", Values: []string{"corp", "lab"}}
	operation = metrics.Label{Name: "operation", Values: []string{"GetCACaps", "PKIOperation"}}
)

func TestInstrumentsCount(t *testing.T) {
	r := metrics.New(metrics.Build{Version: "1.2.3"})
	asked := r.Counter("asked", "How often.", endpoints, operation)
	took := r.Histogram("answer", "How long.", endpoints)
	asked.Inc("corp", "GetCACaps")
	asked.Inc("corp", "GetCACaps")
	asked.Inc("lab", "PKIOperation")
	asked.Zero("lab", "GetCACaps")
	took.Observe(20*time.Millisecond, "lab")
	text := scrape(t, r)
	want(t, text,
		`certconnector_asked_total{endpoint="corp",operation="GetCACaps"} 2`,
		`certconnector_asked_total{endpoint="lab",operation="PKIOperation"} 1`,
		`certconnector_asked_total{endpoint="lab",operation="GetCACaps"} 0`,
		`certconnector_answer_duration_seconds_bucket{endpoint="lab",le="0.01"} 0`,
		`certconnector_answer_duration_seconds_bucket{endpoint="lab",le="0.025"} 1`,
		`certconnector_answer_duration_seconds_count{endpoint="lab"} 1`)
	if !strings.Contains(text, `certconnector_build_info{`) || !strings.Contains(text, `version="1.2.3"`) {
		t.Error("the build is not told")
	}
}

// A stranger may ask for whatever he likes: it is one series.
func TestStrangeValuesAreOneSeries(t *testing.T) {
	r := metrics.New(metrics.Build{})
	asked := r.Counter("asked", "How often.", endpoints, operation)
	named := metrics.Label{Name: "name", Values: []string{"always"}, Most: 5}
	r.Sampled(metrics.Total, "sampled_total", "Kept elsewhere.", []metrics.Label{operation}, func(emit metrics.Emit) {
		for i := range 1000 {
			emit(1, fmt.Sprintf("strange %d", i))
		}
	})
	r.Sampled(metrics.Earliest, "end_timestamp_seconds", "When it ends.", []metrics.Label{named}, func(emit metrics.Emit) {
		for i := range 1000 {
			emit(float64(2000-i), fmt.Sprintf("name %d", i))
		}
	})
	for i := range 1000 {
		asked.Inc(fmt.Sprintf("endpoint %d", i), fmt.Sprintf("operation \xff%d", i))
	}
	for range 2 { // what a label has learnt stays
		text := scrape(t, r)
		want(t, text,
			`certconnector_asked_total{endpoint="other",operation="other"} 1000`,
			`certconnector_sampled_total{operation="other"} 1000`,
			`certconnector_end_timestamp_seconds{name="name 0"} 2000`,
			`certconnector_end_timestamp_seconds{name="other"} 1001`)
		for name, most := range map[string]int{"certconnector_asked_total": 1, "certconnector_sampled_total": 1, "certconnector_end_timestamp_seconds": 6} {
			if lines := series(text, name); len(lines) > most {
				t.Errorf("%s has %d series, want at most %d", name, len(lines), most)
			}
		}
	}
}

func TestScrapeIsWellFormed(t *testing.T) {
	r := metrics.New(metrics.Build{Version: "1"})
	r.Counter("asked", "How often.", endpoints).Inc("corp")
	r.Histogram("answer", "How long.", endpoints).Observe(time.Second, "corp")
	r.Sampled(metrics.Gauge, "waiting", "How many wait.", []metrics.Label{endpoints}, func(emit metrics.Emit) { emit(3, "corp") })
	found, err := promlint.New(strings.NewReader(scrape(t, r))).Lint()
	if err != nil || len(found) > 0 {
		t.Errorf("%v, %v", found, err)
	}
	described := r.Descriptions()
	if len(described) != 4 || described[0].Name != "certconnector_answer_duration_seconds" || described[1].Labels[0] != "endpoint" {
		t.Errorf("described as %+v", described)
	}
}

// The configuration changes: what was counted goes on, under old and new names.
func TestCountersGoOnUnderAnotherConfiguration(t *testing.T) {
	renamed := metrics.Label{Name: "endpoint", Values: []string{"corp", "new"}}
	first := metrics.New(metrics.Build{Version: "1"})
	asked, took := first.Counter("asked", "How often.", endpoints), first.Histogram("answer", "How long.", endpoints)
	sampleWith := func(r *metrics.Registry, label metrics.Label, n float64) {
		r.Sampled(metrics.Total, "sent_away_total", "Kept elsewhere.", []metrics.Label{label}, func(emit metrics.Emit) { emit(n, "corp") })
		r.Sampled(metrics.Gauge, "waiting", "How many wait.", []metrics.Label{label}, func(emit metrics.Emit) { emit(n, label.Values[1]) })
	}
	sampleWith(first, endpoints, 5)
	first.Sampled(metrics.Gauge, "gone", "Of the first configuration.", nil, func(emit metrics.Emit) { emit(1) })
	asked.Inc("corp")
	asked.Inc("lab")
	took.Observe(time.Second, "corp")

	second := first.Next()
	again, _ := second.Counter("asked", "How often.", renamed), second.Histogram("answer", "How long.", renamed)
	sampleWith(second, renamed, 2)
	second.Sampled(metrics.Gauge, "came", "Of the second configuration.", nil, func(emit metrics.Emit) { emit(7) })
	want(t, scrape(t, first), `certconnector_waiting{endpoint="lab"} 5`, `certconnector_gone 1`)
	second.Commit()
	again.Inc("new")
	again.Inc("corp")
	asked.Inc("lab") // what is in flight
	for range 2 {
		text := scrape(t, second)
		want(t, text,
			`certconnector_asked_total{endpoint="corp"} 2`, `certconnector_asked_total{endpoint="lab"} 2`, `certconnector_asked_total{endpoint="new"} 1`,
			`certconnector_answer_duration_seconds_count{endpoint="corp"} 1`,
			`certconnector_sent_away_total{endpoint="corp"} 7`, `certconnector_waiting{endpoint="new"} 2`, `certconnector_came 7`)
		if strings.Contains(text, "certconnector_gone 1") || strings.Contains(text, `certconnector_waiting{endpoint="lab"}`) || !strings.Contains(text, `version="1"`) {
			t.Error("gauges of the first configuration are still read, or the build is not")
		}
	}
	if n := len(second.Descriptions()); n != 6 {
		t.Errorf("%d metrics are described", n)
	}
	for range 3 { // each reload hands on what it was handed
		third := second.Next()
		sampleWith(third, renamed, 1)
		third.Commit()
		second = third
	}
	want(t, scrape(t, second), `certconnector_sent_away_total{endpoint="corp"} 10`)
}

// What a request pays for being counted.
func BenchmarkCount(b *testing.B) {
	r := metrics.New(metrics.Build{})
	asked := r.Counter("asked", "How often.", endpoints, operation)
	took := r.Histogram("answer", "How long.", endpoints, operation)
	b.ReportAllocs()
	for b.Loop() {
		asked.Inc("corp", "PKIOperation")
		took.Observe(20*time.Millisecond, "corp", "PKIOperation")
	}
}
