package reconcile_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/agent/journal/sqlite"
	"github.com/certconnector/certconnector/agent/reconcile"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/embedded"
	"github.com/certconnector/certconnector/internal/pkcs10"
	"github.com/certconnector/certconnector/internal/testkeys"
)

const day = 24 * time.Hour

// world is a journal, a CA of our own whose register is in it, and a clock.
type world struct {
	t       *testing.T
	clock   time.Time
	journal *sqlite.Journal
	ca      *embedded.CA
	asked   *asked
	cfg     reconcile.Config
	audit   *observer.ObservedLogs
	revoked []string
	woken   int
	count   int
}

// asked counts what a CA is asked, and may answer otherwise.
type asked struct {
	ca.Authority
	ca.Revoker
	checker ca.Checker
	mu      sync.Mutex
	n, busy int
	busiest int
	err     error
}

func (a *asked) Check(ctx context.Context, serial *big.Int) (ca.Status, error) {
	a.mu.Lock()
	a.n++
	a.busy++
	a.busiest = max(a.busiest, a.busy)
	err := a.err
	a.mu.Unlock()
	defer func() { a.mu.Lock(); a.busy--; a.mu.Unlock() }()
	if err != nil {
		return ca.Status{}, err
	}
	return a.checker.Check(ctx, serial)
}

// mute is a CA that issues and tells nothing.
type mute struct{ ca.Authority }

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, clock: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	now := func() time.Time { return w.clock }
	path := filepath.Join(t.TempDir(), "journal.db")
	if err := sqlite.Create(path); err != nil {
		t.Fatal(err)
	}
	var err error
	if w.journal, err = sqlite.Open(path, sqlite.Options{Clock: now}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.journal.Close(); err != nil {
			t.Error(err)
		}
	})
	key := testkeys.P256(0)
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Lab"}, NotBefore: w.clock.Add(-time.Hour), NotAfter: w.clock.AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte{1},
	}
	der, err := x509.CreateCertificate(rand.Reader, root, root, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := x509.ParseCertificates(der)
	if err != nil {
		t.Fatal(err)
	}
	if w.ca, err = embedded.Open(embedded.Config{Name: "lab", Key: key, Chain: chain, Register: w.journal, Clock: now}); err != nil {
		t.Fatal(err)
	}
	w.asked = &asked{Authority: w.ca, Revoker: w.ca, checker: w.ca}
	core, logs := observer.New(zap.InfoLevel)
	w.audit = logs
	w.cfg = reconcile.Config{
		Journal: w.journal, CAs: map[string]ca.Authority{"lab": w.asked}, Clock: now, Audit: zap.New(core), CheckEvery: time.Microsecond,
		Revoke: func(ctx context.Context, name string, serial *big.Int) error {
			w.revoked = append(w.revoked, fmt.Sprintf("%s %X", name, serial))
			return w.ca.Revoke(ctx, serial, ca.CessationOfOperation)
		},
		Wake: func() { w.woken++ },
	}
	return w
}

func (w *world) run(o reconcile.Options) reconcile.Report {
	w.t.Helper()
	r, err := reconcile.New(w.cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	report, err := r.Run(w.t.Context(), o)
	if err != nil {
		w.t.Fatal(err)
	}
	return report
}

// begin records the intent of one device and takes it to submitted.
func (w *world) begin(device string) (journal.Entry, *journal.Owned, *pkcs10.Request) {
	w.t.Helper()
	w.count++
	id := sha256.Sum256([]byte(fmt.Sprint(w.count)))
	key := testkeys.P256(1)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: device}, DNSNames: []string{device + ".corp.example"},
	}, key)
	if err != nil {
		w.t.Fatal(err)
	}
	csr, err := pkcs10.Parse(der)
	if err != nil {
		w.t.Fatal(err)
	}
	e, owned, err := w.journal.Begin(w.t.Context(), journal.Intent{
		Endpoint: "corp", Tenant: "contoso", TransactionID: fmt.Sprint(w.count), SignerKey: id, SignerID: id, CSRDigest: csr.Digest(), CSRKey: id, Names: id,
		CA: "lab", Subject: csr.SubjectString(), SealedCSR: []byte("sealed"), Notify: true, Now: w.clock, Lease: time.Minute, GiveUp: w.clock.Add(50 * time.Minute),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.step(owned, journal.Step{To: journal.Submitted, NextAt: w.clock.Add(time.Minute), SubmittedAt: w.clock})
	return e, owned, csr
}

func (w *world) step(owned *journal.Owned, s journal.Step) journal.Entry {
	w.t.Helper()
	s.Now = w.clock
	e, err := w.journal.Advance(w.t.Context(), owned, s)
	if err != nil {
		w.t.Fatal(err)
	}
	return e
}

// enrol issues a certificate for a device and records it as state says.
func (w *world) enrol(device string, to journal.State, owe ...journal.DebtKind) journal.Entry {
	w.t.Helper()
	_, owned, csr := w.begin(device)
	issued, err := w.ca.Issue(w.t.Context(), ca.Request{CSR: csr})
	if err != nil {
		w.t.Fatal(err)
	}
	s := journal.Step{To: to, Certificate: issued.Certificate.Raw, Serial: hexSerial(issued.Certificate.SerialNumber), Owe: owe, OweAt: w.clock}
	switch to {
	case journal.Issued:
		s.NextAt = w.clock.Add(50 * time.Minute)
	case journal.Failed:
		s.Failure = &journal.Failure{Rule: "mismatch", Text: "not what was asked for"}
	case journal.Abandoned:
		s.To, s.NextAt, s.Owe = journal.Issued, w.clock.Add(time.Minute), nil
		w.step(owned, s)
		s = journal.Step{To: to, Owe: owe, OweAt: w.clock, Failure: &journal.Failure{Rule: "withheld_too_long"}}
	}
	return w.step(owned, s)
}

// hexSerial writes a serial number as entries have it.
func hexSerial(n *big.Int) string {
	s := fmt.Sprintf("%X", n)
	if len(s)%2 == 1 {
		s = "0" + s
	}
	return s
}

// later lets time pass.
func (w *world) later(d time.Duration) { w.clock = w.clock.Add(d) }

// broken is a journal whose list of enrolments cannot be read.
type broken struct{ reconcile.Journal }

func (broken) List(context.Context, journal.Query) ([]journal.Entry, error) {
	return nil, fmt.Errorf("disk I/O error")
}

type checkerFunc func(context.Context, *big.Int) (ca.Status, error)

func (f checkerFunc) Check(ctx context.Context, serial *big.Int) (ca.Status, error) {
	return f(ctx, serial)
}
