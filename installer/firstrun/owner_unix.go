//go:build unix

package firstrun

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// ownerOf is the account that a folder belongs to, where it is another than
// root and root runs this: nobody else can give files away.
func ownerOf(folder string) *account {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(folder)
	if err != nil || !info.IsDir() {
		return nil // still to be made: it will be root's
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok || s.Uid == 0 {
		return nil
	}
	a := &account{name: strconv.Itoa(int(s.Uid)), uid: int(s.Uid), gid: int(s.Gid)}
	if u, err := user.LookupId(a.name); err == nil {
		a.name = u.Username
	}
	return a
}

// giveFolder lets a group read in a folder that root has made. It may be below
// one of the account, which could put a link there: none is followed.
func giveFolder(path string, gid int) error {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_DIRECTORY, 0)
	if err != nil {
		return fmt.Errorf("opening the configuration's folder: %w", err)
	}
	err = errors.Join(f.Chown(0, gid), f.Chmod(0o750), f.Close())
	if err != nil {
		return fmt.Errorf("letting the account read in the configuration's folder: %w", err)
	}
	return nil
}
