//go:build !e2e && !e2eca && !e2ewindows

package adcstest

// required tells whether a test fails where a program that it needs is missing.
// The suites with build tags are there to be run with all of them.
const required = false
