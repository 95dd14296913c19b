package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// isTerminal tells whether a person sits at a file.
func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
