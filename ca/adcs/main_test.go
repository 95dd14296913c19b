package adcs

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// The replay cache of the CA for tests lives as long as the process.
	const service = "github.com/oiweiwei/gokrb5.fork/v9/service."
	code := m.Run()
	left := error(nil)
	for began := time.Now(); code == 0 && time.Since(began) < time.Minute; { // some end a little later
		if left = goleak.Find(goleak.IgnoreAnyFunction(service+"GetReplayCache.func1.1"),
			goleak.IgnoreAnyFunction(service+"VerifyAPREQ.GetReplayCache.func1.1")); left == nil {
			break
		}
	}
	if left != nil {
		fmt.Fprintln(os.Stderr, left)
		code = 1
	}
	os.Exit(code)
}
