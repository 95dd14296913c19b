package labtest

import (
	"context"
	"testing"

	"github.com/certconnector/certconnector/cmd/certlab/cloud"
	"github.com/certconnector/certconnector/intune/intunetest"
)

// Break keeps a cloud from taking success notifications until Heal.
func Break(t testing.TB, control string) {
	t.Helper()
	r, err := cloud.Dial(control)
	if err == nil {
		err = r.Fail(context.Background(), intunetest.Success, intunetest.Always, intunetest.Fault{Status: 500})
	}
	if err != nil {
		t.Error(err)
	}
}

// Heal takes all faults of a cloud away.
func Heal(t testing.TB, control string) {
	t.Helper()
	r, err := cloud.Dial(control)
	if err == nil {
		err = r.Heal(context.Background())
	}
	if err != nil {
		t.Error(err)
	}
}
