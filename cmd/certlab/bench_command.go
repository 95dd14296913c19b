package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/certconnector/certconnector/cmd/certlab/bench"
	"github.com/certconnector/certconnector/cmd/certlab/demo"
)

func (p *program) benchCommand() *cobra.Command {
	var o bench.Options
	c := &cobra.Command{
		Use:   "bench --program PATH",
		Short: "Measure a certconnector against the floor of its public-key operations",
		Long: `Loads the given program with its real journal, in turn with the floor: the
public- and private-key operations that no server can do without. Prints median
and range of the ratio of CPU time, requests a second, latencies, memory, start
time, what a hundred thousand journaled requests change, and what it costs to
deliver a hundred thousand reports that are owed since an outage. See
docs/benchmarks.md.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.Self, err = os.Executable(); err != nil {
				return fmt.Errorf("finding this program: %w", err)
			}
			if o.Program, err = demo.FindProgram(o.Program, o.Self); err != nil {
				return err
			}
			if o.Dir, err = os.MkdirTemp("", "certlab-bench-"); err != nil {
				return fmt.Errorf("making a folder for the programs: %w", err)
			}
			defer func() { _ = os.RemoveAll(o.Dir) }() // a temporary folder that stays is no failure
			o.Out = p.out
			if p.json {
				o.Out = p.err
			}
			r, err := bench.Run(cmd.Context(), o)
			if err != nil {
				return err
			}
			if p.json {
				return p.writeJSON(r)
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&o.Program, "program", "", "the certconnector to measure (default: the one beside certlab)")
	f.IntVar(&o.Pairs, "pairs", 12, "how often load and floor alternate")
	f.IntVar(&o.N, "n", 300, "requests of one load run")
	f.IntVar(&o.Rows, "rows", 100_000, "journaled requests of the growth comparison")
	f.IntVar(&o.Backlog, "backlog", 100_000, "debts of the backlog comparison")
	f.BoolVar(&o.Drain, "drain", false, "wait until the backlog is delivered, and say how long that took")
	f.StringVar(&o.Only, "only", "", `one scenario by its name, "growth" or "backlog"`)
	c.AddCommand(p.floorCommand())
	return c
}

func (p *program) floorCommand() *cobra.Command {
	var caKey string
	var rounds int
	c := &cobra.Command{
		Use:   "floor",
		Short: "Measure only the public- and private-key operations of one PKCSReq",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			f, err := bench.MeasureFloor(caKey, rounds)
			if err != nil {
				return err
			}
			return p.writeJSON(f)
		},
	}
	c.Flags().StringVar(&caKey, "ca-key", bench.RSA2048, "kind of the CA's key: rsa2048 or p256")
	c.Flags().IntVar(&rounds, "rounds", 500, "how many requests' operations")
	return c
}
