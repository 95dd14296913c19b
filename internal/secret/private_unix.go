//go:build unix

package secret

import (
	"fmt"
	"os"
)

// CheckPrivate refuses a file that group or others may read: a key, a secret,
// the journal.
func CheckPrivate(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("reading a private file: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("%q is open to other users (mode %04o): run chmod 600 on it, and replace what it holds if anybody may have read it", path, mode)
	}
	return nil
}
