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
	Few, Many         int       `json:"-"`
	FewCPU, ManyCPU   []float64 `json:"-"`
	FewMedian         float64   `json:"few_cpu_ms"`
	ManyMedian        float64   `json:"many_cpu_ms"`
	Difference        float64   `json:"difference_percent"`
	Scatter           float64   `json:"scatter_percent"` // range of the smaller journal's runs
	ManyStart, ManyMB float64   `json:"-"`
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
	for range o.Pairs {
		a, err := o.load(ctx, few, 8, o.N)
		if err != nil {
			return nil, err
		}
		b, err := o.load(ctx, many, 8, o.N)
		if err != nil {
			return nil, err
		}
		g.FewCPU, g.ManyCPU = append(g.FewCPU, a.ServerCPU), append(g.ManyCPU, b.ServerCPU)
		g.ManyMB = float64(b.ServerRSS) / 1024
		fmt.Fprintf(o.Out, "  growth: %d rows %.2f ms, %d rows %.2f ms\n", g.Few, a.ServerCPU, g.Many, b.ServerCPU)
	}
	g.FewMedian, g.ManyMedian = median(g.FewCPU), median(g.ManyCPU)
	g.Difference = 100 * (g.ManyMedian/g.FewMedian - 1)
	low, high := spread(g.FewCPU)
	g.Scatter = 100 * (high - low) / g.FewMedian
	return g, nil
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
