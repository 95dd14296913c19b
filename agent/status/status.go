// Package status answers an operator's questions about health: /livez and
// /readyz. It looks at the parts and decides nothing.
package status

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
)

// Check says why a part cannot do its work; nil means it can.
type Check struct {
	Name  string
	Check func() error
}

// Status is what the parts say of themselves.
type Status struct {
	checks  []Check
	started atomic.Bool
}

// New returns a Status that is not ready until Started is called.
func New(checks ...Check) *Status { return &Status{checks: checks} }

// Started says that every listener is open.
func (s *Status) Started() { s.started.Store(true) }

// Problems names what keeps the service from being ready; empty means nothing.
func (s *Status) Problems() []string {
	var all []string
	if !s.started.Load() {
		all = append(all, "the service is starting")
	}
	for _, c := range s.checks {
		if err := c.Check(); err != nil {
			all = append(all, c.Name+": "+err.Error())
		}
	}
	return all
}

// Handler serves /livez (the process runs) and /readyz (it can do its work).
func (s *Status) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, []string{"ok"}) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if problems := s.Problems(); len(problems) > 0 {
			answer(w, http.StatusServiceUnavailable, problems)
			return
		}
		answer(w, http.StatusOK, []string{"ok"})
	})
	return mux
}

func answer(w http.ResponseWriter, code int, lines []string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	fmt.Fprintln(w, strings.Join(slices.Clone(lines), "\n"))
}
