package intune_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/intune"
	"github.com/certconnector/certconnector/intune/intunetest"
)

// Where the revocation service is can be asked without using up the hour's
// download.
func TestCheckRevocation(t *testing.T) {
	w := newWorld(t, intunetest.Options{})
	if f := w.client.CheckRevocation(t.Context()); f.Err != nil || f.Name != "revocation" || f.Detail != w.cloud.RevocationURL() {
		t.Errorf("%+v, want %s", f, w.cloud.RevocationURL())
	}
	if n := w.counts()[intunetest.Download]; n != 0 {
		t.Errorf("%d downloads", n)
	}
	w = newWorld(t, intunetest.Options{})
	w.cloud.SetServices([]intunetest.Service{{Provider: "ScepRequestValidationFEService", URI: w.cloud.ServiceURL()}})
	if e, ok := errors.AsType[*intune.ServiceNotFoundError](w.client.CheckRevocation(t.Context()).Err); !ok || e.Service != "PkiConnectorFEService" {
		t.Errorf("error %v, want a ServiceNotFoundError", e)
	}
}

// A permission of a feature that is missing is named; one that was granted
// since is seen.
func TestCheckGraphRoles(t *testing.T) {
	w := newWorld(t, intunetest.Options{})
	check := func() []intune.Finding {
		return w.client.CheckGraphRoles(t.Context(), intunetest.RoleGraph, intunetest.RolePFX)
	}
	found := check()
	if len(found) != 2 || found[0].Err != nil || found[1].Err == nil || !strings.Contains(found[1].Err.Error(), intunetest.RolePFX) {
		t.Errorf("%+v", found)
	}
	_ = w.cloud.SetRoles(intunetest.ContosoID, intunetest.ContosoClient, intunetest.RoleGraph, intunetest.RolePFX)
	w.clock.Advance(time.Minute)
	if found := check(); len(found) != 2 || found[1].Err != nil {
		t.Errorf("after consent: %+v", found)
	}
	w.cloud.SetOutage(true)
	w.clock.Advance(2 * time.Hour)
	if found := check(); len(found) != 1 || found[0].Name != "graph-token" || found[0].Err == nil {
		t.Errorf("without sign-in: %+v", found)
	}
}
