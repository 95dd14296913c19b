package agent

import (
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent/journal"
)

// A managed credential's folder moves with the state folder, which only a
// restart can change; one that somebody chose stays chosen.
func TestManagedCredentialStaysWithTheStateFolder(t *testing.T) {
	before, after, chosen := filepath.FromSlash("/state"), filepath.FromSlash("/elsewhere"), filepath.FromSlash("/chosen")
	config := func(state, own string) Config {
		return Config{StateDir: state, Tenants: []Tenant{
			{Name: "contoso", Credential: Credential{Managed: &ManagedCredential{Folder: filepath.Join(state, "entra", "contoso")}}},
			{Name: "fabrikam", Credential: Credential{Managed: &ManagedCredential{Folder: own}}},
		}}
	}
	running, file := config(before, chosen), config(after, chosen)
	next := file
	keepForRestart(&running, &next)
	if got := Changes(running, next); len(got) != 0 {
		t.Errorf("changes: %q", got)
	}
	if got := file.Tenants[0].Credential.Managed.Folder; got != filepath.Join(after, "entra", "contoso") {
		t.Errorf("the caller's configuration was changed: %s", got)
	}
}

// Whoever has keys of a changed configuration has them after its end too.
func TestKeysStayOpenWhileTheServiceRuns(t *testing.T) {
	agentAfter := func(from *Agent, device string) *Agent {
		log := zap.NewNop()
		a := &Agent{log: log, down: teardown{log: log}, base: teardown{log: log}, options: Options{from: from}}
		a.cfg.Keys.TPM.Device = device
		a.openKeys()
		return a
	}
	first := agentAfter(nil, "one")
	second := agentAfter(first, "two")
	third := agentAfter(second, "two")
	if third.keys != second.keys || second.keys == first.keys {
		t.Fatal("keys are shared where the configuration is another, or not where it is not")
	}
	if n := len(second.down.stack); n != 0 {
		t.Errorf("%d things are undone with an Agent", n)
	}
	base := first.base
	base.take(&second.base)
	if len(base.stack) != 2 || len(second.base.stack) != 0 {
		t.Errorf("%d things are undone with the service, %d before", len(base.stack), len(second.base.stack))
	}
}

// What is known of a neighbour belongs to how it was reached.
func TestTroubleIsForgottenWhereTheNeighbourChanged(t *testing.T) {
	tenants := []Tenant{{Name: "same", TenantID: "1"}, {Name: "other", TenantID: "2"}}
	changed := []Tenant{tenants[0], {Name: "other", TenantID: "3"}}
	before, after := Config{Tenants: tenants}, Config{Tenants: changed}
	var was, now contacts
	at := time.Unix(1_900_000_000, 0)
	for _, name := range []string{"same", "other", "gone"} {
		was.good(name, "token", at)
		was.bad(name, "token", "no", at)
	}
	now.follow(&was, []string{"same", "other"}, func(name string) bool { return after.sameTenant(before, name) })
	if k := now.of("same", "token"); k.trouble != "no" || k.failed != at {
		t.Errorf("same: %+v", k)
	}
	if k := now.of("other", "token"); k.trouble != "" || k.answered != at {
		t.Errorf("other: %+v", k)
	}
	if k := now.of("gone", "token"); k != (contact{}) {
		t.Errorf("gone: %+v", k)
	}

	endpoint := Endpoint{Name: "devices", Policy: Policy{Intune: &IntunePolicy{Tenant: "other"}}}
	before.Endpoints, after.Endpoints = []Endpoint{endpoint}, []Endpoint{endpoint}
	lane := journal.Lane{Kind: journal.OweSuccess, Neighbour: "devices"}
	if a := (&Agent{cfg: after}); a.sameNeighbour(&Agent{cfg: before}, lane) || !a.sameNeighbour(&Agent{cfg: after}, lane) {
		t.Error("an endpoint's neighbour is its tenant")
	}
}
