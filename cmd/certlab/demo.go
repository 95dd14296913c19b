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
		Long: `Runs a simulated cloud, a simulated Microsoft CA and a real certconnector in one
folder, and enrols a device of each platform. Then it breaks what breaks in a bad
night: wrong and used challenges, outages of the cloud, a kill -9 between issuing
and reporting. The cloud has certificates revoked, at an embedded CA and over DCOM
at the Microsoft CA; a queue hands out an issuance job; the registration
authority's certificates and the one that signs in at Entra are replaced while
devices enrol. Each step says what was seen; at the end the devices'
certificates, the cloud's reports, the journal and what the CAs have are compared.

Where openssl is installed it reads the revocation lists and opens what the job
brought; else Go's code does, and the step says so.

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
