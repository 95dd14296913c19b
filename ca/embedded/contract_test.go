package embedded_test

import (
	"context"
	"crypto/x509/pkix"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/journal/sqlite"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/catest"
	"github.com/certconnector/certconnector/ca/embedded"
	"github.com/certconnector/certconnector/internal/secret"
)

// testProfiles are what the contract wants; "strict" wants keys that nobody has.
func testProfiles() []embedded.Profile {
	return []embedded.Profile{
		{Name: "Device"},
		{Name: "Careful", Approval: embedded.Manual},
		{Name: "Strict", MinRSABits: 8192},
	}
}

func newSealer(t testing.TB) *secret.Sealer {
	t.Helper()
	s, err := secret.NewSealer(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// caFolder makes a CA of a kind; a test makes as few as it can, for the RSA keys take long.
func caFolder(t *testing.T, kind embedded.KeyKind) string {
	t.Helper()
	dir := t.TempDir()
	_, err := embedded.Create(dir, embedded.Options{
		Subject: pkix.Name{CommonName: "Test CA " + string(kind), Organization: []string{"Contoso"}}, KeyKind: kind,
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func mustOpen(t testing.TB, cfg embedded.Config) *embedded.CA {
	t.Helper()
	if cfg.Name == "" {
		cfg.Name = "lab"
	}
	if cfg.Register == nil {
		cfg.Register = catest.NewRegister()
	}
	if cfg.Sealer == nil {
		cfg.Sealer = newSealer(t)
	}
	c, err := embedded.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func bridge(t *testing.T, dir string, reg *catest.Register) *catest.Bridge {
	c := mustOpen(t, embedded.Config{Dir: dir, Profiles: testProfiles(), Register: reg})
	return &catest.Bridge{
		Authority: c,
		Templates: catest.Templates{Issue: "device", Park: "careful", Deny: "strict", Unknown: "No such profile"},
		Approve:   c.Approve,
		Deny:      func(ctx context.Context, id string) error { return c.Deny(ctx, id, "not ours") },
		Restart:   func(t *testing.T) *catest.Bridge { return bridge(t, dir, reg.Restart()) },
		Lose: func(t *testing.T, req ca.Request) *catest.Bridge {
			if _, err := c.Issue(t.Context(), req); err != nil {
				t.Fatal(err)
			}
			return bridge(t, dir, reg.Restart())
		},
	}
}

func TestContract(t *testing.T) {
	for _, kind := range embedded.KeyKinds() {
		t.Run(string(kind), func(t *testing.T) {
			if kind == embedded.RSA4096 && testing.Short() {
				t.Skip("making the key takes seconds")
			}
			dir := caFolder(t, kind)
			catest.Run(t, catest.Harness{
				New:           func(t *testing.T) *catest.Bridge { return bridge(t, dir, catest.NewRegister()) },
				Abilities:     []catest.Ability{catest.CanRevoke, catest.CanCollect, catest.CanFind, catest.CanCheck, catest.CanPublish},
				KeepsValidity: true,
			})
		})
	}
}

// TestContractOverTheJournal has the register where the service has it.
func TestContractOverTheJournal(t *testing.T) {
	dir := caFolder(t, embedded.P256)
	catest.Run(t, catest.Harness{
		New: func(t *testing.T) *catest.Bridge {
			path := filepath.Join(t.TempDir(), "journal.db")
			if err := sqlite.Create(path); err != nil {
				t.Fatal(err)
			}
			return journaled(t, dir, path)
		},
		Abilities:     []catest.Ability{catest.CanRevoke, catest.CanCollect, catest.CanFind, catest.CanCheck, catest.CanPublish},
		KeepsValidity: true,
	})
}

func journaled(t *testing.T, dir, path string) *catest.Bridge {
	t.Helper()
	j, err := sqlite.Open(path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() }) // closed before, where the bridge was restarted
	c := mustOpen(t, embedded.Config{Dir: dir, Profiles: testProfiles(), Register: j})
	restart := func(t *testing.T) *catest.Bridge {
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		return journaled(t, dir, path)
	}
	return &catest.Bridge{
		Authority: c,
		Templates: catest.Templates{Issue: "device", Park: "careful", Deny: "strict", Unknown: "No such profile"},
		Approve:   c.Approve,
		Deny:      func(ctx context.Context, id string) error { return c.Deny(ctx, id, "not ours") },
		Restart:   restart,
		Lose: func(t *testing.T, req ca.Request) *catest.Bridge {
			if _, err := c.Issue(t.Context(), req); err != nil {
				t.Fatal(err)
			}
			return restart(t)
		},
	}
}

func TestCreateNeverReplaces(t *testing.T) {
	dir := caFolder(t, embedded.P256)
	before, err := os.ReadFile(filepath.Join(dir, embedded.KeyFile))
	if err != nil {
		t.Fatal(err)
	}
	o := embedded.Options{Subject: pkix.Name{CommonName: "Other"}, KeyKind: embedded.P256}
	if _, err := embedded.Create(dir, o); err == nil {
		t.Error("a second CA was made in the folder of the first")
	}
	if err := os.Remove(filepath.Join(dir, embedded.ChainFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := embedded.Create(dir, o); err == nil {
		t.Error("a key without its certificate was replaced")
	}
	after, err := os.ReadFile(filepath.Join(dir, embedded.KeyFile))
	if err != nil || string(before) != string(after) {
		t.Errorf("the key changed, or %v", err)
	}
}

func TestOpenNeverCreates(t *testing.T) {
	dir := t.TempDir()
	if _, err := embedded.Open(embedded.Config{Name: "lab", Dir: dir, Register: catest.NewRegister()}); err == nil {
		t.Error("an empty folder was opened as a CA")
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("Open left %v", left)
	}
}

func TestOpenRefusesAnothersKey(t *testing.T) {
	one, other := caFolder(t, embedded.P256), caFolder(t, embedded.P256)
	if err := os.Rename(filepath.Join(other, embedded.KeyFile), filepath.Join(one, embedded.KeyFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := embedded.Open(embedded.Config{Name: "lab", Dir: one, Register: catest.NewRegister()}); err == nil {
		t.Error("a key that is not the certificate's was taken")
	}
}

func TestRootLivesAsLongAsAsked(t *testing.T) {
	at := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	cert, err := embedded.Create(t.TempDir(), embedded.Options{
		Subject: pkix.Name{CommonName: "CA"}, KeyKind: embedded.P256,
		Validity: 30 * 24 * time.Hour, Clock: func() time.Time { return at },
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := at.Add(30 * 24 * time.Hour); !cert.NotAfter.Equal(want) || cert.NotBefore.After(at) {
		t.Errorf("valid from %v to %v, want until %v", cert.NotBefore, cert.NotAfter, want)
	}
}
