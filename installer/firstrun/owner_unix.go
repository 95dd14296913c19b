//go:build unix

package firstrun

import (
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
