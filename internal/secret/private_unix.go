//go:build unix

package secret

import (
	"fmt"
	"os"
	"syscall"
)

// CheckOwner refuses a folder of another account: what this process makes in it
// could not be read there. root's own are root's business.
func CheckOwner(folder string) error {
	uid, err := ownerOf(folder)
	switch {
	case err != nil, uid == os.Geteuid():
		return err
	case uid == 0: // as root it would be root's alone
		return fmt.Errorf("%q belongs to root: name a folder that belongs to the account of the service, or give it this one with chown", folder)
	}
	return fmt.Errorf("%q belongs to the account with number %d: run this command as that account, or the service could not read what it makes", folder, uid)
}

// ownerOf is the number of the account that a folder belongs to.
func ownerOf(folder string) (uid int, err error) {
	info, err := os.Stat(folder)
	if err != nil {
		return 0, fmt.Errorf("looking at a folder: %w", err)
	}
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(s.Uid), nil
	}
	return os.Geteuid(), nil
}

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

// CheckUnwritable refuses a configuration that others may change: whoever
// writes it tells the service what to do. Others are all but root, this
// account and its group.
func CheckUnwritable(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("looking at who may change a file: %w", err)
	}
	mode := info.Mode().Perm()
	s, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !ok:
		return nil
	case s.Uid != 0 && int(s.Uid) != os.Geteuid():
		return fmt.Errorf("%q belongs to the account with number %d, which may change it: look through it, then run chown root on it", path, s.Uid)
	case mode&0o002 != 0, mode&0o020 != 0 && s.Gid != 0 && int(s.Gid) != os.Getegid():
		return fmt.Errorf("%q may be changed by other users (mode %04o): look through it, then run chmod go-w on it", path, mode)
	}
	return nil
}

// Unchecked is empty: modes and owners are checked.
func Unchecked() string { return "" }

// RestrictMade has nothing to add to the mode that a folder was made with.
func RestrictMade(string) error { return nil }

// RestrictFolder gives a folder to its owner only. Its accounts are for
// Windows; here the installer gives a folder to an account with chown.
func RestrictFolder(path string, _ ...string) error {
	if err := os.Chmod(path, 0o700); err != nil {
		return fmt.Errorf("protecting a folder: %w", err)
	}
	return nil
}

// ReadableFolder is for Windows; here the installer sets owner and mode.
func ReadableFolder(string, ...string) error { return nil }
