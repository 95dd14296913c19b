//go:build !windows

package control

import "syscall"

// errNoSockets is what a system without unix sockets answers.
var errNoSockets error = syscall.EAFNOSUPPORT
