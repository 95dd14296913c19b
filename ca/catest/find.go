package catest

import (
	"errors"
	"testing"
	"time"

	"github.com/certconnector/certconnector/ca"
)

func (s *suite) runFind(run runner) {
	run("certificate whose answer was lost is found", s.findLost)
	run("request that was never submitted is surely not found", func(t *testing.T, b *Bridge) {
		mustIssue(t, b, CSROptions{})
		req := ca.Request{CSR: NewCSR(t, CSROptions{})}
		_, err := must[ca.Finder](b.Authority).Find(t.Context(), queryFor(b, req))
		wantError(t, err, ca.ErrNotFound)
	})
	run("certificate from before the window is not found", func(t *testing.T, b *Bridge) {
		req, _ := mustIssue(t, b, CSROptions{})
		q := queryFor(b, req)
		q.From = b.now().Add(30 * time.Minute)
		_, err := must[ca.Finder](b.Authority).Find(t.Context(), q)
		wantError(t, err, ca.ErrNotFound)
	})
}

func (s *suite) findLost(t *testing.T, b *Bridge) {
	if b.Lose == nil {
		t.Skip("answers cannot be lost here")
	}
	req := ca.Request{CSR: NewCSR(t, CSROptions{}), Template: b.Templates.Issue}
	b = b.Lose(t, req)
	got, err := must[ca.Finder](b.Authority).Find(t.Context(), queryFor(b, req))
	if err != nil {
		t.Fatalf("Find: %v", err)
	}
	checkAgainst(t, b, req, got)
}

// restart checks that certificates, revocations and the chain survive.
func (s *suite) restart(t *testing.T, b *Bridge) {
	if b.Restart == nil {
		t.Skip("the bridge has no state")
	}
	req, got := mustIssue(t, b, CSROptions{})
	revoked := map[string]ca.Reason{}
	if s.can(CanRevoke) {
		if err := must[ca.Revoker](b.officer()).Revoke(t.Context(), got.Certificate.SerialNumber, ca.KeyCompromise); err != nil {
			t.Fatalf("Revoke: %v", err)
		}
		revoked[got.Certificate.SerialNumber.Text(16)] = ca.KeyCompromise
	}
	b = b.Restart(t)
	checkAgainst(t, b, req, got) // the chain is the same
	if s.can(CanRevoke) {
		s.checkStatus(t, b, got, true, ca.KeyCompromise)
	}
	if s.can(CanPublish) {
		s.checkList(t, b, revoked)
	}
	if s.can(CanFind) {
		again, err := must[ca.Finder](b.Authority).Find(t.Context(), queryFor(b, req))
		_, denied := errors.AsType[*ca.Denied](err)
		revokedMeanwhile := denied && len(revoked) > 0 // then it need not be handed out
		if !revokedMeanwhile && (err != nil || !again.Certificate.Equal(got.Certificate)) {
			t.Errorf("Find after a restart: another certificate, or error %v", err)
		}
	}
	_, next := mustIssue(t, b, CSROptions{})
	if next.Certificate.SerialNumber.Cmp(got.Certificate.SerialNumber) == 0 {
		t.Error("a serial number was used twice")
	}
}
