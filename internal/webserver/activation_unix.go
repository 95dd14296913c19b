//go:build unix

package webserver

import (
	"fmt"
	"net"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// firstInherited is the first descriptor that systemd hands over
// (SD_LISTEN_FDS_START of sd_listen_fds(3)).
const firstInherited = 3

// inherited returns the socket that the service manager opened for an address,
// or nil: then the address is opened here. A service that is given :443 needs
// no capability for it, and connections wait while it restarts.
//
// Sockets are compared by address rather than by name, so that the
// configuration stays the one place that says where the service listens. The
// descriptors stay open: each call looks at all of them.
func inherited(getenv func(string) string, first int, address string) (net.Listener, error) {
	count, err := strconv.Atoi(getenv("LISTEN_FDS"))
	if err != nil || count < 1 || getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return nil, nil // none, or meant for another process
	}
	want, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, nil // opening it says better what is wrong
	}
	for fd := first; fd < first+count; fd++ {
		// The original is kept from programs that are started; closing the copy,
		// as a stopping server does, leaves it open.
		unix.CloseOnExec(fd)
		own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, firstInherited)
		if err != nil {
			return nil, fmt.Errorf("descriptor %d, which LISTEN_FDS announces: %w", fd, err)
		}
		f := os.NewFile(uintptr(own), "inherited")
		l, err := net.FileListener(f)
		_ = f.Close() // FileListener has a copy of its own
		if err != nil {
			continue // no stream socket that listens: not for us
		}
		if sameAddress(fd, l.Addr(), want) {
			return l, nil
		}
		_ = l.Close() // a copy
	}
	return nil, nil
}

// sameAddress compares what is open with what is configured. No host, as in
// ":443", is every address of the machine. So is 0.0.0.0 where this program
// opens it itself, as net.Listen says: a socket of both families is right for it.
func sameAddress(fd int, open net.Addr, want *net.TCPAddr) bool {
	have, ok := open.(*net.TCPAddr)
	if !ok || have.Port != want.Port || have.Zone != want.Zone {
		return false
	}
	if want.IP == nil {
		return have.IP.IsUnspecified()
	}
	if want.IP.Equal(net.IPv4zero) && have.IP.Equal(net.IPv6unspecified) {
		alone, err := unix.GetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
		return err == nil && alone == 0
	}
	return have.IP.Equal(want.IP)
}
