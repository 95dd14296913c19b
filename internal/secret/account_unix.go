//go:build unix

package secret

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// Account is whom root makes private files for, as that of a service. The zero
// value is the account of this process.
type Account struct{ uid, gid int }

// AccountOf is the account that has to read what root makes: the owner of the
// first file or folder that is there and not root's own. Who is not root can
// give nothing away, and keeps what it makes.
func AccountOf(paths ...string) Account {
	if os.Geteuid() != 0 {
		return Account{}
	}
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			continue
		}
		if s, ok := info.Sys().(*syscall.Stat_t); ok && s.Uid != 0 {
			return Account{uid: int(s.Uid), gid: int(s.Gid)}
		}
	}
	return Account{}
}

// Give hands over a file that this process made. Links are not followed, and a
// file that has a second name stays: somebody who may write to the folder could
// have put one there for a file that is not ours to give.
func (a Account) Give(path string) error {
	if a == (Account{}) {
		return nil
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("giving a file to the account with number %d: %w", a.uid, err)
	}
	info, err := f.Stat()
	if err == nil {
		if s, ok := info.Sys().(*syscall.Stat_t); !ok || !info.Mode().IsRegular() || s.Nlink != 1 {
			err = errors.New("it is no regular file, or has a second name: see who made it, and remove it")
		} else {
			err = f.Chown(a.uid, a.gid)
		}
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("giving %q to the account with number %d, which could not read it: %w", path, a.uid, err)
	}
	return nil
}

// CheckMaker is CheckOwner for who gives what root makes to the account that
// reads it: in root's folders root may make it. Files that belong together may
// be in several folders, of one owner.
func CheckMaker(folders ...string) error {
	first := -1
	for _, folder := range folders {
		uid, err := ownerOf(folder)
		switch {
		case err != nil:
			return err
		case first >= 0 && uid != first:
			return fmt.Errorf("%q and %q belong to different accounts, so that none may make files in both: configure folders of one account", folders[0], folder)
		}
		first = uid
	}
	for _, folder := range folders {
		if first == 0 && os.Geteuid() != 0 {
			return fmt.Errorf("%q belongs to root: run this command as root, which gives what it makes to the account of the service", folder)
		}
		if err := CheckOwner(folder); err != nil {
			return err
		}
	}
	return nil
}
