// Package demo shows a connector at work and in a bad night: it runs a
// simulated cloud, a simulated Microsoft CA and the real program as processes
// of their own, emulates devices, has certificates revoked, jobs done and the
// connector's own certificates replaced, breaks what can break, and compares at
// the end what the devices hold with what the cloud was told, the journal and
// what the CAs have.
package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/certconnector/certconnector/internal/logging"
)

// Options say how to run the demonstration.
type Options struct {
	Once    bool      // stop everything at the end
	Dir     string    // new or empty; "": a temporary one
	Program string    // certconnector; "": beside Lab, else in the PATH
	Lab     string    // certlab, for the cloud's process; "": this program
	Out     io.Writer // nil: nothing is printed
}

// Step is one line of the report.
type Step struct {
	Name     string   `json:"name"`
	Passed   bool     `json:"passed"`
	Seconds  float64  `json:"seconds"`
	Evidence []string `json:"evidence"`
	Error    string   `json:"error,omitempty"`
}

// Report is what is left of a demonstration.
type Report struct {
	Began   time.Time `json:"began"`
	Seconds float64   `json:"seconds"`
	Program string    `json:"program"`
	Passed  int       `json:"passed"`
	Failed  int       `json:"failed"`
	Steps   []Step    `json:"steps"`
}

// ReportFile is the report's name in the folder.
const ReportFile = "report.json"

// Run runs the demonstration and tells whether all held. An error means that
// it could not be run.
func Run(ctx context.Context, o Options) (held bool, err error) {
	if o.Out == nil {
		o.Out = io.Discard
	}
	s := &show{ctx: ctx, out: o.Out, report: Report{Began: time.Now(), Steps: []Step{}}}
	w, err := build(&o, s)
	if err != nil {
		return false, err
	}
	s.report.Program = o.Program
	defer func() { err = errors.Join(err, w.close()) }()
	if err := w.start(ctx); err != nil {
		return false, err
	}
	acts := w.acts()
	s.total = len(acts)
	for _, a := range acts {
		s.step(a)
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
	}
	if !o.Once {
		if _, err := w.startConnector(ctx); err != nil { // the comparison stopped it
			return false, err
		}
	}
	if err := s.write(filepath.Join(o.Dir, ReportFile)); err != nil {
		return false, err
	}
	s.say("report: %s\n", filepath.Join(o.Dir, ReportFile))
	if !o.Once {
		w.invite()
	}
	s.say("%d passed, %d failed\n", s.report.Passed, s.report.Failed)
	if !o.Once {
		<-ctx.Done()
	}
	return s.report.Failed == 0, nil
}

// act is one thing to show.
type act struct {
	name string
	do   func(ctx context.Context, e *evidence) error
}

// evidence is what was seen.
type evidence struct{ lines []string }

func (e *evidence) saw(format string, args ...any) {
	e.lines = append(e.lines, logging.Printable(fmt.Sprintf(format, args...)))
}

// show prints and counts.
type show struct {
	ctx    context.Context
	out    io.Writer
	report Report
	total  int
}

// limit is how long one act may take.
const limit = 5 * time.Minute

// step does one act, and prints what was seen.
func (s *show) step(a act) {
	number := len(s.report.Steps) + 1
	s.say("[%2d/%d] %s …\n", number, s.total, a.name)
	ctx, cancel := context.WithTimeout(s.ctx, limit)
	defer cancel()
	var e evidence
	began := time.Now()
	err := a.do(ctx, &e)
	r := Step{Name: a.name, Passed: err == nil, Seconds: time.Since(began).Seconds(), Evidence: e.lines}
	for _, line := range e.lines {
		s.say("        %s\n", line)
	}
	if err == nil {
		s.report.Passed++
		s.say("        ok, %.2fs\n", r.Seconds)
	} else {
		s.report.Failed++
		r.Error = err.Error()
		for line := range strings.Lines(r.Error) {
			s.say("        FAILED: %s\n", logging.Printable(strings.TrimRight(line, "\n")))
		}
	}
	s.report.Steps = append(s.report.Steps, r)
}

func (s *show) say(format string, args ...any) {
	_, _ = fmt.Fprintf(s.out, format, args...) // nobody is left to tell
}

func (s *show) write(path string) error {
	s.report.Seconds = time.Since(s.report.Began).Seconds()
	b, err := json.MarshalIndent(s.report, "", "  ")
	if err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	if err := os.WriteFile(path, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}
