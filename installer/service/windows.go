package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/certconnector/certconnector/installer/steps"
	"github.com/certconnector/certconnector/internal/durable"
	"github.com/certconnector/certconnector/internal/osservice"
)

// VirtualAccount is the account that a service of Windows runs as where none
// is chosen: its own, without a password, with rights on its folders alone. On
// the network it is the computer.
const VirtualAccount = `NT SERVICE\` + Name

// upgradeCode is that of our package for Windows Installer.
const upgradeCode = "{0F4C2C60-7E9E-4C0B-9F5D-3E2A4E6B5C11}"

// Manager is what Windows does for the steps; osservice.Manager is it.
type Manager interface {
	Controls
	Registrations
	EventSources
	// FirewallRules are those of this computer, as [MS-GPFAS] writes them.
	FirewallRules() ([]string, error)
	// Packaged tells whether a package of Windows Installer is installed.
	Packaged(upgradeCode string) (bool, error)
}

// Controls start and stop services.
type Controls interface {
	Status(name string) (osservice.Status, error)
	Start(ctx context.Context, name string) error
	Stop(ctx context.Context, name string) error
}

// Registrations make services and take them away.
type Registrations interface {
	Command(s osservice.Spec) string
	// Install makes a service, or changes one that is there. When it fails,
	// a new one is gone, and one that was there may have changed by half.
	Install(s osservice.Spec) error
	Restore(name string, was osservice.Status) error
	Uninstall(name string) error
}

// EventSources are the programs that Windows knows the messages of.
type EventSources interface {
	EventSource(name string) (messageFile string, err error)
	RegisterEventSource(name, messageFile string) error
	UnregisterEventSource(name string) error
}

// Windows is a computer with a service manager of Windows.
type Windows struct {
	Manager Manager
	// Restrict gives a folder to Administrators, SYSTEM and the accounts alone;
	// with Readable the accounts may only read.
	Restrict, Readable func(path string, accounts ...string) error
	// Run runs a command and returns what it wrote to standard output.
	Run func(ctx context.Context, name string, args ...string) (string, error)
	// Failure tells why the service with a configuration ended when it last
	// failed; "": nothing is known.
	Failure func(config string) string
}

// Install implements System.
func (w *Windows) Install(_ context.Context, o Options) ([]steps.Step, error) {
	if err := errors.Join(w.unmanaged(), accountName(o.Account)); err != nil {
		return nil, err
	}
	for _, path := range []string{o.Program, o.Config, o.StateDir} {
		if !filepath.IsAbs(path) {
			return nil, fmt.Errorf("%q is not absolute: a service starts in a folder of Windows", path)
		}
	}
	if _, err := os.Stat(o.Program); err != nil {
		return nil, fmt.Errorf("the program: %w", err)
	}
	if err := noLinks(o, func(p string) string { return p }); err != nil {
		return nil, err
	}
	has, err := look(o.StateDir, o.Config)
	if err == nil && !holdsOnly(o.StateDir, filepath.Base(o.Config)) {
		err = has.shared(o.StateDir)
	}
	if err != nil {
		return nil, err
	}
	var list []steps.Step
	if dir := filepath.Dir(o.Config); dir != o.StateDir {
		gone, err := missing(dir)
		if err != nil {
			return nil, err
		}
		// A folder that is there and not named after us is somebody else's too.
		if gone || bearsName(dir) {
			list = append(list, w.folder(dir, o.Account, "read by", w.Readable))
		}
	}
	list = append(list, w.folder(o.StateDir, o.Account, "written by", w.Restrict), w.source(o.Program), w.service(o))
	if o.Firewall {
		list = append(list, w.firewall(o))
	}
	return list, nil
}

// unmanaged refuses a computer where our package manages the service.
func (w *Windows) unmanaged() error {
	packaged, err := w.Manager.Packaged(upgradeCode)
	if err == nil && packaged {
		return errors.New("the package for Windows Installer manages the service: change or remove it there (Settings, Apps, or msiexec); it keeps keys and journal")
	}
	return err
}

// holdsOnly reports whether a folder has one entry, of that name, or what an
// installer and a log leave there.
func holdsOnly(folder, name string) bool {
	entries, err := os.ReadDir(folder)
	return err == nil && !slices.ContainsFunc(entries, func(e os.DirEntry) bool {
		return e.Name() != name && e.Name() != "environment" && e.Name() != "last-failure.json" && !strings.HasPrefix(e.Name(), Name)
	})
}

// accountName refuses accounts that would need a password: it would be typed,
// and expire.
func accountName(account string) error {
	upper := strings.ToUpper(account)
	switch {
	case account == "", strings.ContainsAny(account, "\"\n\r"):
		return errors.New("the account has no name")
	case upper == "LOCALSYSTEM", strings.HasPrefix(upper, `NT AUTHORITY\`), strings.HasPrefix(upper, `NT SERVICE\`):
		return nil
	case strings.Contains(account, `\`) && strings.HasSuffix(account, "$"):
		return nil
	}
	return fmt.Errorf(`the account %q would need a password here: use a group managed service account (DOMAIN\name$) or the default, %s`, account, VirtualAccount)
}

// granted are the accounts that get rights on the folders: the service itself,
// whose identity is in its token whatever it runs as, and the account for
// commands that somebody runs as it.
func granted(account string) []string {
	list := []string{VirtualAccount}
	upper := strings.ToUpper(account)
	if upper != "LOCALSYSTEM" && upper != `NT AUTHORITY\SYSTEM` && !strings.EqualFold(account, VirtualAccount) {
		list = append(list, account)
	}
	return list
}

// folder is the step that makes a folder, or protects one that is there. What
// rights that one had is not kept: they were too wide, or the same.
func (w *Windows) folder(path, account, may string, give func(string, ...string) error) steps.Step {
	made := false
	return steps.Step{
		Does: "make the folder " + path + ", for Administrators and SYSTEM, and " + may + " " + strings.Join(granted(account), " and "),
		Do: func(context.Context) error {
			gone, err := missing(path)
			if err != nil {
				return err
			}
			if gone {
				if err := durable.MakeFolder(path); err != nil {
					return err
				}
				made = true
			}
			if err := give(path, granted(account)...); err != nil {
				if made {
					err = errors.Join(err, os.Remove(path))
				}
				return err
			}
			return nil
		},
		Undo: func() error {
			if !made {
				return nil
			}
			return os.Remove(path)
		},
	}
}

// source is the step that tells the Event Viewer where our events' texts are.
func (w *Windows) source(program string) steps.Step {
	var was string
	return steps.Step{
		Does: "register the event source " + Name + " in the Application log",
		Holds: func(context.Context) (bool, error) {
			file, err := w.Manager.EventSource(Name)
			return strings.EqualFold(file, program), err
		},
		Do: func(context.Context) (err error) {
			if was, err = w.Manager.EventSource(Name); err != nil {
				return err
			}
			return w.Manager.RegisterEventSource(Name, program)
		},
		Undo: func() error {
			if was == "" {
				return w.Manager.UnregisterEventSource(Name)
			}
			return w.Manager.RegisterEventSource(Name, was)
		},
	}
}

// service is the step that makes the service, or changes one that is there.
func (w *Windows) service(o Options) steps.Step {
	spec := osservice.Spec{
		Name: Name, DisplayName: "Certificate connector",
		Description: "Issues certificates to devices by SCEP and Microsoft Intune.",
		Program:     o.Program, Arguments: []string{"run", "--config", o.Config}, Account: o.Account, Manual: o.Manual,
	}
	var was *osservice.Status
	return steps.Step{
		Does: "make the service " + Name + ", which runs as " + o.Account,
		Holds: func(context.Context) (bool, error) {
			st, err := w.Manager.Status(Name)
			if errors.Is(err, osservice.ErrNotInstalled) {
				return false, nil
			}
			return st.Command == w.Manager.Command(spec) && strings.EqualFold(st.Account, o.Account) && st.AutoStart != o.Manual, err
		},
		Do: func(context.Context) error {
			st, err := w.Manager.Status(Name)
			switch {
			case err == nil:
				was = &st
			case !errors.Is(err, osservice.ErrNotInstalled):
				return err
			}
			err = w.Manager.Install(spec)
			if err != nil && was != nil { // it may have changed by half
				err = errors.Join(err, w.Manager.Restore(Name, *was))
			}
			return err
		},
		Undo: func() error {
			if was != nil {
				return w.Manager.Restore(Name, *was)
			}
			return w.Manager.Uninstall(Name)
		},
	}
}
