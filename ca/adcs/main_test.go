package adcs

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// The replay cache of the CA for tests lives as long as the process.
	const service = "github.com/oiweiwei/gokrb5.fork/v9/service."
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction(service+"GetReplayCache.func1.1"),
		goleak.IgnoreAnyFunction(service+"VerifyAPREQ.GetReplayCache.func1.1"))
}
