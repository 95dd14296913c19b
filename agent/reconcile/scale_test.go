package reconcile_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/agent/journal/sqlite"
	"github.com/certconnector/certconnector/agent/reconcile"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/internal/testkeys"
)

// good is a CA that calls everything good.
type good struct{ ca.Authority }

func (good) Check(context.Context, *big.Int) (ca.Status, error) { return ca.Status{}, nil }

// heaviest is a journal that watches the memory in use while it is read.
type heaviest struct {
	reconcile.Journal
	pages int
	most  uint64
}

func (h *heaviest) List(ctx context.Context, q journal.Query) ([]journal.Entry, error) {
	if h.pages++; h.pages%20 == 0 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		h.most = max(h.most, m.HeapAlloc)
	}
	return h.Journal.List(ctx, q)
}

// TestMemoryOfALongHistory reads a hundred thousand enrolments, each of a
// device of its own with a certificate of 1.1 kB, in the memory of their digests.
func TestMemoryOfALongHistory(t *testing.T) {
	if testing.Short() {
		t.Skip("reads a large journal")
	}
	const rows = 100_000
	path := filepath.Join(t.TempDir(), "journal.db")
	if err := sqlite.Create(path); err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(77), Subject: pkix.Name{CommonName: "device"}, DNSNames: []string{"device.corp.example"},
		NotBefore: time.Now().Add(-100 * day), NotAfter: time.Now().Add(265 * day),
		ExtraExtensions: []pkix.Extension{{Id: []int{1, 3, 6, 1, 4, 1, 311, 99}, Value: make([]byte, 700)}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, testkeys.P256(0).Public(), testkeys.P256(0))
	if err != nil {
		t.Fatal(err)
	}
	if err := sqlite.Seed(path, sqlite.SeedOptions{Rows: rows, DER: der}); err != nil {
		t.Fatal(err)
	}
	j, err := sqlite.Open(path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	h := &heaviest{Journal: j}
	r, err := reconcile.New(reconcile.Config{Journal: h, CAs: map[string]ca.Authority{"lab": good{}}, CheckEvery: time.Nanosecond})
	if err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	began := time.Now()
	report, err := r.Run(t.Context(), reconcile.Options{Checks: 1000})
	if err != nil {
		t.Fatal(err)
	}
	grown := int64(h.most) - int64(before.HeapAlloc)
	t.Logf("%d entries in %v, %d checked; the heap grew by %.1f MB", report.Entries, time.Since(began).Round(time.Millisecond), report.Checked, float64(grown)/1e6)
	if report.Entries != rows || report.Checked != 1000 || report.Unchecked != rows-1000 || len(report.Findings) != 0 || report.NextCheck == 0 {
		t.Errorf("%d entries, %d checked, %d not, %d findings", report.Entries, report.Checked, report.Unchecked, len(report.Findings))
	}
	if grown > 24e6 {
		t.Errorf("the heap grew by %d bytes while %d entries were read", grown, rows)
	}
}
