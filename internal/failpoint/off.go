//go:build !failpoint

// Package failpoint kills the process at a named line, so that a test can see
// what a power failure there leaves behind. It does something only in builds
// with the tag failpoint; in any other build a call costs nothing and its name
// is not in the binary.
package failpoint

// Hit does nothing in a build without the tag failpoint.
func Hit(string) {}
