package main

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/certconnector/certconnector/agent/reconcile"
)

func (p *program) reconcileCommand() *cobra.Command {
	var o reconcile.Options
	c := &cobra.Command{
		Use:   "reconcile",
		Short: "Compare the journal with the CAs and with what clouds have answered",
		Long: `Looks for certificates that were issued and never accepted, that a CA has
revoked or does not know, for revocations and reports that are owed for too
long, for devices that stopped renewing, and for work that is stuck. Nothing is
changed without --fix, which revokes again what should have been revoked and
wakes what waits. Each kind of finding is explained in docs/reconcile.md.

Exit codes: 0 nothing to do, 1 findings, 2 something could not be looked at.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.reconcile(cmd.Context(), o) },
	}
	c.Flags().DurationVar(&o.Since, "since", 0, "look back so far; default 9600h (400 days)")
	c.Flags().IntVar(&o.Limit, "limit", 0, "list at most so many findings; all are counted; default 1000")
	c.Flags().IntVar(&o.Checks, "checks", 0, "ask CAs about at most so many certificates, the newest first; default 10000, -1 none")
	c.Flags().Int64Var(&o.CheckBefore, "check-before", 0, "go on where an earlier run stopped asking CAs (its next_check)")
	c.Flags().BoolVar(&o.Fix, "fix", false, "repair what can be repaired")
	return c
}

func (p *program) reconcile(ctx context.Context, o reconcile.Options) error {
	client, err := p.dial()
	if err != nil {
		return err
	}
	report, code, err := client.Reconcile(ctx, o)
	if err != nil {
		return answered(err)
	}
	if p.json {
		err = p.writeJSON(report)
	} else {
		err = p.differences(report)
	}
	switch {
	case err != nil:
		return err
	case code >= exitError:
		return &reported{errors.New("not everything could be looked at")}
	case code == exitRefused:
		return &refused{}
	}
	return nil
}

// differences prints a report for people.
func (p *program) differences(r reconcile.Report) error {
	rows := [][]string{{"SEVERITY", "FINDING", "CA", "SERIAL", "SUBJECT", "SINCE", "WHY", "DO"}}
	for _, f := range r.Findings {
		do := f.Fix
		switch {
		case f.Fixed:
			do = "repaired"
		case f.FixError != "":
			do = "not repaired: " + f.FixError
		}
		rows = append(rows, []string{
			string(f.Severity), show(f.ID), show(f.CA), show(f.Serial), show(f.Subject), moment(f.Since), show(f.Cause), show(do),
		})
	}
	if len(r.Findings) > 0 {
		if err := p.table(rows); err != nil {
			return err
		}
	}
	for _, text := range r.Incomplete {
		p.printf("could not be looked at: %s\n", show(text))
	}
	for _, text := range r.Notes {
		p.printf("note: %s\n", show(text))
	}
	if r.Unlisted > 0 {
		p.printf("%d more findings are not listed (--limit)\n", r.Unlisted)
	}
	if r.NextCheck > 0 {
		p.printf("%d certificates were not asked about; go on with --check-before %d\n", r.Unchecked, r.NextCheck)
	}
	p.printf("%d enrolments, %d jobs and %d debts since %s; CAs were asked about %s certificates; %d findings, %d repaired\n",
		r.Entries, r.Jobs, r.Debts, r.Since.Local().Format(time.DateOnly), strconv.Itoa(r.Checked), len(r.Findings)+r.Unlisted, r.Fixed)
	return nil
}
