package embedded_test

import (
	"bytes"
	"crypto/x509"
	"errors"
	"testing"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/catest"
	"github.com/certconnector/certconnector/ca/embedded"
)

func currentCRL(t *testing.T, authority *embedded.CA) *x509.RevocationList {
	t.Helper()
	der, err := authority.CRL(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestCRLIsKeptUntilThereIsReason(t *testing.T) {
	at := startOf2031()
	authority, reg := fixedCA(t, at)
	first := currentCRL(t, authority)
	if first.Number.Int64() != 1 || !first.NextUpdate.Equal(first.ThisUpdate.Add(7*day)) {
		t.Errorf("list %v lasts until %v", first.Number, first.NextUpdate)
	}
	at.at = at.at.Add(3 * day)
	if again := currentCRL(t, authority); !bytes.Equal(again.Raw, first.Raw) {
		t.Error("another list without a reason")
	}
	got, err := authority.Issue(t.Context(), ca.Request{CSR: catest.NewCSR(t, catest.CSROptions{}), Validity: 10 * day})
	if err != nil {
		t.Fatal(err)
	}
	if err := authority.Revoke(t.Context(), got.Certificate.SerialNumber, ca.Superseded); err != nil {
		t.Fatal(err)
	}
	second := currentCRL(t, authority)
	if second.Number.Int64() != 2 || len(second.RevokedCertificateEntries) != 1 {
		t.Errorf("list %v has %d entries after a revocation", second.Number, len(second.RevokedCertificateEntries))
	}
	at.at = at.at.Add(4 * day)
	if third := currentCRL(t, authority); third.Number.Int64() != 3 || len(third.RevokedCertificateEntries) != 1 {
		t.Errorf("list %v past half of the second's life", third.Number)
	}
	// An expired certificate leaves the list; a restart goes on counting.
	at.at = at.at.Add(30 * day)
	if last := currentCRL(t, authority); last.Number.Int64() != 4 || len(last.RevokedCertificateEntries) != 0 {
		t.Errorf("list %v has %d entries after they expired", last.Number, len(last.RevokedCertificateEntries))
	}
	if n, err := reg.Restart().NextCRLNumber(t.Context(), "lab"); err != nil || n != 5 {
		t.Errorf("next number %d, %v", n, err)
	}
}

func TestCRLWithoutRegisterIsUnavailable(t *testing.T) {
	authority, reg := fixedCA(t, startOf2031())
	reg.Break(catest.NextCRLNumber, errDisk, true)
	if _, err := authority.CRL(t.Context()); !errors.Is(err, ca.ErrUnavailable) {
		t.Errorf("CRL: %v, want ErrUnavailable", err)
	}
	if list := currentCRL(t, authority); list.Number.Int64() != 2 {
		t.Errorf("list %v, want 2: a number that may be spent is not used", list.Number)
	}
}

func TestRevocationThatWasNotRecorded(t *testing.T) {
	authority, reg := fixedCA(t, startOf2031())
	got, err := authority.Issue(t.Context(), ca.Request{CSR: catest.NewCSR(t, catest.CSROptions{})})
	if err != nil {
		t.Fatal(err)
	}
	serial := got.Certificate.SerialNumber
	reg.Break(catest.Revoke, errDisk, false)
	if err := authority.Revoke(t.Context(), serial, ca.KeyCompromise); !errors.Is(err, ca.ErrOutcomeUnknown) {
		t.Errorf("Revoke: %v, want ErrOutcomeUnknown", err)
	}
	if err := authority.Revoke(t.Context(), serial, ca.KeyCompromise); err != nil {
		t.Errorf("Revoke again: %v", err)
	}
	if list := currentCRL(t, authority); len(list.RevokedCertificateEntries) != 1 {
		t.Errorf("%d entries, want 1", len(list.RevokedCertificateEntries))
	}
}

func TestReasonsOutsideTheList(t *testing.T) {
	authority, _ := fixedCA(t, startOf2031())
	got, err := authority.Issue(t.Context(), ca.Request{CSR: catest.NewCSR(t, catest.CSROptions{})})
	if err != nil {
		t.Fatal(err)
	}
	for _, reason := range []ca.Reason{-1, 7, 8, 10, 11} {
		if err := authority.Revoke(t.Context(), got.Certificate.SerialNumber, reason); err == nil {
			t.Errorf("reason %d was taken", reason)
		}
	}
	if status, err := authority.Check(t.Context(), got.Certificate.SerialNumber); err != nil || status.Revoked {
		t.Errorf("status %+v, %v", status, err)
	}
	if err := authority.Revoke(t.Context(), got.Certificate.SerialNumber, ca.PrivilegeWithdrawn); err != nil {
		t.Fatal(err)
	}
	if status, err := authority.Check(t.Context(), got.Certificate.SerialNumber); err != nil || status.Reason != ca.PrivilegeWithdrawn {
		t.Errorf("status %+v, %v", status, err)
	}
}
