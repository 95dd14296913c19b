//go:build unix

package service

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/certconnector/certconnector/installer/linux"
	"github.com/certconnector/certconnector/installer/steps"
	"github.com/certconnector/certconnector/internal/durable"
)

// rights are who owns a file and what others may do.
type rights struct {
	uid, gid int
	mode     fs.FileMode
}

func rightsOf(path string) (rights, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return rights{}, err
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return rights{}, fmt.Errorf("%q has no owner", path)
	}
	return rights{int(s.Uid), int(s.Gid), info.Mode().Perm()}, nil
}

func (r rights) give(path string) error {
	if err := os.Lchown(path, r.uid, r.gid); err != nil {
		return fmt.Errorf("changing the owner: %w", err)
	}
	if err := os.Chmod(path, r.mode); err != nil {
		return fmt.Errorf("changing the mode: %w", err)
	}
	return nil
}

// configFolder is the step for the configuration's folder: root writes it, the
// service reads it. A folder that is there and not named after us is somebody
// else's too, and is left as it is.
func (l *Linux) configFolder(o Options) steps.Step {
	dir := filepath.Dir(o.Config)
	s := l.folder(dir, func(ctx context.Context) (rights, error) {
		_, gid, err := l.mustIDs(ctx)
		return rights{root(), gid, 0o750}, err
	})
	if !bearsName(dir) {
		s.Holds = func(context.Context) (bool, error) {
			gone, err := missing(l.path(dir))
			return !gone, err
		}
	}
	return s
}

// stateFolder is the step for the state folder, which is the service's own.
func (l *Linux) stateFolder(o Options) steps.Step {
	return l.folder(o.StateDir, func(ctx context.Context) (rights, error) {
		uid, gid, err := l.mustIDs(ctx)
		return rights{uid, gid, 0o700}, err
	})
}

// folder is a step that makes a folder, or gives one that is there its rights.
func (l *Linux) folder(dir string, want func(context.Context) (rights, error)) steps.Step {
	path := l.path(dir)
	var was *rights // nil: it was not there
	return steps.Step{
		Does: "make the folder " + dir + ", for the service's account",
		Holds: func(ctx context.Context) (bool, error) {
			w, err := want(ctx)
			if err != nil {
				return false, nil // the account comes first
			}
			is, err := rightsOf(path)
			if errors.Is(err, fs.ErrNotExist) {
				return false, nil
			}
			return is == w, err
		},
		Do: func(ctx context.Context) error {
			w, err := want(ctx)
			if err != nil {
				return err
			}
			if is, err := rightsOf(path); err == nil {
				was = &is
				return w.give(path)
			}
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				return fmt.Errorf("making a folder: %w", err)
			}
			if err := durable.MakeFolder(path); err != nil {
				return err
			}
			if err := w.give(path); err != nil {
				return errors.Join(err, os.Remove(path))
			}
			return nil
		},
		Undo: func() error {
			if was != nil {
				return was.give(path)
			}
			return os.Remove(path)
		},
	}
}

// handOver lists the steps that give the service what root has made before the
// account was there: the state folder's files, and the configuration to read.
func (l *Linux) handOver(o Options) ([]steps.Step, error) {
	var list []steps.Step
	has, err := look(l.path(o.StateDir), l.path(o.Config))
	if err == nil {
		err = has.shared(o.StateDir)
	}
	if err != nil {
		return nil, err
	}
	if has.marked {
		list = append(list, l.giveAway(o.StateDir))
	}
	if gone, err := missing(l.path(o.Config)); err != nil || !gone {
		list = append(list, l.readable(o.Config))
	}
	return list, nil
}

// readable is the step that lets the account read the configuration.
func (l *Linux) readable(config string) steps.Step {
	path := l.path(config)
	var was rights
	return steps.Step{
		Does: "let the account " + linux.Account + " read " + config,
		Holds: func(ctx context.Context) (bool, error) {
			uid, gid, err := l.mustIDs(ctx)
			if err != nil {
				return false, nil // the account comes first
			}
			is, err := rightsOf(path)
			return (is.gid == gid && is.mode&0o040 != 0) || (is.uid == uid && is.mode&0o400 != 0) || is.mode&0o004 != 0, err
		},
		Do: func(ctx context.Context) (err error) {
			_, gid, err := l.mustIDs(ctx)
			if err != nil {
				return err
			}
			if was, err = rightsOf(path); err != nil {
				return err
			}
			return rights{was.uid, gid, 0o640}.give(path)
		},
		Undo: func() error { return was.give(path) },
	}
}
