package firstrun

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/certconnector/certconnector/internal/durable"
)

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
