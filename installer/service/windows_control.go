package service

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/certconnector/certconnector/internal/osservice"
)

// Hints implements System.
func (w *Windows) Hints(o Options) []string {
	var list []string
	if gone, err := missing(o.Config); gone && err == nil {
		list = append(list, "Make a configuration: certconnector init --dir \""+filepath.Dir(o.Config)+"\" --state-dir \""+o.StateDir+"\"")
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
	if st.Running() || is.Exit == 0 || is.Exit == neverStarted {
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

const (
	specificError = 1066 // ERROR_SERVICE_SPECIFIC_ERROR
	neverStarted  = 1077 // ERROR_SERVICE_NEVER_STARTED: since the computer was started
)

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
