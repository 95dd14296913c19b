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

func (b *Backlog) print(out io.Writer) {
	fmt.Fprintf(out, "backlog of %d, enrolments at 8 connections against none owed (medians of %d pairs, range), budget %.2f\n", b.Debts, len(b.CPU), b.Budget)
	for _, row := range []struct {
		name   string
		ratios []float64
		of     func(Window) float64
	}{
		{"CPU a request", b.CPU, func(w Window) float64 { return w.CPU }},
		{"p50", b.P50, func(w Window) float64 { return w.P50 }},
		{"p99", b.P99, func(w Window) float64 { return w.P99 }},
	} {
		low, high := spread(row.ratios)
		fmt.Fprintf(out, "  %-30s  %.3f (%.3f to %.3f): %.2f and %.2f ms\n", row.name, median(row.ratios), low, high,
			median(each(b.Calm, row.of)), median(each(b.Owing, row.of)))
	}
	fmt.Fprintf(out, "  delivered meanwhile             %.0f a second\n", b.PerSecond)
	if b.Seconds > 0 {
		fmt.Fprintf(out, "  delivered                       after %.0f s\n", b.Seconds)
	}
}

func each(windows []Window, of func(Window) float64) []float64 {
	var list []float64
	for _, w := range windows {
		list = append(list, of(w))
	}
	return list
}
