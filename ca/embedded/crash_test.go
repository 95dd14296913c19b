package embedded_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/catest"
	"github.com/certconnector/certconnector/ca/embedded"
	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/internal/testkeys"
)

var errDisk = errors.New("disk full")

// TestBrokenRecord breaks the write of a signed certificate in every way.
func TestBrokenRecord(t *testing.T) {
	for _, c := range []struct {
		name     string
		err      error
		persists bool
		want     error
		found    bool
	}{
		{"surely not written can be tried again", ca.ErrUnavailable, false, ca.ErrUnavailable, false},
		{"perhaps written, and was not", errDisk, false, ca.ErrOutcomeUnknown, false},
		{"perhaps written, and was", errDisk, true, ca.ErrOutcomeUnknown, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := startOf2031()
			authority, reg := fixedCA(t, at)
			reg.Break(catest.AddCertificate, c.err, c.persists)
			req := ca.Request{CSR: catest.NewCSR(t, catest.CSROptions{})}
			if _, err := authority.Issue(t.Context(), req); !errors.Is(err, c.want) {
				t.Fatalf("Issue: %v, want %v", err, c.want)
			}
			q := ca.Query{CSRDigest: req.CSR.Digest(), From: at.at}
			_, err := authority.Find(t.Context(), q)
			if c.found && err != nil || !c.found && !errors.Is(err, ca.ErrNotFound) {
				t.Errorf("Find: %v, want found %t", err, c.found)
			}
		})
	}
}

func careful() embedded.Profile { return embedded.Profile{Name: "careful", Approval: embedded.Manual} }

// parkOne parks a request and approves it.
func parkOne(t *testing.T, authority *embedded.CA) (ca.Request, string) {
	t.Helper()
	req := ca.Request{CSR: catest.NewCSR(t, catest.CSROptions{})}
	_, err := authority.Issue(t.Context(), req)
	pending, ok := errors.AsType[*ca.Pending](err)
	if !ok {
		t.Fatalf("Issue: %v, want *ca.Pending", err)
	}
	if err := authority.Approve(t.Context(), pending.RequestID); err != nil {
		t.Fatal(err)
	}
	return req, pending.RequestID
}

func TestBrokenCompletionIssuesOnce(t *testing.T) {
	for _, persists := range []bool{false, true} {
		authority, reg := fixedCA(t, startOf2031(), careful())
		_, id := parkOne(t, authority)
		reg.Break(catest.CompleteRequest, errDisk, persists)
		first, err := authority.Collect(t.Context(), id)
		if !persists && !errors.Is(err, ca.ErrOutcomeUnknown) || persists && err != nil {
			t.Fatalf("persisted %t: Collect: %v", persists, err)
		}
		again, err := authority.Collect(t.Context(), id)
		if err != nil {
			t.Fatalf("persisted %t: second Collect: %v", persists, err)
		}
		if first != nil && !first.Certificate.Equal(again.Certificate) {
			t.Errorf("persisted %t: two certificates for one request", persists)
		}
		if n := reg.Certificates("lab"); n != 1 {
			t.Errorf("persisted %t: %d certificates in the register", persists, n)
		}
	}
}

// TestPowerFailureBeforeTheSync loses a certificate that never left: the
// request is approved still, and is issued once more.
func TestPowerFailureBeforeTheSync(t *testing.T) {
	at, key := startOf2031(), testkeys.P256(1)
	root := rootOf(t, key, at.at.Add(-time.Hour), at.at.Add(365*day))
	cfg := embedded.Config{
		Key: key, Chain: []*x509.Certificate{root}, Clock: at.now, Profiles: []embedded.Profile{careful()},
	}
	reg := catest.NewRegister()
	cfg.Register = reg
	authority := mustOpen(t, cfg)
	req, id := parkOne(t, authority)
	lost, err := authority.Collect(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	reg = reg.Crash()
	cfg.Register = reg
	authority = mustOpen(t, cfg)
	_, err = authority.Find(t.Context(), ca.Query{CSRDigest: req.CSR.Digest(), From: at.at})
	if pending, ok := errors.AsType[*ca.Pending](err); !ok || pending.RequestID != id {
		t.Fatalf("Find: %v, want the parked request", err)
	}
	got, err := authority.Collect(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := authority.Check(t.Context(), lost.Certificate.SerialNumber); !errors.Is(err, ca.ErrNotFound) {
		t.Errorf("the lost certificate: %v, want ErrNotFound", err)
	}
	if n := reg.Certificates("lab"); n != 1 || got.Certificate.Equal(lost.Certificate) {
		t.Errorf("%d certificates in the register", n)
	}
}

// TestParkedUnderAnotherKey restarts with a local key that cannot open what
// was sealed: an operator brings the key back, so nothing is final.
func TestParkedUnderAnotherKey(t *testing.T) {
	at, reg, key := startOf2031(), catest.NewRegister(), testkeys.P256(1)
	root := rootOf(t, key, at.at.Add(-time.Hour), at.at.Add(365*day))
	cfg := embedded.Config{
		Key: key, Chain: []*x509.Certificate{root}, Clock: at.now, Profiles: []embedded.Profile{careful()}, Register: reg,
	}
	_, id := parkOne(t, mustOpen(t, cfg))
	other, err := secret.NewSealer(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	cfg.Sealer = other
	if _, err := mustOpen(t, cfg).Collect(t.Context(), id); !errors.Is(err, ca.ErrUnavailable) {
		t.Errorf("Collect: %v, want ErrUnavailable", err)
	}
	cfg.Sealer = nil
	if _, err := mustOpen(t, cfg).Collect(t.Context(), id); err != nil {
		t.Errorf("Collect with the key back: %v", err)
	}
}

// TestProfileThatIsGone removes the profile while its request is parked.
func TestProfileThatIsGone(t *testing.T) {
	at, reg, key := startOf2031(), catest.NewRegister(), testkeys.P256(1)
	root := rootOf(t, key, at.at.Add(-time.Hour), at.at.Add(365*day))
	cfg := embedded.Config{
		Key: key, Chain: []*x509.Certificate{root}, Clock: at.now, Profiles: []embedded.Profile{careful()}, Register: reg,
	}
	authority := mustOpen(t, cfg)
	_, err := authority.Issue(t.Context(), ca.Request{CSR: catest.NewCSR(t, catest.CSROptions{}), Template: "careful"})
	pending, ok := errors.AsType[*ca.Pending](err)
	if !ok {
		t.Fatalf("Issue: %v, want *ca.Pending", err)
	}
	if err := authority.Approve(t.Context(), pending.RequestID); err != nil {
		t.Fatal(err)
	}
	cfg.Profiles = []embedded.Profile{{Name: "other"}}
	_, err = mustOpen(t, cfg).Collect(t.Context(), pending.RequestID)
	wantDenied(t, err, ca.HResultUnknownTemplate)
}

func TestParkedTwiceIsParkedOnce(t *testing.T) {
	authority, reg := fixedCA(t, startOf2031(), careful())
	req := ca.Request{CSR: catest.NewCSR(t, catest.CSROptions{})}
	var ids [2]string
	for i := range ids {
		_, err := authority.Issue(t.Context(), req)
		pending, ok := errors.AsType[*ca.Pending](err)
		if !ok {
			t.Fatalf("Issue: %v, want *ca.Pending", err)
		}
		ids[i] = pending.RequestID
	}
	if ids[0] != ids[1] {
		t.Errorf("one request is parked as %s and %s", ids[0], ids[1])
	}
	parked, err := reg.Request(t.Context(), "lab", ids[0])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x509.ParseCertificateRequest(parked.CSR); err == nil {
		t.Error("the parked CSR, which has the challenge, is not sealed")
	}
}

func TestDecisionsAreFinal(t *testing.T) {
	authority, _ := fixedCA(t, startOf2031(), careful())
	_, approved := parkOne(t, authority)
	if err := authority.Deny(t.Context(), approved, "late"); !errors.Is(err, ca.ErrForbidden) {
		t.Errorf("denying an approved request: %v, want ErrForbidden", err)
	}
	if _, err := authority.Collect(t.Context(), approved); err != nil {
		t.Fatal(err)
	}
	if err := authority.Approve(t.Context(), approved); err != nil {
		t.Errorf("approving twice: %v", err)
	}
	if err := authority.Approve(t.Context(), "77"); !errors.Is(err, ca.ErrNotFound) {
		t.Errorf("approving an unknown request: %v, want ErrNotFound", err)
	}
}

// TestTwoMachines collects on two CAs that share key and register.
func TestTwoMachines(t *testing.T) {
	at, reg, key := startOf2031(), catest.NewRegister(), testkeys.P256(1)
	root := rootOf(t, key, at.at.Add(-time.Hour), at.at.Add(365*day))
	var machines [2]*embedded.CA
	for i := range machines {
		machines[i] = mustOpen(t, embedded.Config{
			Key: slowKey{key}, Chain: []*x509.Certificate{root}, Register: reg, Clock: at.now,
			Profiles: []embedded.Profile{careful()},
		})
	}
	_, id := parkOne(t, machines[0])
	type result struct {
		issued *ca.Issued
		err    error
	}
	results := make(chan result)
	for _, m := range machines {
		go func() {
			got, err := m.Collect(t.Context(), id)
			results <- result{got, err}
		}()
	}
	one, two := <-results, <-results
	if err := errors.Join(one.err, two.err); err != nil {
		t.Fatal(err)
	}
	if !one.issued.Certificate.Equal(two.issued.Certificate) || reg.Certificates("lab") != 1 {
		t.Error("two machines issued for one request")
	}
	// What one revokes the other lists, after a minute at most.
	if _, err := machines[1].CRL(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := machines[0].Revoke(t.Context(), one.issued.Certificate.SerialNumber, ca.KeyCompromise); err != nil {
		t.Fatal(err)
	}
	at.at = at.at.Add(time.Minute)
	if list := currentCRL(t, machines[1]); len(list.RevokedCertificateEntries) != 1 {
		t.Error("the other machine does not list what this one revoked")
	}
}

// slowKey lets both machines of a test sign before either records.
type slowKey struct{ crypto.Signer }

func (k slowKey) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	time.Sleep(5 * time.Millisecond)
	return k.Signer.Sign(rand, digest, opts)
}

// brokenKey is an HSM whose cable was pulled.
type brokenKey struct{ crypto.Signer }

func (brokenKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("no such token")
}

func TestKeyThatDoesNotSign(t *testing.T) {
	key, reg := testkeys.P256(1), catest.NewRegister()
	root := rootOf(t, key, time.Now().Add(-time.Hour), time.Now().Add(day))
	authority := mustOpen(t, embedded.Config{Key: brokenKey{key}, Chain: []*x509.Certificate{root}, Register: reg})
	_, err := authority.Issue(t.Context(), ca.Request{CSR: catest.NewCSR(t, catest.CSROptions{})})
	if !errors.Is(err, ca.ErrUnavailable) || reg.Certificates("lab") != 0 {
		t.Errorf("Issue: %v with %d rows, want ErrUnavailable and none", err, reg.Certificates("lab"))
	}
}

func TestCancelledWhileSigning(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	key, reg := testkeys.P256(1), catest.NewRegister()
	root := rootOf(t, key, time.Now().Add(-time.Hour), time.Now().Add(day))
	authority := mustOpen(t, embedded.Config{Key: cancellingKey{key, cancel}, Chain: []*x509.Certificate{root}, Register: reg})
	_, err := authority.Issue(ctx, ca.Request{CSR: catest.NewCSR(t, catest.CSROptions{})})
	// The register says that it surely did not write.
	if !errors.Is(err, ca.ErrUnavailable) || reg.Certificates("lab") != 0 {
		t.Errorf("Issue: %v with %d rows, want ErrUnavailable and none", err, reg.Certificates("lab"))
	}
}

type cancellingKey struct {
	crypto.Signer
	cancel context.CancelFunc
}

func (k cancellingKey) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	k.cancel()
	return k.Signer.Sign(rand, digest, opts)
}

// countingKey counts what it signs.
type countingKey struct {
	crypto.Signer
	signed *int
}

func (k countingKey) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	*k.signed++
	return k.Signer.Sign(rand, digest, opts)
}

// TestNothingIsSignedInVain cancels before, and asks for names that nobody
// could read: neither may use the key.
func TestNothingIsSignedInVain(t *testing.T) {
	key, signed := testkeys.P256(1), 0
	root := rootOf(t, key, time.Now().Add(-time.Hour), time.Now().Add(day))
	authority := mustOpen(t, embedded.Config{Key: countingKey{key, &signed}, Chain: []*x509.Certificate{root}})
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := authority.Issue(cancelled, ca.Request{CSR: catest.NewCSR(t, catest.CSROptions{})}); !errors.Is(err, ca.ErrUnavailable) {
		t.Errorf("cancelled: %v, want ErrUnavailable", err)
	}
	mail := catest.CSROptions{RawSAN: []byte("\x30\x04\x81\x02\xff\xfe")} // an address that is no IA5String
	_, err := authority.Issue(t.Context(), ca.Request{CSR: catest.NewCSR(t, mail)})
	wantDenied(t, err, ca.HResultTemplateDenied)
	if signed != 0 {
		t.Errorf("%d signatures", signed)
	}
}
