package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/certconnector/certconnector/cmd/certlab/cloud"
	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/intune/intunetest"
)

func (p *program) cloudCommand() *cobra.Command {
	var o cloud.Options
	var login, graph, service, control, secretFile string
	c := &cobra.Command{
		Use:   "cloud",
		Short: "Run a simulated cloud: sign-in, Graph, Intune's services, a queue of jobs, control APIs",
		Long: `Runs a simulated cloud on the loopback interface until it is interrupted. Its
control API makes challenges, asks for revocations, breaks things and tells what
was reported; see "certlab enroll --cloud-control". Its challenges are its own,
never Intune's.

Beside it is a queue of issuance jobs, with a control API of its own that adds
jobs and tells results. Its interface is certconnector's own, not Microsoft's
(docs/issuance-jobs.md); it serves whoever shows --queue-client-certificate.`,
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
			return cloud.Serve(cmd.Context(), o, p.cloudIsUp)
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
	f.DurationVar(&o.TokenLife, "token-life", 3599*time.Second, "how long a token is good")
	f.DurationVar(&o.KeyDelay, "key-delay", 0, "how long a key added by addKey is not taken at sign-in yet")
	f.DurationVar(&o.Revocation.CoolDown, "revocation-cool-down", 0, "after a download of revocations, how long the next ones are empty; the real one's is 1h")
	f.DurationVar(&o.Revocation.Lease, "revocation-lease", 0, "until a revocation without a result is offered again; 0: at each download")
	queueFlags(f, &o.Queue)
	return c
}

// queueFlags are those of the queue of issuance jobs.
func queueFlags(f *pflag.FlagSet, q *cloud.QueueOptions) {
	f.StringVar(&q.Address, "queue-address", "", "loopback address of the queue of jobs, mutual TLS (default: a free port)")
	f.StringVar(&q.ControlAddress, "queue-control-address", "", "loopback address of the queue's control API (default: a free port)")
	f.StringVar(&q.StateFile, "queue-state-file", "", "file that keeps the queue across kills (default: memory only)")
	f.StringVar(&q.RootFile, "queue-root-file", "", "file that gets the certificate of the queue, PEM")
	f.StringVar(&q.Certificate, "queue-client-certificate", "", "PEM file with the client certificates that are served; it may appear later (default: nobody is)")
	f.DurationVar(&q.CoolDown, "queue-cool-down", 0, "after a download of jobs, how long the next is answered 429")
	f.DurationVar(&q.Lease, "queue-lease", 10*time.Minute, "until a job without a result is offered again")
}

// cloudIsUp says where the cloud is.
func (p *program) cloudIsUp(i cloud.Info) {
	if p.json {
		_ = p.writeJSON(i) // the cloud runs whether or not somebody reads
		return
	}
	p.printf("authority  %s\ngraph      %s\nresource   %s\nservice    %s\nrevocation %s\ncontrol    %s\ntenant     %s\nclient ID  %s\njobs       %s\n  control  %s\n",
		i.Authority, i.Graph, i.Resource, i.Service, i.Revocation, i.Control, i.Tenant, i.ClientID, i.Queue.URL, i.Queue.Control)
}

// secretFrom reads a secret without the line break at its end.
func secretFrom(path string) (secret.Text, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("reading a secret: %w", err)
	}
	return secret.Text(strings.TrimRight(string(b), "\r\n")), nil
}
