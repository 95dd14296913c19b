package main

import (
	"context"
	"errors"
	"slices"

	"github.com/spf13/cobra"

	"github.com/certconnector/certconnector/agent"
	"github.com/certconnector/certconnector/ca"
)

func (p *program) caCommand() *cobra.Command {
	c := &cobra.Command{Use: "ca", Short: "Look after the certificate authorities of the configuration"}
	var quiet bool
	check := &cobra.Command{
		Use:   "check [NAME...]",
		Short: "Ask whether CAs can do what the configuration wants of them",
		Long: `Asks each CA of the configuration, or those named, whether it is there, lets us
in, is the right one, and can do what endpoints want of it: rights, templates,
clock, revocation list. Nothing is changed and no certificate is requested; it
may run beside the service. Each line has an ID that docs/ca-check.md explains.

Exit codes: 0 ok, 1 warnings, 2 failures.`,
		RunE: func(c *cobra.Command, names []string) error { return p.checkCAs(c.Context(), names, quiet) },
	}
	check.Flags().BoolVarP(&quiet, "quiet", "q", false, "show warnings and failures only")
	c.AddCommand(check)
	return c
}

func (p *program) checkCAs(ctx context.Context, names []string, quiet bool) error {
	config, err := agent.LoadConfig(p.config)
	if err != nil {
		return err
	}
	findings, err := agent.CheckCAs(ctx, config, names, nil)
	if err != nil {
		return err
	}
	worst := ca.OK
	for _, f := range findings {
		worst = max(worst, f.Level)
	}
	if quiet {
		findings = slices.DeleteFunc(findings, func(f ca.Finding) bool { return f.Level < ca.Warning })
	}
	if p.json {
		err = p.writeJSON(map[string]any{"level": worst, "findings": append([]ca.Finding{}, findings...)})
	} else {
		p.showFindings(findings, worst)
	}
	switch {
	case err != nil:
		return err
	case worst == ca.Failure:
		return &reported{errors.New("a check failed")}
	case worst == ca.Warning:
		return &refused{}
	}
	return nil
}

// showFindings prints findings by CA, each with what to do about it.
func (p *program) showFindings(findings []ca.Finding, worst ca.Level) {
	last := ""
	for _, f := range findings {
		if f.CA != last {
			p.printf("CA %s\n", show(f.CA))
			last = f.CA
		}
		p.printf("  %-8s %-22s %s\n", f.Level, f.ID, show(f.Text))
		if f.Fix != "" && f.Level > ca.OK {
			p.printf("  %-8s %-22s do: %s\n", "", "", show(f.Fix))
		}
	}
	p.printf("%s\n", map[ca.Level]string{ca.OK: "in order", ca.Note: "in order", ca.Warning: "there are warnings", ca.Failure: "there are failures"}[worst])
}
