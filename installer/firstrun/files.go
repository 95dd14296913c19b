package firstrun

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/certconnector/certconnector/internal/durable"
)

// writeNew writes a file that must not exist, and syncs it and its folder.
func writeNew(path string, content []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return fmt.Errorf("creating a file: %w", err)
	}
	_, err = f.Write(content)
	if err := errors.Join(err, f.Sync(), f.Close(), durable.SyncFolder(filepath.Dir(path))); err != nil {
		return errors.Join(fmt.Errorf("writing %q: %w", path, err), os.Remove(path))
	}
	return nil
}

// remove removes files; one that is not there is fine.
func remove(paths ...string) error {
	var errs []error
	for _, p := range paths {
		if err := os.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// makeFolder makes a folder for the owner only and reports whether it is new.
func makeFolder(path string) (made bool, err error) {
	if info, err := os.Stat(path); err == nil {
		if !info.IsDir() {
			return false, fmt.Errorf("%q is a file", path)
		}
		return false, nil
	}
	return durable.MakeNew(path)
}
