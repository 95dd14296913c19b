//go:build unix

package embedded

import (
	"errors"
	"fmt"
	"os"
)

// checkPrivate refuses a key file that group or others may read.
func checkPrivate(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("reading the private key: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("private key %q is open to other users (mode %04o): run chmod 600 on it, and replace the key if anybody may have read it", path, mode)
	}
	return nil
}

// syncDir makes a new name in a folder durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
