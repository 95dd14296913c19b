package jobs_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent/jobs"
	"github.com/certconnector/certconnector/agent/jobs/jobqueue"
	"github.com/certconnector/certconnector/internal/retry"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/intune"
	"github.com/certconnector/certconnector/intune/intunetest"
)

const (
	graphUser   = "user1@contoso.example"
	nobodysName = "nobody@contoso.example"
)

// graph is the simulated cloud, and a sink that imports into it.
func graph(t *testing.T) (*intunetest.Cloud, jobs.Sink) {
	t.Helper()
	tenant := intunetest.Contoso()
	tenant.Apps[0].Roles = append(tenant.Apps[0].Roles, intunetest.RolePFX, intunetest.RoleUsers)
	cloud, err := intunetest.New(intunetest.Options{Tenants: []intunetest.Tenant{tenant}})
	if err != nil {
		t.Fatal(err)
	}
	if err := cloud.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cloud.Close() })
	cfg := cloud.ClientConfig()
	cfg.Log, cfg.Backoff = zap.NewNop(), retry.Schedule{First: time.Millisecond, Most: 5 * time.Millisecond}
	client, err := intune.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	sink, err := jobs.NewImported(jobs.ImportConfig{Graph: client, PublicKey: &testkeys.RSA2048(7).PublicKey, KeyName: "PFXEncryptionKey", Purpose: intune.PFXSMIMESigning})
	if err != nil {
		t.Fatal(err)
	}
	return cloud, sink
}

func delivery(t *testing.T, upn string) jobs.Delivery {
	t.Helper()
	key := testkeys.RSA2048(3)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(77), Subject: pkix.Name{CommonName: "Ann"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	job := jobqueue.Job{Context: "one", Kind: jobqueue.KindImportedPFX, SANs: []string{"email:ann@contoso.example", "UPN:" + upn}}
	return jobs.Delivery{Source: "issuance/mail", Job: job, Key: key, Certificate: cert, Chain: []*x509.Certificate{cert}}
}

// What is imported opens with the password that only the connector that
// delivers can decrypt; doing it again changes nothing.
func TestImportIsDoneOnce(t *testing.T) {
	cloud, sink := graph(t)
	d := delivery(t, graphUser)
	if err := sink.Check(d.Job); err != nil {
		t.Fatal(err)
	}
	// The answer of the first is lost; the second finds it.
	cloud.Fail(intunetest.PFXes, 1, intunetest.Fault{Skip: 1, Lose: true})
	if _, err := sink.Deliver(t.Context(), d); err == nil || errors.Is(err, jobs.ErrUndeliverable) {
		t.Fatalf("a lost answer: %v", err)
	}
	for range 2 {
		out, err := sink.Deliver(t.Context(), d)
		if err != nil || out.Imported != fmt.Sprintf("%x", sha1.Sum(d.Certificate.Raw)) || len(out.Sealed) > 0 {
			t.Fatalf("%+v, %v", out, err)
		}
	}
	kept := cloud.PFX()
	if len(kept) != 1 || kept[0].UserPrincipalName != graphUser || kept[0].IntendedPurpose != "smimeSigning" || kept[0].KeyName != "PFXEncryptionKey" ||
		kept[0].ProviderName != "Microsoft Software Key Storage Provider" || kept[0].PaddingScheme != "oaepSha512" || !kept[0].Expires.Equal(d.Certificate.NotAfter) {
		t.Fatalf("kept %+v", kept)
	}
	password, err := rsa.DecryptOAEP(sha512.New(), nil, testkeys.RSA2048(7), kept[0].Password, nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, content := range map[string][]byte{"a.pfx": kept[0].Blob, "password": password} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "openssl", "pkcs12", "-in", "a.pfx", "-passin", "file:password", "-noenc")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "BEGIN PRIVATE KEY") || strings.Count(string(out), "BEGIN CERTIFICATE") != 1 {
		t.Errorf("openssl: %v", err)
	}
}

func TestImportThatFails(t *testing.T) {
	for _, row := range []struct {
		name  string
		upn   string
		unit  intunetest.Endpoint
		fault intunetest.Fault
		final bool
	}{
		{"nobody of that name", nobodysName, "", intunetest.Fault{}, true},
		{"Graph refuses it", graphUser, intunetest.PFXes, intunetest.Fault{Skip: 1, Status: http.StatusBadRequest}, true},
		{"no permission", graphUser, intunetest.PFXes, intunetest.Fault{Status: http.StatusForbidden}, false},
		{"Graph is down", graphUser, intunetest.Users, intunetest.Fault{Status: http.StatusServiceUnavailable}, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			cloud, sink := graph(t)
			if row.unit != "" {
				cloud.Fail(row.unit, 10, row.fault)
			}
			_, err := sink.Deliver(t.Context(), delivery(t, row.upn))
			if err == nil || errors.Is(err, jobs.ErrUndeliverable) != row.final {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestImportedJobsNameOneUser(t *testing.T) {
	_, sink := graph(t)
	for name, job := range map[string]jobqueue.Job{
		"no user":            {SANs: []string{"email:ann@contoso.example"}},
		"two users":          {SANs: []string{"upn:a@contoso.example", "upn:b@contoso.example"}},
		"a recipient beside": {SANs: []string{"upn:a@contoso.example"}, Recipient: strings.Repeat("ab", 32)},
	} {
		if sink.Check(job) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// fakeGraph is a directory with one user, and imports that it remembers.
type fakeGraph struct {
	mu    sync.Mutex
	known bool
	list  map[string]intune.UserPFX

	deletes  error  // what DeletePFX answers
	imported func() // called after each import
}

func (g *fakeGraph) UserID(context.Context, string) (string, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.known {
		return "", intune.ErrNotFound
	}
	return "05e70000-0000-4000-8000-000000000001", nil
}

func (g *fakeGraph) PFX(_ context.Context, _, thumbprint string) (intune.UserPFX, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if p, ok := g.list[thumbprint]; ok {
		return p, nil
	}
	return intune.UserPFX{}, intune.ErrNotFound
}

func (g *fakeGraph) CreatePFX(_ context.Context, p intune.UserPFX) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.list[p.Thumbprint] = p
	if g.imported != nil {
		g.imported()
	}
	return nil
}

func (g *fakeGraph) DeletePFX(_ context.Context, _, thumbprint string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.deletes == nil {
		delete(g.list, thumbprint)
	}
	return g.deletes
}

// The whole path with the import switched on: a good job is imported and
// reported with its thumbprint; one for nobody is issued, not imported, and so revoked.
func TestJobsAreImported(t *testing.T) {
	for _, known := range []bool{true, false} {
		t.Run(fmt.Sprintf("user known %v", known), func(t *testing.T) {
			inOffice(t, func(t *testing.T, o *office) {
				g := &fakeGraph{known: known, list: map[string]intune.UserPFX{}}
				o.sinks = func() []jobs.Sink {
					s, err := jobs.NewImported(jobs.ImportConfig{Graph: g, PublicKey: &testkeys.RSA2048(7).PublicKey, KeyName: "PFXEncryptionKey"})
					if err != nil {
						t.Fatal(err)
					}
					return []jobs.Sink{s}
				}
				o.reopen()
				j := o.job("one")
				j.Kind, j.Recipient, j.SANs = "importedPfx", "", []string{"upn:ann@corp.example"}
				o.add(j)
				o.later(20 * time.Minute)
				r := o.queue.Results()["one"]
				if known && (!r.Succeeded || len(g.list) != 1 || g.list[r.Imported].UserPrincipalName != "ann@corp.example" || o.revoked() != 0) {
					t.Errorf("%+v, %d imported, %d revoked", r, len(g.list), o.revoked())
				}
				if !known && (r.Succeeded || r.ErrorCode != "NonRetryableServiceException" || len(g.list) != 0 || len(o.issued()) != 1 || o.revoked() != 1) {
					t.Errorf("%+v, %d imported, %d revoked", r, len(g.list), o.revoked())
				}
				o.nothingSecretIsLeft()
			})
		})
	}
}
