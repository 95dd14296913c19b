package service

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/certconnector/certconnector/installer/steps"
	"github.com/certconnector/certconnector/internal/osservice"
)

// Uninstall implements System. The service goes last: it cannot be brought
// back as it was.
func (w *Windows) Uninstall(_ context.Context, o Options) ([]steps.Step, error) {
	if err := w.unmanaged(); err != nil {
		return nil, err
	}
	list := []steps.Step{w.stop(), w.unsource()}
	if o.Firewall {
		list = append(list, w.closeFirewall(o))
	}
	list = append(list, w.delete())
	if !o.Purge {
		return list, nil
	}
	purged, err := purge(o, func(p string) string { return p })
	return append(list, purged...), err
}

// stop is the step that stops the service.
func (w *Windows) stop() steps.Step {
	return steps.Step{
		Does: "stop the service",
		Holds: func(context.Context) (bool, error) {
			st, err := w.Manager.Status(Name)
			if errors.Is(err, osservice.ErrNotInstalled) {
				return true, nil
			}
			return st.State == "stopped", err
		},
		Do:   func(ctx context.Context) error { return w.Manager.Stop(ctx, Name) },
		Undo: func() error { return w.Manager.Start(context.Background(), Name) },
	}
}

// unsource is the step that removes the event source.
func (w *Windows) unsource() steps.Step {
	var was string
	return steps.Step{
		Does: "remove the event source " + Name,
		Holds: func(context.Context) (bool, error) {
			file, err := w.Manager.EventSource(Name)
			return file == "", err
		},
		Do: func(context.Context) (err error) {
			if was, err = w.Manager.EventSource(Name); err != nil {
				return err
			}
			return w.Manager.UnregisterEventSource(Name)
		},
		Undo: func() error { return w.Manager.RegisterEventSource(Name, was) },
	}
}

// delete is the step that removes the service.
func (w *Windows) delete() steps.Step {
	return steps.Step{
		Does: "remove the service " + Name,
		Holds: func(context.Context) (bool, error) {
			_, err := w.Manager.Status(Name)
			if errors.Is(err, osservice.ErrNotInstalled) {
				return true, nil
			}
			return false, err
		},
		Do: func(context.Context) error { return w.Manager.Uninstall(Name) },
	}
}

// rule is the firewall's rule, as netsh takes it.
func rule(o Options) []string {
	return []string{
		"advfirewall", "firewall", "add", "rule", "name=" + Name, "dir=in", "action=allow", "protocol=TCP",
		"localport=" + strings.Join(ports(o), ","), "program=" + o.Program,
	}
}

func ports(o Options) []string {
	if len(o.Ports) == 0 {
		return []string{"443"}
	}
	return o.Ports
}

// firewall is the step that lets devices through.
func (w *Windows) firewall(o Options) steps.Step {
	s := steps.Step{
		Does:  "let port " + strings.Join(ports(o), ", ") + " through the firewall of Windows",
		Holds: w.hasRule,
		Do: func(ctx context.Context) error {
			_, err := w.Run(ctx, "netsh", rule(o)...)
			return err
		},
	}
	s.Undo = func() error { return w.dropRule(context.Background()) }
	return s
}

// closeFirewall is the step that takes the rule away.
func (w *Windows) closeFirewall(o Options) steps.Step {
	return steps.Step{
		Does: "remove the rule " + Name + " from the firewall of Windows",
		Holds: func(ctx context.Context) (bool, error) {
			has, err := w.hasRule(ctx)
			return !has, err
		},
		Do: w.dropRule,
		Undo: func() error {
			_, err := w.Run(context.Background(), "netsh", rule(o)...)
			return err
		},
	}
}

func (w *Windows) hasRule(ctx context.Context) (bool, error) {
	_, err := w.Run(ctx, "netsh", "advfirewall", "firewall", "show", "rule", "name="+Name) // fails where there is none
	return err == nil, nil
}

func (w *Windows) dropRule(ctx context.Context) error {
	_, err := w.Run(ctx, "netsh", "advfirewall", "firewall", "delete", "rule", "name="+Name)
	return err
}

// Hints implements System.
func (w *Windows) Hints(o Options) []string {
	var list []string
	if gone, err := missing(o.Config); gone && err == nil {
		list = append(list, "Make a configuration: certconnector init --dir \""+o.StateDir+"\"")
	}
	if strings.HasSuffix(o.Account, "$") {
		list = append(list, "Give "+o.Account+" the right \"Log on as a service\" (secpol.msc, Local Policies, User Rights Assignment),\n"+
			"   and let this computer use it: Install-ADServiceAccount, Test-ADServiceAccount.")
	}
	list = append(list, "Start with: certconnector service start")
	if !o.Firewall {
		list = append(list, "Let devices through the firewall, as Administrator in PowerShell:\n"+
			"   New-NetFirewallRule -Name "+Name+" -DisplayName "+Name+" -Direction Inbound -Protocol TCP -LocalPort "+
			strings.Join(ports(o), ",")+" -Program \""+o.Program+"\" -Action Allow")
	}
	return list
}

// Start implements System.
func (w *Windows) Start(ctx context.Context) error {
	st, err := w.Status(ctx)
	if err != nil {
		return err
	}
	if !st.Installed {
		return errNone
	}
	if gone, err := missing(st.Config); gone && err == nil && st.Config != "" {
		return fmt.Errorf("there is no configuration at %q: make one by \"certconnector init\"", st.Config)
	}
	err = w.Manager.Start(ctx, Name)
	if err == nil {
		return nil
	}
	if why := w.Failure(st.Config); why != "" {
		return fmt.Errorf("%w: %s", err, why)
	}
	return err
}

// Stop implements System.
func (w *Windows) Stop(ctx context.Context) error { return said(w.Manager.Stop(ctx, Name)) }

// Restart implements System.
func (w *Windows) Restart(ctx context.Context) error {
	if err := w.Stop(ctx); err != nil {
		return err
	}
	return w.Start(ctx)
}

// said tells the way out where there is no service.
func said(err error) error {
	if errors.Is(err, osservice.ErrNotInstalled) {
		return errNone
	}
	return err
}

// errNone is what commands say that need a service.
var errNone = errors.New("no service is installed: run \"certconnector service install\" first")

// Status implements System.
func (w *Windows) Status(context.Context) (Status, error) {
	is, err := w.Manager.Status(Name)
	if errors.Is(err, osservice.ErrNotInstalled) {
		return Status{State: "not installed"}, nil
	}
	if err != nil {
		return Status{}, err
	}
	st := Status{
		Installed: true, Enabled: is.AutoStart, State: is.State, PID: int(is.PID), Since: is.Since, Account: is.Account,
	}
	st.Program, st.Config = splitCommand(is.Command)
	if packaged, err := w.Manager.Packaged(upgradeCode); err == nil && packaged {
		st.Package = "certconnector (Windows Installer)"
	}
	if st.Running() || is.Exit == 0 {
		return st, nil
	}
	st.State = "failed"
	st.Failure = fmt.Sprintf("exit code %d", is.Exit)
	if is.Exit == specificError {
		st.Failure = fmt.Sprintf("its own exit code %d", is.Specific)
	}
	if why := w.Failure(st.Config); why != "" {
		st.Failure = why + " (" + st.Failure + ")"
	}
	return st, nil
}

// specificError is ERROR_SERVICE_SPECIFIC_ERROR.
const specificError = 1066

// splitCommand reads program and configuration from a command line. Programs
// of services are quoted, or have no spaces in their path.
func splitCommand(command string) (program, config string) {
	words := words(command)
	for i, w := range words {
		if w == "--config" && i+1 < len(words) {
			config = words[i+1]
		}
	}
	if len(words) > 0 {
		program = words[0]
	}
	return program, config
}

// words splits at spaces outside quotes. Paths have no quotes in them.
func words(line string) []string {
	var list []string
	var word strings.Builder
	quoted, begun := false, false
	for _, r := range line {
		switch {
		case r == '"':
			quoted, begun = !quoted, true
		case r == ' ' && !quoted:
			if begun {
				list = append(list, word.String())
			}
			word.Reset()
			begun = false
		default:
			word.WriteRune(r)
			begun = true
		}
	}
	if begun {
		list = append(list, word.String())
	}
	return list
}
