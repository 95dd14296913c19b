package adcs

import (
	"os"
	"testing"

	"github.com/certconnector/certconnector/internal/leaktest"
)

func TestMain(m *testing.M) {
	// The replay cache of the CA for tests lives as long as the process.
	const service = "github.com/oiweiwei/gokrb5.fork/v9/service."
	os.Exit(leaktest.Run(m, service+"GetReplayCache.func1.1", service+"VerifyAPREQ.GetReplayCache.func1.1"))
}
