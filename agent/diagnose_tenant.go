package agent

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509/pkix"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent/identity/entra"
	"github.com/certconnector/certconnector/internal/keys"
	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/intune"
	"github.com/certconnector/certconnector/scep/scepclient"
)

// checkTenantsWithin bounds one check of all tenants.
const checkTenantsWithin = 3 * time.Minute

// madeUpChallenge is one that Intune never made, so that it must refuse it.
const madeUpChallenge = "certconnector asks for a refusal"

// pfxPermissions are the permissions of Microsoft Graph that imports need.
var pfxPermissions = []string{"DeviceManagementConfiguration.ReadWrite.All", "User.Read.All"}

// TenantFinding is a finding about a tenant of the configuration.
type TenantFinding struct {
	Tenant string `json:"tenant"` // its name in the configuration
	intune.Finding
}

// CheckTenants asks the cloud whether the tenants of the given names (none:
// all) can do what the configuration wants of them, and changes nothing. It
// may run beside the service. The configuration must be valid. The only errors
// are a name that is not in it, and a machine that can make no key; version is
// told to the cloud, log may be nil.
func CheckTenants(ctx context.Context, cfg Config, names []string, version string, log *zap.Logger) ([]TenantFinding, error) {
	chosen, err := cfg.chosenTenants(names)
	if err != nil {
		return nil, err
	}
	request, err := madeUpRequest()
	if err != nil {
		return nil, err
	}
	if log == nil {
		log = zap.NewNop()
	}
	results := sideBySide(ctx, checkTenantsWithin, chosen, func(ctx context.Context, t Tenant) []intune.Finding {
		return cfg.checkTenant(ctx, t, request, version, log)
	})
	var all []TenantFinding
	for i, t := range chosen {
		for _, f := range results[i] {
			all = append(all, TenantFinding{t.Name, f})
		}
	}
	return all, nil
}

// chosenTenants are the tenants of the names, in the order of the file.
func (cfg Config) chosenTenants(names []string) ([]Tenant, error) {
	known := make([]string, len(cfg.Tenants))
	for i, t := range cfg.Tenants {
		known[i] = t.Name
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("no tenant is called %q; there are: %s", name, strings.Join(known, ", "))
		}
	}
	if len(known) == 0 {
		return nil, fmt.Errorf("the configuration has no tenants: nothing is asked of Intune")
	}
	return slices.DeleteFunc(slices.Clone(cfg.Tenants), func(t Tenant) bool {
		return len(names) > 0 && !slices.Contains(names, t.Name)
	}), nil
}

func (cfg Config) checkTenant(ctx context.Context, t Tenant, request []byte, version string, log *zap.Logger) []intune.Finding {
	unusable := func(fix, format string, args ...any) []intune.Finding {
		return []intune.Finding{{ID: intune.CheckConfig, Level: intune.Failure, Fix: fix, Text: fmt.Sprintf(format, args...)}}
	}
	const correct = "correct the tenant in the configuration, or the file that it names"
	want := intune.Wanted{Challenge: request, Revocation: t.Revocation != nil}
	devices := cfg.Keys.Open(log)
	defer devices.Close() //nolint:errcheck // nothing hangs on it
	var store *entra.Store
	if m := t.Credential.Managed; m != nil {
		none := unusable(`run "certconnector entra create" and upload what it makes, or "certconnector entra adopt"`,
			"there is no certificate for Entra ID yet")
		if !entra.Opened(m.Folder) { // made by whoever asks, root perhaps, it would be closed to the service
			return none
		}
		var err error
		if store, err = m.open(t.Name, devices, keys.Place(cfg.Keys.New), Options{Clock: time.Now}, log, log); err != nil {
			return unusable(correct, "%v", err)
		}
		if len(store.Certificates()) == 0 {
			return none
		}
		want.Rotation = m.Rotate
	}
	if slices.ContainsFunc(cfg.Jobs.Sources, func(s JobSource) bool { return s.Import != nil && s.Import.Tenant == t.Name }) {
		want.Graph = pfxPermissions
	}
	a := &Agent{cfg: cfg, options: Options{Version: version, Clock: time.Now}, log: log, keys: devices}
	config, err := a.intuneConfig(t, store)
	if err != nil {
		return unusable(correct, "%v", err)
	}
	return intune.Diagnose(ctx, config, want)
}

// madeUpRequest is a request as a device makes it, whose challenge Intune
// never made and whose key nobody keeps.
func madeUpRequest() ([]byte, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	return (&scepclient.CSR{Subject: pkix.Name{CommonName: "certconnector check"}, Challenge: secret.Text(madeUpChallenge)}).Encode(key)
}
