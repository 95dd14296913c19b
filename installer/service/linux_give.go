//go:build unix

package service

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/certconnector/certconnector/installer/linux"
	"github.com/certconnector/certconnector/installer/steps"
)

// giveAway is the step that gives a state folder's files to the account.
func (l *Linux) giveAway(dir string) steps.Step {
	was := map[string]rights{}
	undo := func() error {
		return l.each(dir, func(folder *os.Root, name string, _ *syscall.Stat_t) error {
			r, ok := was[name]
			if !ok {
				return nil
			}
			return l.lchown(folder, name, r.uid, r.gid)
		})
	}
	return steps.Step{
		Does: "give what is in " + dir + " to the account " + linux.Account,
		Holds: func(ctx context.Context) (bool, error) {
			uid, gid, err := l.mustIDs(ctx)
			if err != nil {
				return false, nil // the account comes first
			}
			holds := true
			err = l.each(dir, func(_ *os.Root, _ string, s *syscall.Stat_t) error {
				holds = holds && int(s.Uid) == uid && int(s.Gid) == gid
				return nil
			})
			return holds, err
		},
		Do: func(ctx context.Context) error {
			uid, gid, err := l.mustIDs(ctx)
			if err != nil {
				return err
			}
			err = l.each(dir, func(folder *os.Root, name string, s *syscall.Stat_t) error {
				if err := l.lchown(folder, name, uid, gid); err != nil {
					return err
				}
				was[name] = rights{uid: int(s.Uid), gid: int(s.Gid)}
				return nil
			})
			if err != nil {
				return errors.Join(err, undo())
			}
			return nil
		},
		Undo: undo,
	}
}

// each calls do for everything in a state folder. The folder may belong to an
// account that could put a link there meanwhile: files are reached below the
// folder only, and links are not followed. A file that has another name, too,
// may be somebody else's, and is left out.
func (l *Linux) each(dir string, do func(folder *os.Root, name string, s *syscall.Stat_t) error) error {
	folder, err := os.OpenRoot(l.path(dir))
	if err != nil {
		return fmt.Errorf("opening the state folder: %w", err)
	}
	defer func() { _ = folder.Close() }() // nothing is written through it
	return fs.WalkDir(folder.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		s, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return fmt.Errorf("%q has no owner", name)
		}
		if info.Mode().IsRegular() && s.Nlink > 1 {
			return nil
		}
		return do(folder, name, s)
	})
}
