//go:build !unix

package bench

import (
	"errors"
	"time"
)

// cpuTime is what this process has used so far; only Unix systems tell.
func cpuTime() (time.Duration, error) {
	return 0, errors.New("the benchmark runs on Linux only")
}
