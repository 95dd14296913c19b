package catest

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"sync"
	"testing"
	"time"

	"github.com/certconnector/certconnector/ca"
)

func (s *suite) runRefusals(run runner) {
	run("unknown template is denied with its own code", func(t *testing.T, b *Bridge) {
		if b.Templates.Unknown == "" {
			t.Skip("the CA has no unknown templates")
		}
		_, err := b.Authority.Issue(t.Context(), ca.Request{CSR: NewCSR(t, CSROptions{}), Template: b.Templates.Unknown})
		wantDenied(t, err, ca.HResultUnknownTemplate)
	})
	run("refusal is final and says why", func(t *testing.T, b *Bridge) {
		if b.Templates.Deny == "" {
			t.Skip("the CA has no template that denies")
		}
		_, err := b.Authority.Issue(t.Context(), ca.Request{CSR: NewCSR(t, CSROptions{}), Template: b.Templates.Deny})
		wantDenied(t, err, 0)
	})
}

func (s *suite) runParked(run runner) {
	parked := func(test func(t *testing.T, b *Bridge)) func(*testing.T, *Bridge) {
		return func(t *testing.T, b *Bridge) {
			if b.Templates.Park == "" || b.Approve == nil || b.Deny == nil {
				t.Skip("nobody can be asked to approve")
			}
			test(t, b)
		}
	}
	run("parked request is issued when approved", parked(s.approve))
	run("parked request is denied when denied", parked(s.deny))
	run("approved request is issued once", parked(s.approveOnce))
	run("parked request survives a restart", parked(s.parkedRestart))
	run("unknown request ID is not found", func(t *testing.T, b *Bridge) {
		_, err := must[ca.Collector](b.Authority).Collect(t.Context(), "987654")
		wantError(t, err, ca.ErrNotFound)
	})
}

func (s *suite) approve(t *testing.T, b *Bridge) {
	req, id := mustPark(t, b)
	collector := must[ca.Collector](b.Authority)
	_, err := collector.Collect(t.Context(), id)
	if again := wantPending(t, err); again != id {
		t.Errorf("still parked under %s, was %s", again, id)
	}
	if err := b.Approve(t.Context(), id); err != nil {
		t.Fatalf("Approve: %v", err)
	}
	got, err := collector.Collect(t.Context(), id)
	if err != nil {
		t.Fatalf("Collect: %v", err)
	}
	checkAgainst(t, b, req, got)
	if got.RequestID != id {
		t.Errorf("request ID %q, want %q", got.RequestID, id)
	}
}

func (s *suite) deny(t *testing.T, b *Bridge) {
	_, id := mustPark(t, b)
	if err := b.Deny(t.Context(), id); err != nil {
		t.Fatalf("Deny: %v", err)
	}
	for range 2 {
		_, err := must[ca.Collector](b.Authority).Collect(t.Context(), id)
		wantDenied(t, err, ca.HResultAdminDenied)
	}
}

func (s *suite) approveOnce(t *testing.T, b *Bridge) {
	_, id := mustPark(t, b)
	if err := b.Approve(t.Context(), id); err != nil {
		t.Fatalf("Approve: %v", err)
	}
	issued, errs := make([]*ca.Issued, 8), make([]error, 8)
	var wg sync.WaitGroup
	for i := range issued {
		wg.Go(func() { issued[i], errs[i] = must[ca.Collector](b.Authority).Collect(t.Context(), id) })
	}
	wg.Wait()
	for i, got := range issued {
		if errs[i] != nil {
			t.Fatalf("Collect: %v", errs[i])
		}
		if !got.Certificate.Equal(issued[0].Certificate) {
			t.Error("two certificates for one parked request")
		}
	}
	if b.Restart == nil {
		return
	}
	got, err := must[ca.Collector](b.Restart(t).Authority).Collect(t.Context(), id)
	if err != nil || !got.Certificate.Equal(issued[0].Certificate) {
		t.Errorf("after a restart: another certificate, or error %v", err)
	}
}

func (s *suite) parkedRestart(t *testing.T, b *Bridge) {
	if b.Restart == nil {
		t.Skip("the bridge has no state")
	}
	req, id := mustPark(t, b)
	b = b.Restart(t)
	if s.can(CanFind) {
		_, err := must[ca.Finder](b.Authority).Find(t.Context(), queryFor(b, req))
		if found := wantPending(t, err); found != id {
			t.Errorf("found request %s, want %s", found, id)
		}
	}
	if err := b.Approve(t.Context(), id); err != nil {
		t.Fatalf("Approve: %v", err)
	}
	got, err := must[ca.Collector](b.Restart(t).Authority).Collect(t.Context(), id)
	if err != nil {
		t.Fatalf("Collect: %v", err)
	}
	checkAgainst(t, b, req, got)
}

// basicConstraints asks to be a CA.
func basicConstraints(t *testing.T) []pkix.Extension {
	value := marshal(t, struct{ CA bool }{true})
	return []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Critical: true, Value: value}}
}

// queryFor searches for a request that was submitted in the last hour.
func queryFor(b *Bridge, req ca.Request) ca.Query {
	return ca.Query{
		CSRDigest: req.CSR.Digest(), KeyDigest: req.CSR.KeyDigest(),
		From: b.now().Add(-time.Hour), To: b.now().Add(time.Hour),
	}
}
