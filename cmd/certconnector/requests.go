package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/certconnector/certconnector/agent"
	"github.com/certconnector/certconnector/agent/control"
	"github.com/certconnector/certconnector/ca"
)

// dial reaches the running service.
func (p *program) dial() (*control.Client, error) {
	socket, err := agent.ControlSocket(p.config)
	if err != nil {
		return nil, fmt.Errorf("looking for the service: %w", err)
	}
	return control.Dial(socket)
}

// answered turns what the service declined into exit code 1.
func answered(err error) error {
	if e, ok := errors.AsType[*control.Error](err); ok && e.Refused() {
		return &refused{err: e}
	}
	return err
}

func (p *program) requestsCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "requests",
		Short: "List enrolments, and decide about those that wait for a person",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(p.listCommand(), p.approveCommand(), p.denyCommand())
	return c
}

func (p *program) listCommand() *cobra.Command {
	var f control.Filter
	c := &cobra.Command{
		Use:   "list",
		Short: "List enrolments, newest first",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := p.dial()
			if err != nil {
				return err
			}
			list, err := client.Requests(cmd.Context(), f)
			if err != nil {
				return answered(err)
			}
			if p.json {
				return p.writeJSON(list)
			}
			return p.requestTable(list)
		},
	}
	c.Flags().StringSliceVar(&f.States, "state", nil, "only these states, as parked or withheld; repeat for more")
	c.Flags().StringVar(&f.Endpoint, "endpoint", "", "only this endpoint")
	c.Flags().IntVar(&f.Limit, "limit", 100, "at most so many")
	return c
}

func (p *program) requestTable(list []control.Request) error {
	rows := [][]string{{"ID", "STATE", "ENDPOINT", "SUBJECT", "SERIAL", "CHANGED", "REASON"}}
	for _, r := range list {
		rows = append(rows, []string{
			show(r.ID), show(r.State), show(r.Endpoint), show(r.Subject), show(r.Serial),
			r.UpdatedAt.Local().Format(time.DateTime), show(r.Reason),
		})
	}
	return p.table(rows)
}

func (p *program) approveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "approve ID",
		Short: "Let a parked request be issued",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := p.dial()
			if err != nil {
				return err
			}
			if err := client.Approve(cmd.Context(), args[0]); err != nil {
				return answered(err)
			}
			return p.done("request %s is approved", args[0])
		},
	}
}

func (p *program) denyCommand() *cobra.Command {
	var why string
	c := &cobra.Command{
		Use:   "deny ID",
		Short: "Refuse a parked request for good",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := p.dial()
			if err != nil {
				return err
			}
			if err := client.Deny(cmd.Context(), args[0], why); err != nil {
				return answered(err)
			}
			return p.done("request %s is denied", args[0])
		},
	}
	c.Flags().StringVar(&why, "why", "", "reason, for the audit log")
	return c
}

func (p *program) revokeCommand() *cobra.Command {
	var caName, reasonName string
	c := &cobra.Command{
		Use:   "revoke --ca NAME SERIAL",
		Short: "Revoke a certificate by its hexadecimal serial number",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			reason, err := ca.ParseReason(reasonName)
			if err != nil {
				return err
			}
			client, err := p.dial()
			if err != nil {
				return err
			}
			if err := client.Revoke(cmd.Context(), caName, args[0], reason); err != nil {
				return answered(err)
			}
			return p.done("certificate %s is revoked", args[0])
		},
	}
	c.Flags().StringVar(&caName, "ca", "", "configured name of the CA (required)")
	c.Flags().StringVar(&reasonName, "reason", ca.Unspecified.String(), "reason of RFC 5280, as keyCompromise or superseded")
	if err := c.MarkFlagRequired("ca"); err != nil {
		panic(err) // the flag is defined two lines above
	}
	return c
}

// done confirms what the service has done.
func (p *program) done(format string, id string) error {
	if p.json {
		return p.writeJSON(map[string]any{"done": true, "id": id})
	}
	p.printf(format+"\n", show(id))
	return nil
}
