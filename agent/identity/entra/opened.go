package entra

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Opened reports whether Open would find a folder of its own, and make
// nothing. What cannot be looked at is for Open to say.
func Opened(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, idFile))
	return !errors.Is(err, fs.ErrNotExist)
}
