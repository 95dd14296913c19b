package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/certconnector/certconnector/agent/control"
)

func (p *program) challengeCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "challenge",
		Short: "Make challenges for devices",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(p.newChallengeCommand())
	return c
}

func (p *program) newChallengeCommand() *cobra.Command {
	var w control.Wish
	c := &cobra.Command{
		Use:   "new --endpoint NAME [flags]",
		Short: "Make one challenge, which is good for one certificate",
		Long: `Makes one challenge and writes it to standard output; it is kept nowhere.
At an endpoint with policy token it says what the device may ask for, within
the endpoint's own rules. At one with policy onetime it is a password and says
nothing: only --lifetime may be given.`,
		Example: `  certconnector challenge new --endpoint mdm --subject "CN=phone 7,O=Corp" --san dns:phone7.corp.example`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := p.dial()
			if err != nil {
				return err
			}
			made, err := client.NewChallenge(cmd.Context(), w)
			if err != nil {
				return answered(err)
			}
			if p.json {
				return p.writeJSON(made)
			}
			p.printf("%s\n", made.Challenge)
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&w.Endpoint, "endpoint", "", "name of the endpoint (needed)")
	f.StringVar(&w.Subject, "subject", "", `subject as RFC 4514 writes it, as "CN=phone 7,O=Corp"`)
	f.StringArrayVar(&w.SANs, "san", nil, "alternative name, as dns:phone7.corp.example, email:, upn:, uri:, ip:; repeat for more")
	f.StringSliceVar(&w.KeyUsage, "key-usage", nil, "digitalSignature, keyEncipherment; default any")
	f.StringSliceVar(&w.EKU, "eku", nil, "extended key usage, as clientAuth; default those of the endpoint")
	f.IntVar(&w.MinKeyBits, "min-key-bits", 0, "smallest RSA key; default the endpoint's")
	f.StringVar(&w.Hash, "hash", "", "weakest hash of the request's signature, as sha256; default the endpoint's")
	f.StringVar(&w.Template, "template", "", "template that the request must lead to; default any of the endpoint")
	f.DurationVar(&w.Validity, "validity", 0, "longest life of the certificate; default the template's")
	f.DurationVar(&w.Lifetime, "lifetime", 0, "life of the challenge; default the endpoint's")
	_ = c.MarkFlagRequired("endpoint") // the flag exists
	return c
}

func (p *program) traceCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "trace [TRANSACTION]",
		Short: "Show what became of the requests of a transaction",
		Long: `Shows each decision about the requests of one SCEP transaction, newest first:
the rule that refused, the state, the serial number. Without a transaction, all
recent decisions. Refusals that spent nothing are remembered until a restart.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := p.dial()
			if err != nil {
				return err
			}
			transaction := ""
			if len(args) > 0 {
				transaction = args[0]
			}
			events, err := client.Trace(cmd.Context(), transaction)
			if err != nil {
				return answered(err)
			}
			if p.json {
				return p.writeJSON(events)
			}
			rows := [][]string{{"WHEN", "ENDPOINT", "TRANSACTION", "SUBJECT", "STATE", "RULE", "FAILINFO", "SERIAL", "DETAIL"}}
			for _, e := range events {
				rows = append(rows, []string{
					e.At.Local().Format(time.DateTime), show(e.Endpoint), show(e.TransactionID), show(e.Subject), show(e.State),
					show(e.Rule), show(e.FailInfo), show(e.Serial), show(e.Detail),
				})
			}
			return p.table(rows)
		},
	}
}
