package ownenroll_test

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certconnector/certconnector/agent/identity/ownenroll"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/catest"
	"github.com/certconnector/certconnector/ca/embedded"
	"github.com/certconnector/certconnector/internal/keys"
	"github.com/certconnector/certconnector/internal/keys/keystest"
	"github.com/certconnector/certconnector/internal/secret"
)

// world is a CA that issues at once or after approval, and a folder.
type world struct {
	t      *testing.T
	issuer *embedded.CA
	cfg    ownenroll.Config
	dir    string
}

func newWorld(t *testing.T, template string) *world {
	t.Helper()
	folder := t.TempDir()
	if _, err := embedded.Create(folder, embedded.Options{Subject: pkix.Name{CommonName: "Issuing CA"}, KeyKind: embedded.P256}); err != nil {
		t.Fatal(err)
	}
	key, err := embedded.LoadKey(filepath.Join(folder, embedded.KeyFile))
	if err != nil {
		t.Fatal(err)
	}
	chain, err := embedded.LoadChain(filepath.Join(folder, embedded.ChainFile))
	if err != nil {
		t.Fatal(err)
	}
	sealer, err := secret.NewSealer(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := embedded.Open(embedded.Config{
		Name: "issuing", Key: key, Chain: chain, Register: catest.NewRegister(), Sealer: sealer,
		Profiles: []embedded.Profile{{Name: "ra"}, {Name: "careful", Approval: embedded.Manual}},
	})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, issuer: issuer, dir: t.TempDir()}
	role := func(name string, usage x509.KeyUsage) ownenroll.Role {
		return ownenroll.Role{Name: name, Certificate: w.path(name + ".crt.pem"), Key: w.path(name + ".key.pem"), Template: template, KeyUsage: usage}
	}
	w.cfg = ownenroll.Config{
		CA: issuer, Chain: chain, Subject: pkix.Name{CommonName: "scep.corp.example"},
		Roles: []ownenroll.Role{role("signing", x509.KeyUsageDigitalSignature), role("encryption", x509.KeyUsageKeyEncipherment)},
	}
	return w
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) run() ownenroll.Result {
	w.t.Helper()
	result, err := ownenroll.Run(w.t.Context(), w.cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	return result
}

// wantPair wants files that the service takes, private, and nothing left over.
func (w *world) wantPair(name string) *x509.Certificate {
	w.t.Helper()
	pair, err := tls.LoadX509KeyPair(w.path(name+".crt.pem"), w.path(name+".key.pem"))
	if err != nil {
		w.t.Fatal(err)
	}
	if err := secret.CheckPrivate(w.path(name + ".key.pem")); err != nil {
		w.t.Error(err)
	}
	for _, left := range []string{".crt.pem.new", ".key.pem.new", ".crt.pem.pending"} {
		if _, err := os.Stat(w.path(name + left)); err == nil {
			w.t.Errorf("%s%s is left over", name, left)
		}
	}
	return pair.Leaf
}

func TestEnrolAndRenew(t *testing.T) {
	w := newWorld(t, "ra")
	if r := w.run(); len(r.Installed) != 2 || len(r.Parked) != 0 {
		t.Fatalf("result %+v", r)
	}
	first := w.wantPair("signing")
	if first.KeyUsage != x509.KeyUsageDigitalSignature || w.wantPair("encryption").KeyUsage != x509.KeyUsageKeyEncipherment {
		t.Error("wrong key usage")
	}
	w.run()
	if second := w.wantPair("signing"); second.Equal(first) {
		t.Error("a second run did not renew")
	}
	if _, err := os.Stat(w.path("signing.key.pem.old")); err != nil {
		t.Error("the old key was not kept for messages under way")
	}
}

// New files wait beside the names of the old ones: with one name for two of
// them a certificate would be written over a key, or over another one.
func TestFilesThatAreNamedTwice(t *testing.T) {
	for _, row := range []struct {
		name   string
		change func(signing, encryption *ownenroll.Role)
	}{
		{"certificate and key", func(s, _ *ownenroll.Role) { s.Key = s.Certificate }},
		{"a certificate and the other's key", func(s, e *ownenroll.Role) { e.Certificate = s.Key }},
		{"a key and the other's certificate", func(s, e *ownenroll.Role) { s.Key = e.Certificate }},
		{"both certificates", func(s, e *ownenroll.Role) { e.Certificate = s.Certificate }},
	} {
		w := newWorld(t, "ra")
		w.run()
		row.change(&w.cfg.Roles[0], &w.cfg.Roles[1])
		before := w.content()
		if _, err := ownenroll.Run(t.Context(), w.cfg); err == nil || !strings.Contains(err.Error(), "a file of its own") {
			t.Errorf("%s: %v", row.name, err)
		}
		if !maps.Equal(w.content(), before) {
			t.Errorf("%s: files were touched", row.name)
		}
	}
}

// content is what all files of the folder hold.
func (w *world) content() map[string]string {
	w.t.Helper()
	all := map[string]string{}
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(w.path(e.Name()))
		if err != nil {
			w.t.Fatal(err)
		}
		all[e.Name()] = string(b)
	}
	return all
}

// A key whose device is missing waits all the same: none is made beside it.
func TestKeyInADeviceThatIsMissing(t *testing.T) {
	w := newWorld(t, "ra")
	w.cfg.Keys = keys.New(keys.Config{TPM: w.path("no-tpm")})
	if err := os.WriteFile(w.path("signing.key.pem.new"), []byte(keystest.ForeignTPMKey), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ownenroll.Run(t.Context(), w.cfg); err == nil || !strings.Contains(err.Error(), "reading a new key") {
		t.Errorf("without the TPM: %v", err)
	}
}

// While a person has not approved nothing is replaced, however often the
// command runs; afterwards it collects what it asked for, with the same keys.
func TestApproval(t *testing.T) {
	w := newWorld(t, "careful")
	r := w.run()
	if len(r.Parked) != 2 || len(r.Installed) != 0 {
		t.Fatalf("result %+v", r)
	}
	if again := w.run(); len(again.Parked) != 2 || again.Parked[0].RequestID != r.Parked[0].RequestID {
		t.Fatalf("a second run asked anew: %+v", again)
	}
	if err := w.issuer.Approve(t.Context(), r.Parked[0].RequestID); err != nil {
		t.Fatal(err)
	}
	if half := w.run(); len(half.Parked) != 1 || len(half.Installed) != 0 {
		t.Fatalf("half of a pair was installed: %+v", half)
	}
	if err := w.issuer.Approve(t.Context(), r.Parked[1].RequestID); err != nil {
		t.Fatal(err)
	}
	if done := w.run(); len(done.Installed) != 2 {
		t.Fatalf("result %+v", done)
	}
	w.wantPair("signing")
	w.wantPair("encryption")
}

func TestDenialBeginsAnew(t *testing.T) {
	w := newWorld(t, "careful")
	r := w.run()
	if err := w.issuer.Deny(t.Context(), r.Parked[0].RequestID, "not ours"); err != nil {
		t.Fatal(err)
	}
	_, err := ownenroll.Run(t.Context(), w.cfg)
	var denied *ca.Denied
	if !errors.As(err, &denied) {
		t.Fatalf("got %v", err)
	}
	if again := w.run(); len(again.Parked) != 2 || again.Parked[0].RequestID == r.Parked[0].RequestID {
		t.Errorf("after the denial: %+v", again)
	}
}

// A run that is cut off between any two files is finished by the next one.
func TestCutOffWhileInstalling(t *testing.T) {
	for _, placed := range []string{"signing.key.pem", "signing.crt.pem", "encryption.key.pem"} {
		t.Run("after "+placed, func(t *testing.T) {
			w := newWorld(t, "careful")
			r := w.run()
			for _, p := range r.Parked {
				if err := w.issuer.Approve(t.Context(), p.RequestID); err != nil {
					t.Fatal(err)
				}
			}
			w.run()
			for _, name := range []string{"signing.key.pem", "signing.crt.pem", "encryption.key.pem", "encryption.crt.pem"} {
				if err := os.Rename(w.path(name), w.path(name+".new")); err != nil {
					t.Fatal(err)
				}
			}
			for _, name := range []string{"signing.key.pem", "signing.crt.pem", "encryption.key.pem", "encryption.crt.pem"} {
				if err := os.Rename(w.path(name+".new"), w.path(name)); err != nil {
					t.Fatal(err)
				}
				if name == placed {
					break
				}
			}
			// What waits needs no CA; a pair that is in its place already would be
			// renewed, and is left out here.
			if placed != "signing.key.pem" {
				w.cfg.Roles = w.cfg.Roles[1:]
			}
			w.cfg.CA = cutOff{w.issuer, errors.New("the CA was asked")}
			w.run()
			w.wantPair("encryption")
		})
	}
}

// cutOff is a CA that must not be asked.
type cutOff struct {
	ca.Authority
	err error
}

func (c cutOff) Issue(context.Context, ca.Request) (*ca.Issued, error) { return nil, c.err }

func TestCertificateOfAnotherCAIsRefused(t *testing.T) {
	w, other := newWorld(t, "ra"), newWorld(t, "ra")
	w.cfg.Chain = other.cfg.Chain
	if _, err := ownenroll.Run(t.Context(), w.cfg); err == nil {
		t.Error("installed")
	}
	if _, err := os.Stat(w.path("signing.crt.pem")); err == nil {
		t.Error("a certificate is in its place")
	}
}

// flaky is a CA whose answers can be chosen.
type flaky struct {
	*embedded.CA
	fail  func(*ca.Issued, error) (*ca.Issued, error)
	asked int
}

func (f *flaky) Issue(ctx context.Context, req ca.Request) (*ca.Issued, error) {
	f.asked++
	if f.fail == nil {
		return f.CA.Issue(ctx, req)
	}
	return f.fail(f.CA.Issue(ctx, req))
}

// After an unknown outcome the CA is searched, with the same request, before
// anything is sent again.
func TestUnknownOutcomeIsLookedFor(t *testing.T) {
	w := newWorld(t, "ra")
	f := &flaky{CA: w.issuer, fail: func(*ca.Issued, error) (*ca.Issued, error) { return nil, ca.ErrOutcomeUnknown }}
	w.cfg.CA, w.cfg.Roles = f, w.cfg.Roles[:1]
	if _, err := ownenroll.Run(t.Context(), w.cfg); !errors.Is(err, ca.ErrOutcomeUnknown) {
		t.Fatalf("got %v", err)
	}
	w.run()
	if f.asked != 1 {
		t.Errorf("the CA was asked %d times for one certificate", f.asked)
	}
	w.wantPair("signing")
	if _, err := os.Stat(w.path("signing.crt.pem.sent")); err == nil {
		t.Error("the request is left over")
	}
}

// What surely did not reach the CA is sent anew, without a search.
func TestUnavailableBeginsAnew(t *testing.T) {
	w := newWorld(t, "ra")
	f := &flaky{CA: w.issuer, fail: func(*ca.Issued, error) (*ca.Issued, error) { return nil, ca.ErrUnavailable }}
	w.cfg.CA = f
	if _, err := ownenroll.Run(t.Context(), w.cfg); !errors.Is(err, ca.ErrUnavailable) {
		t.Fatalf("got %v", err)
	}
	if _, err := os.Stat(w.path("signing.crt.pem.sent")); err == nil {
		t.Error("a request that was never sent is kept as if it had been")
	}
	f.fail = nil
	w.run()
	w.wantPair("signing")
	w.wantPair("encryption")
}

// A TLS server is a role: the names come back in the certificate, or it is
// refused.
func TestTLSServer(t *testing.T) {
	w := newWorld(t, "ra")
	w.cfg.Roles = []ownenroll.Role{{
		Name: "tls", Certificate: w.path("tls.crt.pem"), Key: w.path("tls.key.pem"), Template: "ra",
		CommonName: "scep.corp.example", Hosts: []string{"scep.corp.example", "192.0.2.7"}, KeyUsage: x509.KeyUsageDigitalSignature,
	}}
	w.run()
	cert := w.wantPair("tls")
	if cert.Subject.CommonName != "scep.corp.example" || cert.VerifyHostname("192.0.2.7") != nil {
		t.Errorf("subject %q, addresses %v", cert.Subject, cert.IPAddresses)
	}
	w.cfg.CA = nil
	w.cfg.Direct = func(ctx context.Context, _ ownenroll.Role, key crypto.PublicKey, _ pkix.Name) (*x509.Certificate, error) {
		return w.issuer.IssueTLS(ctx, []string{"other.example"}, key)
	}
	if _, err := ownenroll.Run(t.Context(), w.cfg); err == nil {
		t.Error("a certificate for other names was installed")
	}
}
