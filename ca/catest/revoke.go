package catest

import (
	"crypto/x509"
	"math/big"
	"testing"
	"time"

	"github.com/certconnector/certconnector/ca"
)

// reasons are those that every CA takes.
var reasons = []ca.Reason{
	ca.Unspecified, ca.KeyCompromise, ca.CACompromise, ca.AffiliationChanged,
	ca.Superseded, ca.CessationOfOperation, ca.CertificateHold,
}

func (s *suite) runRevoke(run runner) {
	run("every reason revokes, twice is a success", s.revoke)
	run("unknown serial number is not found", func(t *testing.T, b *Bridge) {
		err := must[ca.Revoker](b.officer()).Revoke(t.Context(), big.NewInt(0x5eed), ca.Superseded)
		wantError(t, err, ca.ErrNotFound)
		if s.can(CanCheck) {
			_, err := must[ca.Checker](b.officer()).Check(t.Context(), big.NewInt(0x5eed))
			wantError(t, err, ca.ErrNotFound)
		}
	})
}

func (s *suite) revoke(t *testing.T, b *Bridge) {
	_, valid := mustIssue(t, b, CSROptions{})
	revoked := map[string]ca.Reason{}
	for _, reason := range reasons {
		_, got := mustIssue(t, b, CSROptions{})
		serial := got.Certificate.SerialNumber
		for range 2 {
			if err := must[ca.Revoker](b.officer()).Revoke(t.Context(), serial, reason); err != nil {
				t.Fatalf("Revoke with %v: %v", reason, err)
			}
		}
		revoked[serial.Text(16)] = reason
		s.checkStatus(t, b, got, true, reason)
	}
	s.checkStatus(t, b, valid, false, 0)
	if s.can(CanPublish) {
		s.checkList(t, b, revoked)
	}
}

func (s *suite) checkStatus(t *testing.T, b *Bridge, of *ca.Issued, revoked bool, reason ca.Reason) {
	t.Helper()
	if !s.can(CanCheck) {
		return
	}
	status, err := must[ca.Checker](b.officer()).Check(t.Context(), of.Certificate.SerialNumber)
	if err != nil {
		t.Fatalf("Check: %v", err)
	}
	if status.Revoked != revoked || status.Reason != reason {
		t.Errorf("revoked %t for %v, want %t for %v", status.Revoked, status.Reason, revoked, reason)
	}
	if revoked && (status.RevokedAt.Before(b.now().Add(-time.Hour)) || status.RevokedAt.After(b.now().Add(time.Minute))) {
		t.Errorf("revoked at %v, but it is %v", status.RevokedAt, b.now())
	}
	if status.Certificate != nil && !status.Certificate.Equal(of.Certificate) {
		t.Error("Check returned another certificate")
	}
}

// checkList checks that the revocation list is signed by the CA, current, and
// has exactly these entries.
func (s *suite) checkList(t *testing.T, b *Bridge, revoked map[string]ca.Reason) {
	t.Helper()
	der, err := must[ca.Publisher](b.officer()).CRL(t.Context())
	if err != nil {
		t.Fatalf("CRL: %v", err)
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatalf("revocation list does not read: %v", err)
	}
	chain, err := b.Authority.Chain(t.Context())
	if err != nil {
		t.Fatalf("Chain: %v", err)
	}
	if err := list.CheckSignatureFrom(chain[0]); err != nil {
		t.Errorf("revocation list is not signed by the CA: %v", err)
	}
	if now := b.now(); list.ThisUpdate.After(now) || !list.NextUpdate.After(now) || list.Number == nil {
		t.Errorf("list %v is for %v to %v, but it is %v", list.Number, list.ThisUpdate, list.NextUpdate, now)
	}
	if len(list.RevokedCertificateEntries) != len(revoked) {
		t.Errorf("%d entries, want %d", len(list.RevokedCertificateEntries), len(revoked))
	}
	for _, entry := range list.RevokedCertificateEntries {
		if reason, ok := revoked[entry.SerialNumber.Text(16)]; !ok || int(reason) != entry.ReasonCode {
			t.Errorf("entry %X for reason %d, want %v (listed: %t)", entry.SerialNumber, entry.ReasonCode, reason, ok)
		}
	}
}
