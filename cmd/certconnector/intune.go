package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/certconnector/certconnector/agent"
	"github.com/certconnector/certconnector/internal/retry"
	"github.com/certconnector/certconnector/intune"
)

// lookAgain is how long "intune check --wait" rests between two looks: each
// costs two sign-ins, and Entra ID stops applications that sign in in a loop.
var lookAgain = retry.Schedule{First: 2 * time.Second, Most: 30 * time.Second}

// intuneFlags are the flags of "intune check".
type intuneFlags struct {
	wait  time.Duration
	quiet bool
}

func (p *program) intuneCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "intune",
		Short: "Look after the Intune tenants of the configuration",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var f intuneFlags
	check := &cobra.Command{
		Use:   "check [TENANT...]",
		Short: "Ask whether tenants let the connector do its work, and if not, why",
		Long: `Signs in for each tenant of the configuration, or those named, looks for the
permissions, asks where its services are, and has Intune refuse a request with a
made-up challenge. Nothing is changed; it may run beside the service. Each line
has an ID that docs/intune.md explains.

With --wait, what somebody else has to do (an upload, a consent, a licence) or
what passes by itself is waited for.

Exit codes: 0 ok, 1 warnings, 2 failures.`,
		RunE: func(c *cobra.Command, names []string) error { return p.checkTenants(c.Context(), names, f) },
	}
	check.Flags().DurationVar(&f.wait, "wait", 0, "how long to wait for what somebody else has to do, as 10m")
	check.Flags().BoolVarP(&f.quiet, "quiet", "q", false, "show warnings and failures only")
	c.AddCommand(check)
	return c
}

func (p *program) checkTenants(ctx context.Context, names []string, f intuneFlags) error {
	config, err := agent.LoadConfig(p.config)
	if err != nil {
		return err
	}
	findings, err := p.lookAtTenants(ctx, config, names, f.wait)
	if err != nil {
		return err
	}
	worst := intune.OK
	for _, found := range findings {
		worst = max(worst, found.Level)
	}
	if f.quiet {
		findings = slices.DeleteFunc(findings, func(f agent.TenantFinding) bool { return f.Level < intune.Warning })
	}
	if p.json {
		err = p.writeJSON(map[string]any{"level": worst, "findings": append([]agent.TenantFinding{}, findings...)})
	} else {
		p.showTenants(findings, worst)
	}
	switch {
	case err != nil:
		return err
	case worst == intune.Failure:
		return &reported{errors.New("a check failed")}
	case worst == intune.Warning:
		return &refused{}
	}
	return nil
}

// lookAtTenants looks until nothing is left to wait for, or the time is over.
func (p *program) lookAtTenants(ctx context.Context, config agent.Config, names []string, wait time.Duration) ([]agent.TenantFinding, error) {
	end := time.Now().Add(wait)
	said := ""
	for attempt := 1; ; attempt++ {
		findings, err := agent.CheckTenants(ctx, config, names, currentVersion(), nil)
		if err != nil {
			return nil, err
		}
		f, waits := waitsFor(findings)
		rest := lookAgain.Delay(attempt)
		if !waits || time.Now().Add(rest).After(end) {
			return findings, nil
		}
		if what := f.ID + ": " + f.Text; what != said { // once, not every half minute
			said = what
			_, _ = fmt.Fprintf(p.err, "waiting, until %s at most: %s\n  do: %s\n", end.Format(time.TimeOnly), show(what), show(f.Fix))
		}
		if err := retry.Wait(ctx, rest); err != nil {
			return nil, err
		}
	}
}

// waitsFor is the first failure, if each of them may be mended by somebody
// else, or by time.
func waitsFor(findings []agent.TenantFinding) (first agent.TenantFinding, waits bool) {
	for _, f := range findings {
		switch {
		case f.Level < intune.Failure:
		case !f.Waits:
			return f, false
		case !waits:
			first, waits = f, true
		}
	}
	return first, waits
}

// showTenants prints findings by tenant, each with what to do about it.
func (p *program) showTenants(findings []agent.TenantFinding, worst intune.Level) {
	last := ""
	for _, f := range findings {
		if f.Tenant != last {
			p.printf("tenant %s\n", show(f.Tenant))
			last = f.Tenant
		}
		p.printf("  %-8s %-25s %s\n", f.Level, f.ID, show(f.Text))
		if f.Fix != "" && f.Level > intune.OK {
			p.printf("  %-8s %-25s do: %s\n", "", "", show(f.Fix))
		}
	}
	p.printf("%s\n", map[intune.Level]string{intune.OK: "in order", intune.Note: "in order", intune.Warning: "there are warnings", intune.Failure: "there are failures"}[worst])
}
