//go:build unix

package secret

import (
	"fmt"
	"os"
)

// CheckPrivate refuses a key file that group or others may read.
func CheckPrivate(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("reading a key: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("key %q is open to other users (mode %04o): run chmod 600 on it, and replace the key if anybody may have read it", path, mode)
	}
	return nil
}
