// Package bench loads the real program with its real journal, alternates that
// with the floor of the same public- and private-key operations, and prints
// medians and ranges of the ratio. Absolute times move with the machine; a
// ratio of two runs, one right after the other on one core, moves less.
package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/certconnector/certconnector/cmd/certlab/load"
)

// Options say what to measure.
type Options struct {
	Program string // the certconnector to measure
	Self    string // this program, which is started for load, floor and cloud
	Dir     string // for the programs' folders; removed by the caller
	Pairs   int    // load and floor in turn; 0: 12
	N       int    // requests of one load run; 0: 300
	Rows    int    // journaled requests of the growth comparison; 0: 100,000
	Backlog int    // debts of the backlog comparison; 0: 100,000
	Drain   bool   // wait until the backlog is delivered
	Only    string // name of one scenario; "": all
	Out     io.Writer
}

// Result is everything that was measured.
type Result struct {
	Scenarios []Scenario `json:"scenarios"`
	Growth    *Growth    `json:"growth,omitempty"`
	Backlog   *Backlog   `json:"backlog,omitempty"`
}

// Scenario is one way to run the program.
type Scenario struct {
	Name   string  `json:"name"`
	CAKey  string  `json:"ca_key"`
	Intune bool    `json:"intune"`
	Budget float64 `json:"budget,omitempty"` // of the median ratio; 0: none

	StartMS []float64 `json:"start_ms"` // from exec to the first answered connection
	Floors  []float64 `json:"floor_cpu_ms"`
	CPU     []float64 `json:"cpu_ms"`
	Ratios  []float64 `json:"ratios"`

	At map[string]Point `json:"at"` // by number of connections
}

// Point is the program at one number of connections.
type Point struct {
	PerSecond float64 `json:"req_per_s"`
	P50       float64 `json:"p50_ms"`
	P99       float64 `json:"p99_ms"`
	RSSMiB    float64 `json:"rss_mib"`
	CPU       float64 `json:"cpu_ms"`
}

var scenarios = []Scenario{
	{Name: "static, RSA-2048 CA", CAKey: RSA2048, Budget: 1.15},
	{Name: "static, P-256 CA", CAKey: P256, Budget: 1.25},
	{Name: "Intune, RSA-2048 CA", CAKey: RSA2048, Intune: true},
}

// Run measures all scenarios and prints as it goes.
func Run(ctx context.Context, o Options) (Result, error) {
	setDefault(&o.Pairs, 12)
	setDefault(&o.N, 300)
	setDefault(&o.Rows, 100_000)
	setDefault(&o.Backlog, 100_000)
	var r Result
	for _, s := range scenarios {
		if o.Only != "" && o.Only != s.Name {
			continue
		}
		if err := o.measure(ctx, &s); err != nil {
			return r, fmt.Errorf("%s: %w", s.Name, err)
		}
		s.print(o.Out)
		r.Scenarios = append(r.Scenarios, s)
	}
	if o.Only == "" || o.Only == "growth" {
		g, err := o.growth(ctx)
		if err != nil {
			return r, fmt.Errorf("growth: %w", err)
		}
		g.print(o.Out)
		r.Growth = g
	}
	if o.Only == "" || o.Only == "backlog" {
		b, err := o.backlog(ctx)
		if err != nil {
			return r, fmt.Errorf("backlog: %w", err)
		}
		b.print(o.Out)
		r.Backlog = b
	}
	return r, nil
}

func setDefault(v *int, d int) {
	if *v == 0 {
		*v = d
	}
}

// measure runs one scenario: pairs at 8 connections, then single runs at 1
// and 32.
func (o Options) measure(ctx context.Context, s *Scenario) (err error) {
	p, err := o.install(ctx, s.Name, s.CAKey, s.Intune)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	for range 5 {
		ms, err := p.restart(ctx)
		if err != nil {
			return err
		}
		s.StartMS = append(s.StartMS, ms)
	}
	s.At = make(map[string]Point)
	var best load.Report
	before, err := o.floor(ctx, s.CAKey)
	if err != nil {
		return err
	}
	for i := range o.Pairs {
		report, err := o.load(ctx, p, 8, o.N)
		if err != nil {
			return err
		}
		after, err := o.floor(ctx, s.CAKey)
		if err != nil {
			return err
		}
		floor := (before + after) / 2 // the machine's speed drifts
		before = after
		s.CPU = append(s.CPU, report.ServerCPU)
		s.Floors = append(s.Floors, floor)
		s.Ratios = append(s.Ratios, report.ServerCPU/floor)
		fmt.Fprintf(o.Out, "  %s, pair %d of %d: %.2f ms, floor %.2f ms, ratio %.3f\n", s.Name, i+1, o.Pairs, report.ServerCPU, floor, report.ServerCPU/floor)
		if best.PerSecond < report.PerSecond {
			best = *report
		}
	}
	s.At["8"] = point(best)
	for _, c := range []int{1, 32} {
		report, err := o.load(ctx, p, c, o.N)
		if err != nil {
			return err
		}
		s.At[fmt.Sprint(c)] = point(*report)
	}
	return nil
}

func point(r load.Report) Point {
	return Point{PerSecond: r.PerSecond, P50: r.P50, P99: r.P99, RSSMiB: float64(r.ServerRSS) / 1024, CPU: r.ServerCPU}
}

// load runs the load generator as a process of its own, on the other core.
func (o Options) load(ctx context.Context, p *program, connections, n int) (*load.Report, error) {
	args := []string{"load", "--json", "--url", p.url, "-c", fmt.Sprint(connections), "-n", fmt.Sprint(n),
		"--warmup", "60", "--pid", fmt.Sprint(p.pid()), "--reuse-keys", filepath.Join(o.Dir, "keys.pem")}
	if p.cloud != nil {
		args = append(args, "--cloud-control", p.cloud.Control)
	} else {
		args = append(args, "--challenge-file", p.challenge)
	}
	var r load.Report
	if err := o.child(ctx, clientCore, &r, args...); err != nil {
		return nil, err
	}
	if r.Failed > 0 {
		return nil, fmt.Errorf("%d of %d requests failed: %v", r.Failed, r.Requests, r.Errors)
	}
	return &r, nil
}

// floor runs on the server's core, between load runs.
func (o Options) floor(ctx context.Context, caKey string) (float64, error) {
	var f Floor
	err := o.child(ctx, serverCore, &f, "bench", "floor", "--ca-key", caKey, "--rounds", "200")
	return f.CPU, err
}

// child runs this program pinned to a core and reads its JSON.
func (o Options) child(ctx context.Context, core string, into any, args ...string) error {
	cmd := pinned(ctx, core, o.Self, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("running %s %s: %w\n%s", filepath.Base(o.Self), args[0], err, out)
	}
	return json.Unmarshal(out, into)
}

// The server has a core of its own; load and cloud share the other one.
const (
	serverCore = "0"
	clientCore = "1"
)

// pinned builds a command on one core, where the system has taskset.
func pinned(ctx context.Context, core, name string, args ...string) *exec.Cmd {
	if path, err := exec.LookPath("taskset"); err == nil {
		return exec.CommandContext(ctx, path, append([]string{"-c", core, name}, args...)...)
	}
	return exec.CommandContext(ctx, name, args...)
}

// median is the middle of an odd number of values, the mean of the middle two
// of an even number.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	v := slices.Sorted(slices.Values(values))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}
