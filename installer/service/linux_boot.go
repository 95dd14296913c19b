//go:build unix

package service

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/certconnector/certconnector/installer/linux"
	"github.com/certconnector/certconnector/installer/steps"
)

// enable is the step that has the units start with the system.
func (l *Linux) enable(units []unit) steps.Step {
	var made []string // that were not enabled before
	return steps.Step{
		Does: "have the service start with the system",
		Holds: func(ctx context.Context) (bool, error) {
			for _, u := range units {
				if !l.enabled(ctx, u.name) {
					return false, nil
				}
			}
			return true, nil
		},
		Do: func(ctx context.Context) error {
			for _, u := range units {
				if !l.enabled(ctx, u.name) {
					made = append(made, u.name)
				}
			}
			return l.systemctl(ctx, "enable", made)
		},
		Undo: func() error { return l.systemctl(context.Background(), "disable", made) },
	}
}

// rest is the step that has units start with the system no more. Those that run
// go on.
func (l *Linux) rest(does string, units ...string) steps.Step {
	var enabled []string
	return steps.Step{
		Does: does,
		Holds: func(ctx context.Context) (bool, error) {
			return !slices.ContainsFunc(units, func(u string) bool { return l.enabled(ctx, u) }), nil
		},
		Do: func(ctx context.Context) error {
			for _, u := range units {
				if l.enabled(ctx, u) {
					enabled = append(enabled, u)
				}
			}
			return l.systemctl(ctx, "disable", enabled)
		},
		Undo: func() error { return l.systemctl(context.Background(), "enable", enabled) },
	}
}

// disable is the step that stops the service, and has it start no more. Units
// may be there that somebody has removed the files of: what runs is stopped,
// and the links that they were started by go.
func (l *Linux) disable() steps.Step {
	units := []string{linux.SocketUnit, linux.ServiceUnit}
	var enabled, active []string
	back := func() error {
		ctx := context.Background()
		return errors.Join(l.systemctl(ctx, "enable", enabled), l.systemctl(ctx, "start", active))
	}
	return steps.Step{
		Does: "stop the service, and have it start no more",
		Holds: func(ctx context.Context) (bool, error) {
			return !slices.ContainsFunc(units, func(u string) bool { return l.enabled(ctx, u) || l.linked(u) || l.active(ctx, u) }), nil
		},
		Do: func(ctx context.Context) error {
			var linked []string
			for _, u := range units {
				if l.enabled(ctx, u) {
					enabled = append(enabled, u)
				} else if l.linked(u) {
					linked = append(linked, u)
				}
				if l.active(ctx, u) {
					active = append(active, u)
				}
			}
			err := l.systemctl(ctx, "disable", append(linked, enabled...))
			if err == nil {
				err = l.systemctl(ctx, "stop", active)
			}
			if err != nil {
				return errors.Join(err, back())
			}
			return nil
		},
		Undo: back,
	}
}

// outdated lists the steps for what systemd opens since an installation before,
// and is to open no more: socket is the text of the unit that is wanted, "" for
// none. They come last, since closing cannot be undone: systemd opens no socket
// for a service that runs. The service keeps what it was handed until a restart.
func (l *Linux) outdated(socket string) ([]steps.Step, error) {
	b, err := os.ReadFile(l.unitFile(linux.SocketUnit))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the socket's unit: %w", err)
	}
	closed := steps.Step{
		Does: "close what systemd has open for listeners of before",
		Holds: func(ctx context.Context) (bool, error) {
			return !l.active(ctx, linux.SocketUnit), nil
		},
		Do: func(ctx context.Context) error {
			return l.systemctl(ctx, "stop", []string{linux.SocketUnit})
		},
	}
	switch {
	case slices.Equal(listens(string(b)), listens(socket)):
		return nil, nil
	case socket != "":
		return []steps.Step{closed}, nil
	case !l.written(linux.SocketUnit):
		return nil, nil // somebody has a use for it
	}
	return []steps.Step{
		l.rest("have "+linux.SocketUnit+" start with the system no more", linux.SocketUnit),
		l.erase(linux.SocketUnit),
		closed,
	}, nil
}

// listens are the lines of a socket's unit that say what is opened.
func listens(unit string) (lines []string) {
	for line := range strings.Lines(unit) {
		if strings.HasPrefix(line, "ListenStream=") {
			lines = append(lines, line)
		}
	}
	return lines
}

// systemctl does something with units, if there are any.
func (l *Linux) systemctl(ctx context.Context, verb string, units []string) error {
	if len(units) == 0 {
		return nil
	}
	_, err := l.run(ctx, "systemctl", append([]string{verb}, units...)...)
	return err
}

func (l *Linux) enabled(ctx context.Context, unit string) bool {
	_, err := l.run(ctx, "systemctl", "is-enabled", unit)
	return err == nil
}

// linked tells whether a unit starts with the system, also where its file is
// gone.
func (l *Linux) linked(unit string) bool {
	links, err := filepath.Glob(l.path(filepath.Join(unitDir, "*.wants", unit)))
	return err == nil && len(links) > 0
}

func (l *Linux) active(ctx context.Context, unit string) bool {
	out, _ := l.run(ctx, "systemctl", "is-active", unit) // the state is in the text
	state := strings.TrimSpace(out)
	return state == "active" || state == "activating" || state == "deactivating" || state == "reloading"
}
