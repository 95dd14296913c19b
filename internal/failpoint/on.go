//go:build failpoint

// Package failpoint kills the process at a named line, so that a test can see
// what a power failure there leaves behind. It does something only in builds
// with the tag failpoint; in any other build a call costs nothing and its name
// is not in the binary.
package failpoint

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
)

// Variable names the environment variable that arms one failpoint: NAME or
// NAME:N, which dies at the N-th hit.
const Variable = "CERTCONNECTOR_FAILPOINT"

var (
	armed, nth = parse(take())
	hits       atomic.Int64
)

// take reads the variable and removes it: it is no configuration key, and the
// reader of those refuses what it does not know.
func take() string {
	v := os.Getenv(Variable)
	if err := os.Unsetenv(Variable); err != nil {
		panic(Variable + ": " + err.Error())
	}
	return v
}

func parse(v string) (string, int64) {
	name, count, ok := strings.Cut(v, ":")
	if !ok {
		return name, 1
	}
	n, err := strconv.ParseInt(count, 10, 64)
	if err != nil || n < 1 {
		panic(Variable + ": the part after the colon must be a number of hits")
	}
	return name, n
}

// Hit kills the process, as by kill -9, when name is armed and this is its
// N-th hit.
func Hit(name string) {
	if name != armed || hits.Add(1) != nth {
		return
	}
	p, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = p.Kill()
	}
	if err != nil {
		panic("failpoint " + name + ": " + err.Error())
	}
	select {}
}
