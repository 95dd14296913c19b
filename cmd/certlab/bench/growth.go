package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/certconnector/certconnector/agent/journal/sqlite"
)

// fewRows is how many journaled requests the smaller journal has.
const fewRows = 1000

// Growth compares one request's cost with a small and a large journal.
type Growth struct {
	Few        int       `json:"few_rows"`
	Many       int       `json:"many_rows"`
	FewCPU     []float64 `json:"few_cpu_ms"`
	ManyCPU    []float64 `json:"many_cpu_ms"`
	Ratios     []float64 `json:"ratios"` // pair by pair
	FewMedian  float64   `json:"few_median_ms"`
	ManyMedian float64   `json:"many_median_ms"`
	Difference float64   `json:"difference_percent"` // of the median ratio
	Scatter    float64   `json:"scatter_percent"`    // largest less smallest ratio
	ManyStart  float64   `json:"many_start_ms"`
	ManyMB     float64   `json:"many_rss_mib"`
}

// growth alternates two programs that differ only in their journals' age.
func (o Options) growth(ctx context.Context) (g *Growth, err error) {
	g = &Growth{Few: fewRows, Many: o.Rows}
	few, err := o.seeded(ctx, fewRows)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, few.stop()) }()
	many, err := o.seeded(ctx, o.Rows)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, many.stop()) }()
	if _, err = few.restart(ctx); err != nil {
		return nil, err
	}
	if g.ManyStart, err = many.restart(ctx); err != nil {
		return nil, err
	}
	for i := range o.Pairs {
		if err := o.growthPair(ctx, g, few, many, i%2 == 1); err != nil {
			return nil, err
		}
	}
	g.FewMedian, g.ManyMedian = median(g.FewCPU), median(g.ManyCPU)
	g.Difference = 100 * (median(g.Ratios) - 1)
	low, high := spread(g.Ratios)
	g.Scatter = 100 * (high - low)
	return g, nil
}

// growthPair measures both programs, one right after the other; swapped says
// which goes first, so that neither always has the warmer machine.
func (o Options) growthPair(ctx context.Context, g *Growth, few, many *program, swapped bool) error {
	order := []*program{few, many}
	if swapped {
		order = []*program{many, few}
	}
	cost := make(map[*program]float64)
	for _, p := range order {
		r, err := o.load(ctx, p, 8, o.N)
		if err != nil {
			return err
		}
		cost[p] = r.ServerCPU
		if p == many {
			g.ManyMB = float64(r.ServerRSS) / 1024
		}
	}
	g.FewCPU, g.ManyCPU = append(g.FewCPU, cost[few]), append(g.ManyCPU, cost[many])
	g.Ratios = append(g.Ratios, cost[many]/cost[few])
	fmt.Fprintf(o.Out, "  growth: %d rows %.2f ms, %d rows %.2f ms, ratio %.3f\n", g.Few, cost[few], g.Many, cost[many], cost[many]/cost[few])
	return nil
}

func (o Options) seeded(ctx context.Context, rows int) (*program, error) {
	p, err := o.install(ctx, fmt.Sprintf("%d rows", rows), P256, false)
	if err != nil {
		return nil, err
	}
	if err := sqlite.Seed(filepath.Join(p.dir, "journal.db"), sqlite.SeedOptions{Rows: rows, CA: "embedded", Endpoint: "devices"}); err != nil {
		return nil, fmt.Errorf("seeding %d rows: %w", rows, err)
	}
	return p, nil
}
