//go:build unix

package service

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// removeTree removes a file or folder. Links are removed, not followed, also
// those that a process of the service's account puts there meanwhile.
func removeTree(path string) error {
	parent, err := os.OpenRoot(filepath.Dir(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = errors.Join(parent.RemoveAll(filepath.Base(path)), parent.Close())
	}
	if err != nil {
		return fmt.Errorf("deleting: %w", err)
	}
	return nil
}
