package firstrun

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
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

// ours tells whether an entry of the state folder is of this first run. New
// has seen that none of them was there before.
func ours(name string) bool {
	return strings.HasPrefix(name, JournalFile) ||
		slices.Contains([]string{ConfigFile, LocalKeyFile, ChallengeFile, CAFolder, RAFolder, TLSFolder, EntraFolder}, name)
}
