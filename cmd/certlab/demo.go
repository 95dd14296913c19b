package main

import (
	"github.com/spf13/cobra"

	"github.com/certconnector/certconnector/cmd/certlab/demo"
)

func (p *program) demoCommand() *cobra.Command {
	var o demo.Options
	c := &cobra.Command{
		Use:   "demo",
		Short: "Enrol a device of each platform, break everything once, show the evidence",
		Long: `Runs a simulated cloud and a real certconnector in one folder, enrols a device of
each platform, and then breaks what breaks in a bad night: wrong and used
challenges, outages of the cloud, a kill -9 between issuing and reporting. Each
step says what was seen; at the end the devices' certificates, the cloud's
reports, the journal and the CA's register are compared.

Without --once everything is left running to play with.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Out = p.out
			held, err := demo.Run(cmd.Context(), o)
			if err == nil && !held {
				err = errRefused
			}
			return err
		},
	}
	f := c.Flags()
	f.BoolVar(&o.Once, "once", false, "stop everything at the end; exit 0 only if all held")
	f.StringVar(&o.Dir, "dir", "", "folder for everything; must be new or empty (default: a temporary one)")
	f.StringVar(&o.Program, "program", "", "the certconnector to run (default: beside certlab, else in the PATH)")
	return c
}
