//go:build !linux && !windows

package main

import "os"

// isTerminal says no where nobody has asked for questions yet: flags do.
func isTerminal(*os.File) bool { return false }
