// Package status answers an operator's questions about health: /livez, /readyz
// and /metrics. It looks at the parts and decides nothing.
package status

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
)

// Check says why a part cannot do its work; nil means it can.
type Check struct {
	Name  string
	Check func() error
}

// Last is when something last went well; zero: not since the start.
type Last struct {
	Name string
	At   time.Time
}

// Config is what New needs.
type Config struct {
	// Checks decide whether the service is ready.
	Checks []Check
	// Neighbours are what others have to do with us. They are told by
	// /readyz?verbose and decide nothing: every instance has the same neighbours,
	// and the same sources of jobs, so that taking one out would help nobody.
	Neighbours []Check
	// Notes are what else /readyz?verbose tells; nothing hangs on them.
	Notes []Check
	// Last is what /readyz?verbose ends with; nil: nothing.
	Last func() []Last
	// Metrics serves /metrics; nil: there are none.
	Metrics http.Handler
}

// Status is what the parts say of themselves.
type Status struct {
	Config
	started atomic.Bool
}

// New returns a Status that is not ready until Started is called.
func New(cfg Config) *Status { return &Status{Config: cfg} }

// Started says that every listener is open.
func (s *Status) Started() { s.started.Store(true) }

const starting = "the service is starting"

// Problems names what keeps the service from being ready; empty means nothing.
func (s *Status) Problems() []string {
	var all []string
	if !s.started.Load() {
		all = append(all, starting)
	}
	return append(all, failing(s.Checks)...)
}

// Warnings names what is in the way of neighbours and of jobs.
func (s *Status) Warnings() []string { return failing(s.Neighbours) }

func failing(checks []Check) []string {
	var all []string
	for _, c := range checks {
		if err := c.Check(); err != nil {
			all = append(all, c.Name+": "+err.Error())
		}
	}
	return all
}

// Group is one part of the work and what is in its way; Problem is empty when
// nothing is.
type Group struct {
	Name    string
	Problem string
}

// Groups are the neighbours, then the checks.
func (s *Status) Groups() []Group {
	return append(groups(s.Neighbours), groups(s.Checks)...)
}

func groups(checks []Check) []Group {
	var all []Group
	for _, c := range checks {
		g := Group{Name: c.Name}
		if err := c.Check(); err != nil {
			g.Problem = oneLine(err.Error())
		}
		all = append(all, g)
	}
	return all
}

// Handler serves /livez (the process runs), /readyz (it can do its work; with
// ?verbose what it can do and when that last went well) and /metrics.
func (s *Status) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, []string{"ok"}) })
	mux.HandleFunc("GET /readyz", s.ready)
	if s.Metrics != nil {
		mux.Handle("GET /metrics", s.Metrics)
	}
	return mux
}

func (s *Status) ready(w http.ResponseWriter, r *http.Request) {
	code, lines := http.StatusOK, []string{"ok"}
	if problems := s.Problems(); len(problems) > 0 {
		code, lines = http.StatusServiceUnavailable, problems
	}
	if r.URL.Query().Has("verbose") {
		lines = s.verbose(code == http.StatusOK)
	}
	answer(w, code, lines)
}

// verbose is one line a fact: a name that does not change, a colon, "ok" or the
// reason.
func (s *Status) verbose(ready bool) []string {
	first := "ready: no"
	switch {
	case !s.started.Load():
		first += ", " + starting
	case ready:
		first = "ready: ok"
	}
	lines := []string{first}
	for _, g := range append(s.Groups(), groups(s.Notes)...) {
		if g.Problem == "" {
			g.Problem = "ok"
		}
		lines = append(lines, g.Name+": "+g.Problem)
	}
	if s.Last == nil {
		return lines
	}
	for _, l := range s.Last() {
		at := "not since the start"
		if !l.At.IsZero() {
			at = l.At.UTC().Format(time.RFC3339)
		}
		lines = append(lines, oneLine("last "+l.Name)+": "+at)
	}
	return lines
}

// longest is how much of a text is shown, in octets.
const longest = 1000

// oneLine makes a text fit for a line of a page: problems that were joined are
// parted by semicolons, and what could play with a terminal is gone.
func oneLine(text string) string {
	text = strings.ToValidUTF8(strings.ReplaceAll(strings.TrimSpace(text), "\n", "; "), "\uFFFD")
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
	if len(text) > longest {
		text = strings.ToValidUTF8(text[:longest], "") + " …"
	}
	return text
}

func answer(w http.ResponseWriter, code int, lines []string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	fmt.Fprintln(w, strings.Join(lines, "\n"))
}
