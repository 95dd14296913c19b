// Package leaktest has the tests of a package fail when they leave goroutines
// behind.
package leaktest

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience is how long goroutines may take to end. Connections that were closed
// end by themselves, on a busy machine later than goleak waits.
const patience = time.Minute

// Run runs the tests and returns the exit code for TestMain. Goroutines with one
// of the functions may stay, as those that live as long as the process.
func Run(m *testing.M, ignored ...string) int {
	code := m.Run()
	if code != 0 {
		return code
	}
	var options []goleak.Option
	for _, function := range ignored {
		options = append(options, goleak.IgnoreAnyFunction(function))
	}
	var left error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); { // Find waits half a second
		if left = goleak.Find(options...); left == nil {
			return 0
		}
	}
	fmt.Fprintln(os.Stderr, "after all tests:", left)
	return 1
}
