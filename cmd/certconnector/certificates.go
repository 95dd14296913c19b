package main

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/certconnector/certconnector/agent/identity"
)

func (p *program) certificatesCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "certificates",
		Short: "Show the connector's own certificates, and what happens to them next",
		Long: `Lists every certificate and secret that the running service itself depends on:
those of the registration authority, of its listeners, of the sign-in at Entra
ID, of an embedded CA, and what it shows to other servers. What ends first
stands first.

Exit codes: 0 nothing to do, 1 something needs a person, 2 error.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.certificates(cmd.Context()) },
	}
	c.AddCommand(&cobra.Command{
		Use:   "renew NAME",
		Short: "Renew one now, as \"endpoint corp\" or \"listener devices\"",
		Long: `Renews what the service renews by itself, before it is due. What is in use goes
on until the new certificate is there and has been checked; what devices
encrypted for the old one is still opened.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := p.dial()
			if err != nil {
				return err
			}
			if err := client.RenewCertificate(cmd.Context(), args[0]); err != nil {
				return answered(err)
			}
			return p.done("%s is renewed", args[0])
		},
	})
	return c
}

func (p *program) certificates(ctx context.Context) error {
	client, err := p.dial()
	if err != nil {
		return err
	}
	list, err := client.Certificates(ctx)
	if err != nil {
		return answered(err)
	}
	problems := false
	for _, i := range list {
		problems = problems || i.Problem != ""
	}
	if p.json {
		err = p.writeJSON(list)
	} else {
		err = p.certificateTable(list)
	}
	if err == nil && problems {
		return &refused{}
	}
	return err
}

func (p *program) certificateTable(list []identity.Item) error {
	rows := [][]string{{"OF", "KIND", "SUBJECT", "KEY", "ENDS", "DAYS", "NEXT"}}
	for _, i := range list {
		ends, days := "-", "-"
		if !i.NotAfter.IsZero() {
			ends, days = i.NotAfter.Local().Format(time.DateOnly), strconv.Itoa(int(time.Until(i.NotAfter).Hours()/24))
		}
		next := i.Next
		if i.Problem != "" {
			next = fmt.Sprintf("PROBLEM: %s; %s", i.Problem, i.Next)
		}
		rows = append(rows, []string{show(i.Name), show(string(i.Kind)), show(i.Subject), show(cmp.Or(string(i.Key), "-")), ends, days, show(next)})
	}
	return p.table(rows)
}
