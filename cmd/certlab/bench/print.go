package bench

import (
	"fmt"
	"io"
	"slices"
)

func spread(values []float64) (low, high float64) {
	if len(values) == 0 {
		return 0, 0
	}
	return slices.Min(values), slices.Max(values)
}

func (s Scenario) print(out io.Writer) {
	low, high := spread(s.Ratios)
	fmt.Fprintf(out, "%s\n  CPU a request at 8 connections  %.3f × floor (median of %d pairs, %.3f to %.3f)", s.Name, median(s.Ratios), len(s.Ratios), low, high)
	if s.Budget > 0 {
		fmt.Fprintf(out, ", budget %.2f", s.Budget)
	}
	fmt.Fprintf(out, "\n  start                           %.0f ms (median of %d)\n", median(s.StartMS), len(s.StartMS))
	for _, c := range []string{"1", "8", "32"} {
		p := s.At[c]
		fmt.Fprintf(out, "  %2s connections                  %.0f requests/s, p50 %.1f ms, p99 %.1f ms, RSS %.1f MiB\n", c, p.PerSecond, p.P50, p.P99, p.RSSMiB)
	}
}

func (g *Growth) print(out io.Writer) {
	fmt.Fprintf(out, "growth\n  %7d journaled requests         %.2f ms CPU a request (median of %d)\n", g.Few, g.FewMedian, len(g.Ratios))
	fmt.Fprintf(out, "  %7d journaled requests         %.2f ms; pair by pair %+.1f %% (median), scatter %.1f %%\n", g.Many, g.ManyMedian, g.Difference, g.Scatter)
	fmt.Fprintf(out, "  start with %d             %.0f ms, RSS %.1f MiB\n", g.Many, g.ManyStart, g.ManyMB)
}
