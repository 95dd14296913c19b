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
	"github.com/certconnector/certconnector/internal/durable"
)

// unit is a file of systemd.
type unit struct{ name, text string }

func (l *Linux) unitFile(name string) string { return l.path(filepath.Join(unitDir, name)) }

// write is the step that writes the units and has systemd read them.
func (l *Linux) write(units []unit) steps.Step {
	names := make([]string, len(units))
	for i, u := range units {
		names[i] = u.name
	}
	was := map[string][]byte{}
	return steps.Step{
		Does: "write " + strings.Join(names, " and ") + " into " + unitDir,
		Holds: func(context.Context) (bool, error) {
			for _, u := range units {
				if b, err := os.ReadFile(l.unitFile(u.name)); err != nil || string(b) != u.text {
					return false, nil
				}
			}
			return true, nil
		},
		Do: func(ctx context.Context) error {
			err := l.remember(names, was)
			for _, u := range units {
				if err == nil {
					err = durable.WriteFile(l.unitFile(u.name), []byte(u.text), 0o644)
				}
			}
			if err == nil {
				err = l.reload(ctx)
			}
			if err != nil {
				return errors.Join(err, l.putBack(was))
			}
			return nil
		},
		Undo: func() error { return l.putBack(was) },
	}
}

// erase is the step that removes the units.
func (l *Linux) erase() steps.Step {
	names := []string{linux.ServiceUnit, linux.SocketUnit}
	was := map[string][]byte{}
	return steps.Step{
		Does: "remove " + strings.Join(names, " and ") + " from " + unitDir,
		Holds: func(context.Context) (bool, error) {
			for _, n := range names {
				if gone, err := missing(l.unitFile(n)); !gone || err != nil {
					return false, err
				}
			}
			return true, nil
		},
		Do: func(ctx context.Context) error {
			err := l.remember(names, was)
			for _, n := range names {
				if removeErr := os.Remove(l.unitFile(n)); err == nil && !errors.Is(removeErr, fs.ErrNotExist) {
					err = removeErr
				}
			}
			if err == nil {
				err = l.reload(ctx)
			}
			if err != nil {
				return errors.Join(err, l.putBack(was))
			}
			_, _ = l.run(ctx, "systemctl", "reset-failed", linux.ServiceUnit) // it complains where nothing has failed
			return nil
		},
		Undo: func() error { return l.putBack(was) },
	}
}

// remember reads the units that are there; of one that is not there it is nil.
func (l *Linux) remember(names []string, was map[string][]byte) error {
	for _, n := range names {
		b, err := os.ReadFile(l.unitFile(n))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("reading a unit: %w", err)
		}
		was[n] = b
	}
	return nil
}

// putBack makes the units what they were.
func (l *Linux) putBack(was map[string][]byte) error {
	var errs []error
	for n, b := range was {
		if b != nil {
			errs = append(errs, durable.WriteFile(l.unitFile(n), b, 0o644))
		} else if err := os.Remove(l.unitFile(n)); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, l.reload(context.Background()))...)
}

func (l *Linux) reload(ctx context.Context) error {
	_, err := l.run(ctx, "systemctl", "daemon-reload")
	return err
}

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
			_, err := l.run(ctx, "systemctl", append([]string{"enable"}, made...)...)
			return err
		},
		Undo: func() error {
			_, err := l.run(context.Background(), "systemctl", append([]string{"disable"}, made...)...)
			return err
		},
	}
}

// disable is the step that stops the service, and has it start no more.
func (l *Linux) disable() steps.Step {
	units := []string{linux.SocketUnit, linux.ServiceUnit}
	var enabled, active []string
	return steps.Step{
		Does: "stop the service, and have it start no more",
		Holds: func(ctx context.Context) (bool, error) {
			return !slices.ContainsFunc(units, func(u string) bool { return l.enabled(ctx, u) || l.active(ctx, u) }), nil
		},
		Do: func(ctx context.Context) error {
			there := slices.DeleteFunc(slices.Clone(units), func(u string) bool {
				gone, err := missing(l.unitFile(u))
				return gone && err == nil
			})
			for _, u := range there {
				if l.enabled(ctx, u) {
					enabled = append(enabled, u)
				}
				if l.active(ctx, u) {
					active = append(active, u)
				}
			}
			_, err := l.run(ctx, "systemctl", append([]string{"disable", "--now"}, there...)...)
			return err
		},
		Undo: func() error {
			var errs []error
			for verb, units := range map[string][]string{"enable": enabled, "start": active} {
				if len(units) > 0 {
					_, err := l.run(context.Background(), "systemctl", append([]string{verb}, units...)...)
					errs = append(errs, err)
				}
			}
			return errors.Join(errs...)
		},
	}
}

func (l *Linux) enabled(ctx context.Context, unit string) bool {
	_, err := l.run(ctx, "systemctl", "is-enabled", unit)
	return err == nil
}

func (l *Linux) active(ctx context.Context, unit string) bool {
	out, _ := l.run(ctx, "systemctl", "is-active", unit) // the state is in the text
	state := strings.TrimSpace(out)
	return state == "active" || state == "activating" || state == "deactivating" || state == "reloading"
}
