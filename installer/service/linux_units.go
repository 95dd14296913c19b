//go:build unix

package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

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

// erase is the step that removes units.
func (l *Linux) erase(names ...string) steps.Step {
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
			_, _ = l.run(ctx, "systemctl", append([]string{"reset-failed"}, names...)...) // it complains where nothing has failed
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

// written tells whether a unit is one that was written here.
func (l *Linux) written(name string) bool {
	b, err := os.ReadFile(l.unitFile(name))
	return err == nil && bytes.HasPrefix(b, []byte(mark))
}

func (l *Linux) reload(ctx context.Context) error {
	_, err := l.run(ctx, "systemctl", "daemon-reload")
	return err
}
