package journaltest

import (
	"bytes"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/certconnector/certconnector/ca"
)

// registered is a certificate of the register; n tells them apart.
func (f *fixture) registered(n int64) ca.RegisteredCertificate {
	now := f.clock()
	serial := new(big.Int).Add(new(big.Int).Lsh(big.NewInt(1), 150), big.NewInt(n))
	return ca.RegisteredCertificate{
		Serial: serial, DER: serial.Bytes(), CSRDigest: digest("csr of " + serial.String()), IssuedAt: now, NotAfter: now.Add(90 * 24 * time.Hour),
	}
}

func (f *fixture) add(c ca.RegisteredCertificate) {
	f.t.Helper()
	if err := f.Register.AddCertificate(f.t.Context(), "lab", c); err != nil {
		f.t.Fatalf("add certificate: %v", err)
	}
}

func wantCertificate(t *testing.T, got, want ca.RegisteredCertificate) {
	t.Helper()
	if got.Serial.Cmp(want.Serial) != 0 || !bytes.Equal(got.DER, want.DER) || got.CSRDigest != want.CSRDigest ||
		!got.IssuedAt.Equal(want.IssuedAt) || !got.NotAfter.Equal(want.NotAfter) ||
		got.Revoked != want.Revoked || got.Reason != want.Reason || !got.RevokedAt.Equal(want.RevokedAt) {
		t.Errorf("\n got %+v\nwant %+v", got, want)
	}
}

func testRegister(t *testing.T, open func(*testing.T) *fixture) {
	t.Run("certificates are found by serial number", func(t *testing.T) {
		f := open(t)
		c := f.registered(1)
		f.add(c)
		f.add(c) // the same again is a success
		wantCertificate(t, must(f.Register.Certificate(t.Context(), "lab", c.Serial))(t), c)
		_, err := f.Register.Certificate(t.Context(), "other", c.Serial)
		wantError(t, "at another CA", err, ca.ErrNotFound)
		_, err = f.Register.Certificate(t.Context(), "lab", big.NewInt(1))
		wantError(t, "another serial number", err, ca.ErrNotFound)
		c.DER = []byte("another")
		if err := f.Register.AddCertificate(t.Context(), "lab", c); err == nil {
			t.Error("one serial number was given to two certificates")
		}
	})
	t.Run("the newest certificate of a CSR is found in its time", func(t *testing.T) {
		f := open(t)
		older := f.registered(1)
		f.add(older)
		f.pass(time.Minute)
		newer := f.registered(2)
		newer.CSRDigest = older.CSRDigest
		f.add(newer)
		find := func(from time.Time) (ca.RegisteredCertificate, error) {
			return f.Register.FindCertificate(t.Context(), "lab", older.CSRDigest, from)
		}
		wantCertificate(t, must(find(start))(t), newer)
		wantCertificate(t, must(find(newer.IssuedAt))(t), newer)
		_, err := find(newer.IssuedAt.Add(1))
		wantError(t, "since after the last", err, ca.ErrNotFound)
		_, err = f.Register.FindCertificate(t.Context(), "other", older.CSRDigest, start)
		wantError(t, "at another CA", err, ca.ErrNotFound)
	})
	t.Run("a revocation keeps its first reason and time", func(t *testing.T) { testRevoke(t, open(t)) })
	t.Run("CRL numbers are never given twice", func(t *testing.T) { testCRLNumbers(t, open(t)) })
	t.Run("a parked request is decided once", func(t *testing.T) { testParked(t, open(t)) })
}

func testRevoke(t *testing.T, f *fixture) {
	ctx := t.Context()
	c := f.registered(1)
	f.add(c)
	f.add(f.registered(2))
	at := f.clock().Add(time.Minute)
	for _, reason := range []ca.Reason{ca.KeyCompromise, ca.Superseded} {
		if err := f.Register.RevokeCertificate(ctx, "lab", c.Serial, reason, at); err != nil {
			t.Fatalf("revoke: %v", err)
		}
		at = at.Add(time.Hour)
	}
	c.Revoked, c.Reason, c.RevokedAt = true, ca.KeyCompromise, f.clock().Add(time.Minute)
	wantCertificate(t, must(f.Register.Certificate(ctx, "lab", c.Serial))(t), c)
	wantError(t, "an unknown one", f.Register.RevokeCertificate(ctx, "lab", big.NewInt(7), ca.Superseded, at), ca.ErrNotFound)

	list := must(f.Register.Revoked(ctx, "lab", c.NotAfter))(t)
	if len(list) != 1 {
		t.Fatalf("%d revoked certificates, want 1", len(list))
	}
	wantCertificate(t, list[0], c)
	if list := must(f.Register.Revoked(ctx, "lab", c.NotAfter.Add(1)))(t); len(list) != 0 {
		t.Error("an expired certificate is listed")
	}
	if list := must(f.Register.Revoked(ctx, "other", start))(t); len(list) != 0 {
		t.Error("another CA's certificate is listed")
	}
}

func testCRLNumbers(t *testing.T, f *fixture) {
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		seen = map[int64]bool{}
	)
	for range rivals {
		wg.Go(func() {
			n, err := f.Register.NextCRLNumber(t.Context(), "lab")
			mu.Lock()
			defer mu.Unlock()
			if err != nil || seen[n] || n < 1 || n > rivals {
				t.Errorf("number %d, seen %v, error %v", n, seen[n], err)
			}
			seen[n] = true
		})
	}
	wg.Wait()
	f.reopen()
	if n := must(f.Register.NextCRLNumber(t.Context(), "lab"))(t); n != rivals+1 {
		t.Errorf("number after a restart is %d, want %d", n, rivals+1)
	}
	if n := must(f.Register.NextCRLNumber(t.Context(), "other"))(t); n != 1 {
		t.Errorf("another CA's first number is %d", n)
	}
}

func testParked(t *testing.T, f *fixture) {
	ctx := t.Context()
	r := ca.ParkedRequest{CSR: []byte("sealed"), CSRDigest: digest("csr"), Template: "Device", Validity: time.Hour, MaxValidity: 2 * time.Hour, State: ca.Waiting, At: f.clock()}
	park := func() string { return must(f.Register.ParkRequest(ctx, "lab", r))(t) }
	read := func(id string) ca.ParkedRequest { return must(f.Register.Request(ctx, "lab", id))(t) }

	id := park()
	if got := read(id); got.ID != id || !bytes.Equal(got.CSR, r.CSR) || got.CSRDigest != r.CSRDigest || got.Template != r.Template ||
		got.Validity != r.Validity || got.MaxValidity != r.MaxValidity || got.State != ca.Waiting || got.Serial != nil || !got.At.Equal(r.At) {
		t.Errorf("read back: %+v", got)
	}
	for _, unknown := range []string{"", "x", "999", "-1", id + " "} {
		_, err := f.Register.Request(ctx, "lab", unknown)
		wantError(t, "unknown ID", err, ca.ErrNotFound)
	}
	_, err := f.Register.Request(ctx, "other", id)
	wantError(t, "at another CA", err, ca.ErrNotFound)
	c := f.registered(1)
	wantError(t, "completing before the decision", f.Register.CompleteRequest(ctx, "lab", id, c), ca.ErrForbidden)

	for range 2 { // deciding the same again is a success
		if err := f.Register.DecideRequest(ctx, "lab", id, ca.Approved, ""); err != nil {
			t.Fatalf("approve: %v", err)
		}
	}
	wantError(t, "deciding otherwise", f.Register.DecideRequest(ctx, "lab", id, ca.Rejected, "no"), ca.ErrForbidden)
	for range 2 {
		if err := f.Register.CompleteRequest(ctx, "lab", id, c); err != nil {
			t.Fatalf("complete: %v", err)
		}
	}
	if got := read(id); got.State != ca.Complete || got.Serial == nil || got.Serial.Cmp(c.Serial) != 0 {
		t.Errorf("completed request: %+v", got)
	}
	wantCertificate(t, must(f.Register.Certificate(ctx, "lab", c.Serial))(t), c)
	wantError(t, "completing with another certificate", f.Register.CompleteRequest(ctx, "lab", id, f.registered(2)), ca.ErrForbidden)

	denied := park()
	if denied == id {
		t.Fatal("one ID was given twice")
	}
	if err := f.Register.DecideRequest(ctx, "lab", denied, ca.Rejected, "not ours"); err != nil {
		t.Fatalf("deny: %v", err)
	}
	if got := read(denied); got.State != ca.Rejected || got.Why != "not ours" {
		t.Errorf("denied request: %+v", got)
	}
	wantError(t, "completing a denied one", f.Register.CompleteRequest(ctx, "lab", denied, f.registered(3)), ca.ErrForbidden)
	wantError(t, "approving a denied one", f.Register.DecideRequest(ctx, "lab", denied, ca.Approved, ""), ca.ErrForbidden)
	if err := f.Register.DecideRequest(ctx, "lab", park(), ca.Complete, ""); err == nil {
		t.Error("a decision that is none was accepted")
	}
	wantError(t, "deciding an unknown one", f.Register.DecideRequest(ctx, "lab", "999", ca.Approved, ""), ca.ErrNotFound)
}
