package agent_test

import (
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/certconnector/certconnector/agent"
	"github.com/certconnector/certconnector/intune"
	"github.com/certconnector/certconnector/intune/intunetest"
)

// contoso is a simulated cloud, and a tenant that signs in with a secret.
func contoso(t *testing.T) (*intunetest.Cloud, agent.Config) {
	t.Helper()
	cloud, err := intunetest.New(intunetest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := cloud.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cloud.Close() })
	dir := t.TempDir()
	write := func(name string, text []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cfg := agent.Defaults()
	var tenant agent.Tenant
	tenant.SetDefaults()
	e := cloud.Endpoints()
	tenant.Name, tenant.TenantID, tenant.ClientID, tenant.Cloud = "contoso", intunetest.ContosoID, intunetest.ContosoClient, "custom"
	tenant.URLs = agent.TenantURLs{Authority: e.Authority, Graph: e.Graph, Resource: e.Resource, ServiceHosts: e.ServiceHosts}
	tenant.CAFile = write("roots.pem", cloud.RootPEM())
	tenant.Credential.Secret = &agent.SecretRef{File: write("secret", []byte(intunetest.ContosoSecret.Reveal()))}
	cfg.Tenants = []agent.Tenant{tenant}
	return cloud, cfg
}

func tenantFindings(t *testing.T, cfg agent.Config, names ...string) (failed []string, all []agent.TenantFinding) {
	t.Helper()
	all, err := agent.CheckTenants(t.Context(), cfg, names, "test", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if f.Level >= intune.Warning {
			failed = append(failed, f.Tenant+" "+f.ID)
		}
	}
	return failed, all
}

// What is asked of a tenant is what the configuration uses it for.
func TestTenantsAreAskedForWhatIsConfigured(t *testing.T) {
	cloud, cfg := contoso(t)
	if failed, all := tenantFindings(t, cfg); len(failed) != 0 || len(all) < 5 {
		t.Errorf("in order: %v, %+v", failed, all)
	}
	cfg.Jobs.Sources = []agent.JobSource{{Name: "queue", Import: &agent.PFXImport{Tenant: "contoso"}}}
	want := []string{"contoso intune.permission.feature", "contoso intune.permission.feature"}
	if failed, _ := tenantFindings(t, cfg); !slices.Equal(failed, want) {
		t.Errorf("an import without its permissions: %v", failed)
	}
	cloud.SetServices([]intunetest.Service{{Provider: "ScepRequestValidationFEService", URI: cloud.ServiceURL()}})
	cfg.Jobs.Sources = nil
	cfg.Tenants[0].Revocation = &agent.Revocation{}
	if failed, _ := tenantFindings(t, cfg); !slices.Equal(failed, []string{"contoso intune.revocation"}) {
		t.Errorf("revocations without their service: %v", failed)
	}
}

// A check makes nothing: what root makes, the service could not read.
func TestCheckOfANewTenantMakesNothing(t *testing.T) {
	_, cfg := contoso(t)
	state := t.TempDir()
	for _, folder := range []string{filepath.Join(state, "entra", "contoso"), state} {
		managed := agent.ManagedCredential{Folder: folder, Host: "host.example"}
		cfg.Tenants[0].Credential = agent.Credential{Managed: &managed}
		failed, all := tenantFindings(t, cfg)
		if !slices.Equal(failed, []string{"contoso intune.config"}) || !strings.Contains(all[0].Fix, "entra create") {
			t.Errorf("%s: %+v", folder, all)
		}
		if entries, err := os.ReadDir(state); err != nil || len(entries) != 0 {
			t.Errorf("made: %v, %v", entries, err)
		}
	}
}

// One tenant that cannot be asked does not hide another.
func TestTenantsThatCannotBeAsked(t *testing.T) {
	_, cfg := contoso(t)
	broken := cfg.Tenants[0]
	broken.Name, broken.Credential = "broken", agent.Credential{Secret: &agent.SecretRef{File: filepath.Join(t.TempDir(), "nowhere")}}
	foreign := cfg.Tenants[0]
	foreign.Name, foreign.CAFile = "foreign", filepath.Join(t.TempDir(), "other.pem")
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("no certificate")})
	if err := os.WriteFile(foreign.CAFile, root, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.Tenants = append([]agent.Tenant{broken, foreign}, cfg.Tenants...)
	failed, _ := tenantFindings(t, cfg)
	if !slices.Equal(failed, []string{"broken intune.config", "foreign intune.config"}) {
		t.Errorf("findings %v", failed)
	}
	if failed, _ := tenantFindings(t, cfg, "contoso"); len(failed) != 0 {
		t.Errorf("the one that was named: %v", failed)
	}
	if _, err := agent.CheckTenants(t.Context(), cfg, []string{"nobody"}, "test", nil); err == nil || !strings.Contains(err.Error(), "broken, foreign, contoso") {
		t.Errorf("a name that is not there: %v", err)
	}
}
