package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/certconnector/certconnector/cmd/certlab/cloud"
	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/intune/intunetest"
)

func (p *program) cloudCommand() *cobra.Command {
	var o cloud.Options
	var login, graph, service, control, secretFile string
	c := &cobra.Command{
		Use:   "cloud",
		Short: "Run a simulated cloud: sign-in, Graph, Intune's SCEP service and a control API",
		Long: `Runs a simulated cloud on the loopback interface until it is interrupted. Its
control API makes challenges, breaks things and tells what was reported; see
"certlab enroll --cloud-control". Its challenges are its own, never Intune's.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Addresses = []string{login, graph, service, control}
			if secretFile != "" {
				text, err := secretFrom(secretFile)
				if err != nil {
					return err
				}
				o.Secret = text
			}
			return cloud.Serve(cmd.Context(), o, func(i intunetest.Info) { p.cloudIsUp(i) })
		},
	}
	f := c.Flags()
	f.StringVar(&login, "login-address", "", "loopback address of the sign-in service (default: a free port)")
	f.StringVar(&graph, "graph-address", "", "loopback address of Microsoft Graph (default: a free port)")
	f.StringVar(&service, "service-address", "", "loopback address of the SCEP service (default: a free port)")
	f.StringVar(&control, "control-address", "", "loopback address of the control API (default: a free port)")
	f.StringVar(&o.StateFile, "state-file", "", "file that gets every accepted notification as a line of JSON, synced")
	f.StringVar(&o.RootFile, "root-file", "", "file that gets the certificate of the cloud's CA, PEM")
	f.StringVar(&o.InfoFile, "info-file", "", "file that gets where the cloud is, JSON; written last")
	f.StringVar(&o.Tenant, "tenant", "", "tenant ID (default: "+intunetest.ContosoID+")")
	f.StringVar(&o.ClientID, "client-id", "", "application ID of the connector (default: "+intunetest.ContosoClient+")")
	f.StringVar(&secretFile, "client-secret-file", "", "file with the connector's client secret")
	f.StringVar(&o.Certificate, "client-certificate", "", "PEM file with the connector's certificate; it may appear later")
	f.BoolVar(&o.Strict, "strict", false, "refuse also what the real service is not known to refuse")
	f.DurationVar(&o.ChallengeLife, "challenge-life", time.Hour, "how long a challenge is good")
	return c
}

// cloudIsUp says where the cloud is.
func (p *program) cloudIsUp(i intunetest.Info) {
	if p.json {
		_ = p.writeJSON(i) // the cloud runs whether or not somebody reads
		return
	}
	p.printf("authority  %s\ngraph      %s\nresource   %s\nservice    %s\ncontrol    %s\ntenant     %s\nclient ID  %s\n",
		i.Authority, i.Graph, i.Resource, i.Service, i.Control, i.Tenant, i.ClientID)
}

// secretFrom reads a secret without the line break at its end.
func secretFrom(path string) (secret.Text, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("reading a secret: %w", err)
	}
	return secret.Text(strings.TrimRight(string(b), "\r\n")), nil
}
