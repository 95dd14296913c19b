package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/certconnector/certconnector/agent"
	"github.com/certconnector/certconnector/installer/service"
)

// serviceFlags are the flags of "service install" and "uninstall".
type serviceFlags struct {
	o         service.Options
	root      string // for tests
	plan, yes bool
	given     func(flag string) bool
}

func (p *program) serviceCommand() *cobra.Command {
	var root string
	c := &cobra.Command{
		Use:   "service",
		Short: "Make certconnector a service of this system, start, stop and look at it",
		Long: `Makes certconnector a service of this system where no package does: a unit of
systemd on Linux, a service of Windows there. Each installation and removal is
a list of steps; --plan only shows it, and when a step fails those before it are
undone. Keys and journal are deleted by "uninstall --purge" alone.

Exit codes: 0 ok, 1 refused (status: does not run, or is not ready), 2 error.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.PersistentFlags().StringVar(&root, "root", "", "folder that stands for /, for tests")
	_ = c.PersistentFlags().MarkHidden("root") // the flag is there
	c.AddCommand(p.serviceInstallCommand(&root), p.serviceUninstallCommand(&root), p.serviceStatusCommand(&root), p.reloadCommand())
	for _, verb := range []struct {
		name, short string
		do          func(service.System, context.Context) error
	}{
		{"start", "Start the service and wait until it serves", service.System.Start},
		{"stop", "Stop the service and wait until requests in flight are finished", service.System.Stop},
		{"restart", "Stop the service and start it again", service.System.Restart},
	} {
		c.AddCommand(&cobra.Command{
			Use: verb.name, Short: verb.short, Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return p.serviceControl(cmd.Context(), verb.name, root, verb.do)
			},
		})
	}
	return c
}

// thisSystem is the service manager of this system.
func thisSystem(root string) service.System {
	return service.This(root, func(config string) string {
		if f, err := readFailure(agent.StateDir(config)); err == nil && f != nil {
			return f.Error
		}
		return ""
	})
}

func (p *program) serviceInstallCommand(root *string) *cobra.Command {
	var f serviceFlags
	c := &cobra.Command{
		Use:   "install",
		Short: "Make certconnector a service of this system",
		Long: `Makes certconnector a service of this system: account, folders with their
rights, and the unit or service, which starts with the system but not now.
Done again, it changes what differs and nothing else; without --config and
--account it keeps those that the service has. Run it as root or as
Administrator, with the program where it is to stay.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.root, f.given = *root, cmd.Flags().Changed
			return p.serviceInstall(cmd.Context(), f)
		},
	}
	f.shared(c)
	c.Flags().StringVar(&f.o.Program, "program", "", "program that the service runs (default: this one)")
	c.Flags().BoolVar(&f.o.Manual, "manual", false, "do not start with the system")
	c.Flags().StringVar(&f.o.Account, "account", "", `Windows: account to run as, a gMSA as DOMAIN\name$ (default "`+service.VirtualAccount+`")`)
	c.Flags().BoolVar(&f.o.Firewall, "firewall", false, "Windows: also let the ports through its firewall")
	return c
}

func (p *program) serviceUninstallCommand(root *string) *cobra.Command {
	var f serviceFlags
	c := &cobra.Command{
		Use:   "uninstall",
		Short: "Stop and remove the service; configuration, keys and journal stay",
		Long: `Stops the service and removes it. The account, configuration, keys and journal
stay, so that it can be installed again. With --purge configuration, keys and
journal are deleted too, which cannot be undone: certificates that an embedded
CA has issued can then not be revoked any more. Its name must be typed, or
--yes given.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.root, f.given = *root, cmd.Flags().Changed
			return p.serviceUninstall(cmd.Context(), f)
		},
	}
	f.shared(c)
	c.Flags().BoolVar(&f.o.Purge, "purge", false, "delete configuration, keys and journal too")
	c.Flags().BoolVar(&f.yes, "yes", false, "with --purge: do not ask")
	c.Flags().BoolVar(&f.o.Firewall, "firewall", false, "Windows: remove the rule that \"install --firewall\" made")
	return c
}

func (f *serviceFlags) shared(c *cobra.Command) {
	c.Flags().BoolVar(&f.plan, "plan", false, "only show the steps")
	c.Flags().StringVar(&f.o.StateDir, "state-dir", "", "folder for keys and journal (default: as the configuration says)")
}

// complete fills in what was not chosen.
func (p *program) complete(o *service.Options) (err error) {
	if o.Config, err = filepath.Abs(p.config); err != nil {
		return fmt.Errorf("--config: %w", err)
	}
	if o.Program == "" {
		if o.Program, err = os.Executable(); err != nil {
			return fmt.Errorf("finding this program, name it with --program: %w", err)
		}
	}
	if o.Program, err = filepath.Abs(o.Program); err != nil {
		return fmt.Errorf("--program: %w", err)
	}
	if o.StateDir == "" {
		o.StateDir = agent.StateDir(o.Config)
	}
	if o.Account == "" {
		o.Account = service.VirtualAccount
	}
	o.Ports = servicePorts(o.Config, runtime.GOOS == "windows")
	return nil
}

// servicePorts are the ports that need help: on Linux those below 1024, with
// the host that the configuration has, on Windows all that others reach.
// Without a configuration it is 443.
func servicePorts(config string, all bool) []string {
	if _, err := os.Stat(config); err != nil {
		return []string{"443"}
	}
	c, err := agent.LoadConfig(config)
	if err != nil && len(c.Listeners) == 0 {
		return []string{"443"}
	}
	var ports []string
	for _, l := range c.Listeners {
		host, port, err := net.SplitHostPort(l.Address)
		n, numberErr := strconv.Atoi(port)
		local := net.ParseIP(host).IsLoopback()
		if err != nil || numberErr != nil || (n >= 1024 && (!all || local)) {
			continue
		}
		if host != "" && !all {
			port = net.JoinHostPort(host, port)
		}
		if !slices.Contains(ports, port) {
			ports = append(ports, port)
		}
	}
	return ports
}

func (p *program) serviceInstall(ctx context.Context, f serviceFlags) error {
	system := thisSystem(f.root)
	st, statusErr := system.Status(ctx)
	p.keep(st, &f)
	if err := p.complete(&f.o); err != nil {
		return err
	}
	list, err := system.Install(ctx, f.o)
	if err != nil {
		return &refused{err} // it knows better than Status why, as where there is no systemd
	}
	if statusErr != nil {
		return fmt.Errorf("asking which configuration the service has: %w", statusErr)
	}
	if done, err := p.carryOut(ctx, list, f.plan); err != nil || !done {
		return err
	}
	if !p.json {
		p.printf("\nNext:\n")
		for i, hint := range system.Hints(f.o) {
			p.printf("%d. %s\n", i+1, showLines(hint))
		}
	}
	return nil
}

// keep takes what no flag names from the service that is there. Ports change
// more often than its configuration's place and its account, which would
// otherwise go back to the defaults.
func (p *program) keep(st service.Status, f *serviceFlags) {
	if st.Config != "" && !f.given("config") {
		p.config = st.Config
	}
	if !f.given("account") {
		f.o.Account = st.Account // complete has one for ""
	}
}

func (p *program) serviceUninstall(ctx context.Context, f serviceFlags) error {
	system := thisSystem(f.root)
	if err := p.installed(ctx, system, f); err != nil {
		return err
	}
	if err := p.complete(&f.o); err != nil {
		return err
	}
	list, err := system.Uninstall(ctx, f.o)
	if err != nil {
		return &refused{err}
	}
	if f.o.Purge && !f.yes && !f.plan {
		if err := p.confirm("This deletes the keys and the journal in " + show(f.o.StateDir) + " for good."); err != nil {
			return err
		}
	}
	_, err = p.carryOut(ctx, list, f.plan)
	return err
}

// installed takes the configuration of the service that is installed where none
// was named, and refuses to purge another one.
func (p *program) installed(ctx context.Context, system service.System, f serviceFlags) error {
	st, err := system.Status(ctx)
	switch {
	case err != nil && f.o.Purge:
		return fmt.Errorf("asking which configuration the service has: %w", err)
	case err != nil || st.Config == "":
		return nil
	case !f.given("config"):
		p.config = st.Config
		return nil
	}
	path, err := filepath.Abs(p.config)
	same := path == st.Config || (runtime.GOOS == "windows" && strings.EqualFold(path, st.Config))
	if err == nil && f.o.Purge && !same {
		err = &refused{fmt.Errorf("the service that is installed has the configuration %q, not %q: leave --config out, or remove the service without --purge first", st.Config, path)}
	}
	return err
}

func (p *program) serviceControl(ctx context.Context, verb, root string, do func(service.System, context.Context) error) error {
	system := thisSystem(root)
	if err := do(system, ctx); err != nil {
		return err
	}
	st, err := system.Status(ctx)
	if err != nil {
		return err
	}
	if p.json {
		return p.writeJSON(st)
	}
	p.printf("%s: the service is %s\n", verb, show(st.State))
	return nil
}
