//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/certconnector/certconnector/cmd/certlab/load"
)

// The budget of docs/benchmarks.md: what a request may cost us at a Microsoft
// CA above one at the embedded CA, in milliseconds of CPU time.
const dcomBudget = 3.0

// TestADCSCost loads one connector in turn at an endpoint of its embedded CA
// and at one of the CA over DCOM with Kerberos, and compares the CPU time of
// its process; then 500 requests come over 32 connections, and nothing fails
// or stays open. E2E_PAIRS and E2E_N make it longer, as for docs/benchmarks.md.
func TestADCSCost(t *testing.T) {
	c := newCorp(t, overDCOM)
	pid := c.start().cmd.Process.Pid
	keys := c.path("load-keys.pem")
	run := func(path string, n, connections int) *load.Report {
		t.Helper()
		r, err := load.Run(t.Context(), load.Options{
			URL: c.url(path), Challenge: secretText(c.static), N: n, Concurrency: connections, Warmup: 20, PID: pid, Keys: 16, KeyFile: keys,
		})
		if err != nil {
			t.Fatal(err)
		}
		if r.Failed > 0 {
			t.Fatalf("%d of %d requests at %s failed: %v", r.Failed, r.Requests, path, r.Errors)
		}
		return r
	}
	overDCOM, embedded := bridgePath(overDCOM, "static"), staticPath
	var more, theirs, ours []float64
	for i := range fromEnv("E2E_PAIRS", 4) {
		order := []string{overDCOM, embedded}
		if i%2 == 1 {
			slices.Reverse(order)
		}
		cost := map[string]float64{}
		for _, path := range order {
			cost[path] = run(path, fromEnv("E2E_N", 150), 8).ServerCPU
		}
		theirs, ours = append(theirs, cost[overDCOM]), append(ours, cost[embedded])
		more = append(more, cost[overDCOM]-cost[embedded])
	}
	t.Logf("CPU a request: over DCOM %.2f ms, embedded CA %.2f ms; difference %.2f ms (%.2f to %.2f)",
		middle(theirs), middle(ours), middle(more), slices.Min(more), slices.Max(more))
	// A machine where the embedded CA's requests cost more than the budget is
	// slower than the one it is for.
	if budget := max(dcomBudget, middle(ours)); middle(more) > budget {
		t.Errorf("a request over DCOM costs %.2f ms more than the embedded CA's, budget %.1f", middle(more), budget)
	}

	files, issued := openFiles(t, pid), len(c.issued())
	r := run(overDCOM, 500, 32)
	t.Logf("500 requests, 32 connections: %.0f a second, p50 %.1f ms, p99 %.1f ms, CPU %.2f ms, resident %d MiB",
		r.PerSecond, r.P50, r.P99, r.ServerCPU, r.ServerRSS>>10)
	if n := len(c.issued()) - issued; n != 520 { // and 20 for warming up
		t.Errorf("the CA has issued %d certificates, want 520", n)
	}
	if n := c.rpc.OpenViews(); n != 0 {
		t.Errorf("%d views stay open", n)
	}
	// concurrent: 8; an object's port and its activator's
	eventually(t, "connections to the CA are closed", func() bool { return c.rpc.Connections() <= 2*8+1 })
	eventually(t, "files are closed", func() bool { return openFiles(t, pid) <= files+8 })
}

// openFiles counts a process's open files and sockets.
func openFiles(t *testing.T, pid int) int {
	t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// middle is the median.
func middle(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// fromEnv is a number from the environment.
func fromEnv(name string, otherwise int) int {
	var n int
	if _, err := fmt.Sscan(os.Getenv(name), &n); err != nil || n < 1 {
		return otherwise
	}
	return n
}
