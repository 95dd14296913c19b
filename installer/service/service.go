// Package service makes certconnector a service of the system and takes it
// away again, as steps that can be shown, done and undone, for who has no
// package: the program alone, from an archive. Where a package manages the
// service it refuses, and says whose it is.
//
// Keys and journal are deleted by a purge alone.
package service

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	"github.com/certconnector/certconnector/installer/steps"
)

// Name is what the service is called everywhere.
const Name = "certconnector"

// Options say what is installed or removed. Paths are absolute.
type Options struct {
	Program  string   // what the service runs
	Config   string   // its configuration; it may still be missing
	StateDir string   // folder for keys and journal
	Ports    []string // that need help: Linux, those below 1024, which systemd opens, as "443" or "192.0.2.1:443"; Windows, all that others reach
	Account  string   // Windows: "NT SERVICE\certconnector", "DOMAIN\gmsa$", "LocalSystem", …
	Firewall bool     // Windows: also let the ports through its firewall
	Manual   bool     // it does not start with the system
	Purge    bool     // of an uninstallation: delete configuration, keys and journal
}

// System is the service manager of an operating system.
type System interface {
	// Install lists what an installation consists of, or says why there can be
	// none. It changes nothing.
	Install(ctx context.Context, o Options) ([]steps.Step, error)
	// Uninstall lists what a removal consists of.
	Uninstall(ctx context.Context, o Options) ([]steps.Step, error)
	// Hints tell what is left for a person after an installation.
	Hints(o Options) []string
	// Start starts the service and waits until it serves, Stop until it has
	// stopped. Being so already is no error.
	Start(ctx context.Context) error
	Stop(ctx context.Context) error
	// Restart stops the service if it runs, and starts it.
	Restart(ctx context.Context) error
	// Status asks how the service is. That there is none is no error.
	Status(ctx context.Context) (Status, error)
}

// Status is what a system knows of the service.
type Status struct {
	Installed bool      `json:"installed"`
	Package   string    `json:"package,omitempty"` // that manages the service; "": none
	Enabled   bool      `json:"enabled"`           // it starts with the system
	State     string    `json:"state"`             // running, starting, stopping, stopped, failed, …
	PID       int       `json:"pid,omitempty"`
	Since     time.Time `json:"since,omitzero"` // when it began to run
	Restarts  int       `json:"restarts,omitempty"`
	Account   string    `json:"account,omitempty"`
	Program   string    `json:"program,omitempty"`
	Config    string    `json:"config,omitempty"`
	Failure   string    `json:"failure,omitempty"` // why it does not run; "": nothing is known
}

// Running reports whether the service serves.
func (s Status) Running() bool { return s.State == "running" }

// deletion is a step that deletes a file, or a folder with all that is in it.
func deletion(does, path string) steps.Step {
	return steps.Step{
		Does:  does,
		Holds: func(context.Context) (bool, error) { return missing(path) },
		Do:    func(context.Context) error { return removeTree(path) },
	}
}

// emptied is a step that removes a folder if nothing is left in it.
func emptied(name, path string) steps.Step {
	return steps.Step{
		Does:  "remove the folder " + name + ", if nothing else is in it",
		Holds: func(context.Context) (bool, error) { return missing(path) },
		Do: func(context.Context) error {
			if entries, err := os.ReadDir(path); err != nil || len(entries) > 0 {
				return err
			}
			return os.Remove(path)
		},
	}
}

func missing(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return false, err
}
