//go:build unix

package main

import (
	"syscall"
	"testing"
)

// ordinaryUmask gives what scripts make the rights that it has for most people,
// whatever the umask of the tests is, until the test ends.
func ordinaryUmask(t *testing.T) {
	was := syscall.Umask(0o022)
	t.Cleanup(func() { syscall.Umask(was) })
}
