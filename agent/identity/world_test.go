package identity_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/certconnector/certconnector/agent/identity"
	"github.com/certconnector/certconnector/agent/identity/ownenroll"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/catest"
	"github.com/certconnector/certconnector/ca/embedded"
	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/scep"
)

const day = 24 * time.Hour

// start is when all tests begin.
var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// clock is set by hand.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// world is a CA, an endpoint's files and a state folder.
type world struct {
	t      *testing.T
	clock  *clock
	ca     *fakeCA
	dir    string
	log    *observer.ObservedLogs
	logger *zap.Logger
}

func newWorld(t *testing.T) *world {
	t.Helper()
	core, logs := observer.New(zapcore.InfoLevel)
	w := &world{t: t, clock: &clock{now: start}, dir: t.TempDir(), log: logs, logger: zap.New(core)}
	w.ca = &fakeCA{w: w}
	w.ca.renew(10*365*day, "Issuing CA")
	return w
}

// fakeCA is a CA with behaviour: it can be down, lose its answer, get a new
// certificate and park what is asked.
type fakeCA struct {
	w *world

	mu       sync.Mutex
	issuer   *embedded.CA
	validity time.Duration // of the profiles
	down     error
	lost     bool // answers get lost, once
	issues   int  // how often Issue was called
}

// renew gives the CA a new key and certificate.
func (f *fakeCA) renew(validity time.Duration, name string) {
	f.w.t.Helper()
	folder := f.w.t.TempDir()
	if _, err := embedded.Create(folder, embedded.Options{
		Subject: pkix.Name{CommonName: name}, KeyKind: embedded.P256, Validity: validity, Clock: f.w.clock.Now,
	}); err != nil {
		f.w.t.Fatal(err)
	}
	sealer, err := secret.NewSealer(make([]byte, 32))
	if err != nil {
		f.w.t.Fatal(err)
	}
	if f.validity == 0 {
		f.validity = 2 * 365 * day
	}
	issuer, err := embedded.Open(embedded.Config{
		Name: "issuing", Dir: folder, Register: catest.NewRegister(), Sealer: sealer, Clock: f.w.clock.Now,
		Profiles: []embedded.Profile{
			{Name: "ra", DefaultValidity: f.validity, MaxValidity: f.validity},
			{Name: "careful", DefaultValidity: f.validity, MaxValidity: f.validity, Approval: embedded.Manual},
		},
	})
	if err != nil {
		f.w.t.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.issuer = issuer
}

func (f *fakeCA) set(down error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = down
}

func (f *fakeCA) state() (issuer *embedded.CA, down error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.issuer, f.down
}

func (f *fakeCA) Chain(ctx context.Context) ([]*x509.Certificate, error) {
	issuer, down := f.state()
	if down != nil {
		return nil, down
	}
	return issuer.Chain(ctx)
}

func (f *fakeCA) Issue(ctx context.Context, req ca.Request) (*ca.Issued, error) {
	issuer, down := f.state()
	if down != nil {
		return nil, down
	}
	issued, err := issuer.Issue(ctx, req)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.issues++
	if f.lost {
		f.lost = false
		return nil, ca.ErrOutcomeUnknown
	}
	return issued, err
}

func (f *fakeCA) Collect(ctx context.Context, id string) (*ca.Issued, error) {
	issuer, down := f.state()
	if down != nil {
		return nil, down
	}
	return issuer.Collect(ctx, id)
}

func (f *fakeCA) Find(ctx context.Context, q ca.Query) (*ca.Issued, error) {
	issuer, down := f.state()
	if down != nil {
		return nil, down
	}
	return issuer.Find(ctx, q)
}

// direct issues as a CA in the process does.
func (f *fakeCA) direct(ctx context.Context, role ownenroll.Role, key crypto.PublicKey, subject pkix.Name) (*x509.Certificate, error) {
	issuer, down := f.state()
	if down != nil {
		return nil, down
	}
	return identity.Embedded(issuer)(ctx, role, key, subject)
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

// operatorPair has the CA sign a pair and puts it where the configuration
// says.
func (w *world) operatorPair(name string, key int) identity.Files {
	w.t.Helper()
	issuer, _ := w.ca.state()
	cert, err := issuer.IssueRA(w.t.Context(), embedded.RAPurpose(name), testkeys.RSA2048(key).Public(), pkix.Name{CommonName: "scep.corp.example RA " + name})
	if err != nil {
		w.t.Fatal(err)
	}
	return w.writePair(name, testkeys.RSA2048(key), cert)
}

func (w *world) writePair(name string, key crypto.Signer, certs ...*x509.Certificate) identity.Files {
	w.t.Helper()
	f := identity.Files{Certificate: w.path(name + ".crt.pem"), Key: w.path(name + ".key.pem")}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		w.t.Fatal(err)
	}
	w.write(f.Key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	w.write(f.Certificate, pemOf(certs...))
	return f
}

func pemOf(certs ...*x509.Certificate) []byte {
	var b bytes.Buffer
	for _, c := range certs {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	return b.Bytes()
}

func (w *world) write(path string, content []byte) {
	w.t.Helper()
	if err := errors.Join(os.WriteFile(path, content, 0o600), os.Chmod(path, 0o600)); err != nil {
		w.t.Fatal(err)
	}
}

// config is a split RA whose files are there, renewed by a CA in the process.
func (w *world) config() identity.RAConfig {
	return identity.RAConfig{
		Endpoint: "corp", Material: scep.RA{Shape: scep.SplitRA, IncludeRoot: true},
		Signing: w.operatorPair("signing", 0), Encryption: w.operatorPair("encryption", 1),
		Folder: w.path("identity/ra-corp"), Chain: identity.NewChain(w.ca.Chain, w.clock.Now),
		Renew: &identity.Renewal{Direct: w.ca.direct}, Clock: w.clock.Now, Log: w.logger,
	}
}

func (w *world) open(cfg identity.RAConfig) *identity.RA {
	w.t.Helper()
	ra, err := identity.OpenRA(w.t.Context(), cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	return ra
}

func (w *world) tend(own identity.Own) {
	w.t.Helper()
	if err := own.Tend(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// live wants an RA.
func (w *world) live(ra *identity.RA) *scep.RA {
	w.t.Helper()
	live := ra.Live()
	if live == nil {
		w.t.Fatalf("there is no live RA: %v", ra.Expired())
	}
	return live
}

type ctx = context.Context

func leafOf(c *tls.Certificate) *x509.Certificate {
	if c == nil {
		return nil
	}
	return c.Leaf
}

// fileCertificate reads what the operator put there.
func (w *world) fileCertificate(f identity.Files) *x509.Certificate {
	w.t.Helper()
	chain, err := embedded.LoadChain(f.Certificate)
	if err != nil {
		w.t.Fatal(err)
	}
	return chain[0]
}

// item finds a row.
func item(t *testing.T, own identity.Own, kind identity.Kind) identity.Item {
	t.Helper()
	for _, i := range own.Items() {
		if i.Kind == kind {
			return i
		}
	}
	t.Fatalf("no row of kind %s in %+v", kind, own.Items())
	return identity.Item{}
}
