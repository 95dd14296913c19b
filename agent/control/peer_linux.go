package control

import (
	"net"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// peer asks the kernel whose connection it is. Root and the service's own
// account may pass.
func peer(c net.Conn) (account string, ok bool) {
	u, isUnix := c.(*net.UnixConn)
	if !isUnix {
		return "", false
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return "", false
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err != nil || credErr != nil {
		return "", false
	}
	return "uid " + strconv.FormatUint(uint64(cred.Uid), 10), permitted(cred.Uid, os.Geteuid())
}

func permitted(peer uint32, own int) bool {
	return peer == 0 || int64(peer) == int64(own)
}
