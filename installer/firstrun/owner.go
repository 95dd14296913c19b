package firstrun

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/certconnector/certconnector/installer/steps"
)

// account is who the service runs as, where a package made it.
type account struct {
	name     string // its number where it has none
	uid, gid int
}

// handOver gives everything that was made to the service's account: what root
// made for root's eyes, the service could not read. A configuration beside
// the state may be read by the account, and is changed by root only.
//
// The folder belongs to the account, which could put a link there while root
// works in it: files are reached below the folder only, and links are not
// followed.
func (p *Plan) handOver(context.Context) error {
	state, err := os.OpenRoot(p.o.StateDir)
	if err != nil {
		return fmt.Errorf("opening the state folder: %w", err)
	}
	defer func() { _ = state.Close() }() // nothing is written through it
	entries, err := fs.ReadDir(state.FS(), ".")
	if err != nil {
		return fmt.Errorf("listing the state folder: %w", err)
	}
	for _, e := range entries {
		if !ours(e.Name()) {
			continue
		}
		err := fs.WalkDir(state.FS(), e.Name(), func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return state.Lchown(path, p.owner.uid, p.owner.gid)
		})
		if err != nil {
			return fmt.Errorf("changing the owner: %w", err)
		}
	}
	if p.o.Dir == p.o.StateDir {
		return nil // the configuration was among them
	}
	config := p.path(ConfigFile)
	if err := os.Lchown(config, 0, p.owner.gid); err != nil {
		return fmt.Errorf("changing the owner: %w", err)
	}
	if err := os.Chmod(config, 0o640); err != nil {
		return fmt.Errorf("letting the account read the configuration: %w", err)
	}
	return nil
}

// configFolder plans the folder of a configuration beside the state, with those
// above it that are not there. The account reads in those that were made; what
// was there is left as it is.
func (p *Plan) configFolder() {
	var made []string // innermost first
	undo := func() error { return remove(made...) }
	p.steps = append(p.steps, steps.Step{
		Does: "make the folder " + p.o.Dir,
		Do: func(context.Context) error {
			for _, path := range append(absent(filepath.Dir(p.o.Dir)), p.o.Dir) {
				is, err := makeFolder(path)
				if is {
					made = append([]string{path}, made...)
				}
				if err == nil && is && p.owner != nil {
					err = giveFolder(path, p.owner.gid)
				}
				if err != nil {
					return errors.Join(err, undo())
				}
			}
			return nil
		},
		Undo: undo,
	})
}

// absent are the folders of a path that are not there, outermost first.
func absent(path string) []string {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) || filepath.Dir(path) == path {
		return nil
	}
	return append(absent(filepath.Dir(path)), path)
}

// ours tells whether an entry of the state folder is of this first run. New
// has seen that none of them was there before.
func ours(name string) bool {
	return strings.HasPrefix(name, JournalFile) ||
		slices.Contains([]string{ConfigFile, LocalKeyFile, ChallengeFile, CAFolder, RAFolder, TLSFolder, EntraFolder}, name)
}
