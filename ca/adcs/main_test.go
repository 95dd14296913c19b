package adcs

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// The replay cache of the CA for tests lives as long as the process.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/oiweiwei/gokrb5.fork/v9/service.GetReplayCache.func1.1"))
}
