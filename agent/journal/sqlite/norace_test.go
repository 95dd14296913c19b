//go:build !race

package sqlite

// slowdown is what the race detector costs tests that measure time.
const slowdown = 1
