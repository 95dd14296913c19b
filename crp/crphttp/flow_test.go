package crphttp_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certconnector/certconnector/crp/crphttp"
	"github.com/certconnector/certconnector/intune/intunetest"
	"github.com/certconnector/certconnector/policymodule"
	"github.com/certconnector/certconnector/policymodule/moduletest"
)

// The whole way: client, TLS, service, registration point, cloud.
func TestContract(t *testing.T) {
	moduletest.Run(t, func(t *testing.T) moduletest.Subject {
		w := newWorld(t)
		return moduletest.Subject{
			Module: w.client(t, "scep"), VouchesNames: true, Notifies: true,
			Request: func(t *testing.T) policymodule.Request { return w.request(t) },
			Spoil: func(t *testing.T, r policymodule.Request) policymodule.Request {
				bad := w.request(t, func(ch *intunetest.Challenge) { ch.Challenge = "bm90IGEgY2hhbGxlbmdl" })
				bad.TransactionID = r.TransactionID
				return bad
			},
			Rename: func(t *testing.T, r policymodule.Request) policymodule.Request {
				return w.request(t, func(ch *intunetest.Challenge) {
					ch.Challenge, ch.Subject = r.CSR.ChallengePassword.Reveal(), "CN=administrator"
				})
			},
			Cut: func(*testing.T) func() {
				w.cloud.SetOutage(true)
				return func() { w.cloud.SetOutage(false) }
			},
		}
	})
}

// A grant is repeated from its record, also by a new process, for ten minutes.
func TestGrantsAreRecorded(t *testing.T) {
	w := newWorld(t)
	c, r := w.client(t, "scep"), w.request(t)
	first := mustGrant(t, c, r)
	w.restart(t)
	w.advance(9 * time.Minute)
	if again := mustGrant(t, c, r); again != first {
		t.Errorf("decision %+v, then %+v", first, again)
	}
	if n := w.cloud.Count(intunetest.Validate); n != 1 {
		t.Errorf("%d validations, want 1", n)
	}
	w.advance(2 * time.Minute)
	mustGrant(t, c, r)
	if n := w.cloud.Count(intunetest.Validate); n != 2 {
		t.Errorf("after eleven minutes %d validations, want 2", n)
	}
}

// A verdict holds for one request, never for a transaction alone.
func TestAnotherRequestOfATransactionIsAskedAnew(t *testing.T) {
	w := newWorld(t)
	c, r := w.client(t, "scep"), w.request(t)
	mustGrant(t, c, r)
	other := w.request(t, func(ch *intunetest.Challenge) { ch.Subject = "CN=administrator" })
	other.TransactionID = r.TransactionID
	mustRefuse(t, c, other, "intune_subject_mismatch")
	if n := w.cloud.Count(intunetest.Validate); n != 2 {
		t.Errorf("%d validations, want 2", n)
	}
}

// Front ends share neither verdicts nor challenges.
func TestFrontEndsAreApart(t *testing.T) {
	w := newWorld(t)
	scep, dmz := w.client(t, "scep"), w.client(t, "dmz")
	r := w.request(t)
	mustGrant(t, scep, r)
	mustRefuse(t, dmz, r, crphttp.RuleChallengeUsed)
	err := dmz.Notify(t.Context(), issued(t, r, 1))
	if err == nil || errors.Is(err, policymodule.ErrNotifyRefused) || !strings.Contains(err.Error(), "notify_without_verdict") {
		t.Errorf("notification of another's grant: %v", err)
	}
	if n := len(w.cloud.Notifications()); n != 0 {
		t.Errorf("%d notifications", n)
	}
	if err := scep.Notify(t.Context(), issued(t, r, 1)); err != nil {
		t.Error(err)
	}
}

// One challenge, another key: the cloud would grant it, we do not.
func TestChallengeOfAnotherKey(t *testing.T) {
	w := newWorld(t)
	c := w.client(t, "scep")
	ch, err := w.cloud.Challenge(intunetest.Ask{Platform: "ios"})
	if err != nil {
		t.Fatal(err)
	}
	first := policymodule.Request{Endpoint: "corp", TransactionID: "one", CSR: sign(t, ch, 0)}
	mustGrant(t, c, first)
	mustRefuse(t, c, policymodule.Request{Endpoint: "corp", TransactionID: "two", CSR: sign(t, ch, 1)}, crphttp.RuleChallengeUsed)
	again := policymodule.Request{Endpoint: "corp", TransactionID: "three", CSR: first.CSR}
	mustGrant(t, c, again) // a device that begins again with the same request
	if err := c.Notify(t.Context(), issued(t, first, 1)); err != nil {
		t.Fatal(err)
	}
	if err := c.Notify(t.Context(), issued(t, again, 2)); !errors.Is(err, policymodule.ErrNotifyRefused) {
		t.Errorf("a second certificate on one challenge: %v", err)
	}
}

// The outcome survives restarts on both ways and ends the verdict.
func TestOutcome(t *testing.T) {
	w := newWorld(t)
	c, r := w.client(t, "scep"), w.request(t)
	r.TransactionID = "\x00\xffoctets"
	mustGrant(t, c, r)
	w.restart(t)
	o := issued(t, r, 1)
	for range 2 {
		if err := c.Notify(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		w.restart(t)
	}
	if n := w.cloud.Notifications(); len(n) != 1 || !n[0].Success || n[0].IssuingCA != "corp-issuing-ca-1" {
		t.Errorf("notifications %+v", n)
	}
	for name, second := range map[string]policymodule.Outcome{"another certificate": issued(t, r, 2), "a failure after it": failed(r)} {
		if err := c.Notify(t.Context(), second); !errors.Is(err, policymodule.ErrNotifyRefused) || !strings.Contains(err.Error(), "outcome_differs") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if w.logs.FilterMessageSnippet("outcome that must not be").Len() != 2 {
		t.Error("there was no alarm")
	}
	if n := len(w.cloud.Notifications()); n != 1 {
		t.Errorf("%d notifications", n)
	}
	mustRefuse(t, c, r, crphttp.RuleChallengeUsed)
}

func TestFailureIsTold(t *testing.T) {
	w := newWorld(t)
	c, r := w.client(t, "scep"), w.request(t)
	mustGrant(t, c, r)
	o := failed(r)
	o.Description = "line\r\nbreak " + strings.Repeat("ä", 2000)
	if err := c.Notify(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if n := w.cloud.Notifications(); len(n) != 1 || n[0].Success || n[0].HResult != int64(o.HResult) {
		t.Errorf("notifications %+v", n)
	}
	if err := c.Notify(t.Context(), issued(t, r, 1)); !errors.Is(err, policymodule.ErrNotifyRefused) {
		t.Errorf("a certificate after a failure: %v", err)
	}
}

// What the cloud refuses for good stays refused, also when the answer got lost.
func TestOutcomeRefusedForGood(t *testing.T) {
	w := newWorld(t)
	c, r := w.client(t, "scep"), w.request(t)
	mustGrant(t, c, r)
	w.cloud.Fail(intunetest.Success, 1, intunetest.Fault{Code: "ChallengeExpired"})
	for range 2 {
		if err := c.Notify(t.Context(), issued(t, r, 1)); !errors.Is(err, policymodule.ErrNotifyRefused) {
			t.Errorf("error %v", err)
		}
	}
	mustRefuse(t, c, r, crphttp.RuleChallengeUsed)
}

func TestCertificateOfAnotherKey(t *testing.T) {
	w := newWorld(t)
	c, r := w.client(t, "scep"), w.request(t)
	mustGrant(t, c, r)
	o := issued(t, r, 1)
	other := r
	other.CSR = sign(t, mustChallenge(t, w), 1)
	o.Certificate = issued(t, other, 1).Certificate
	if err := c.Notify(t.Context(), o); !errors.Is(err, policymodule.ErrNotifyRefused) || !strings.Contains(err.Error(), "certificate_not_of_request") {
		t.Errorf("error %v", err)
	}
	if n := len(w.cloud.Notifications()); n != 0 {
		t.Errorf("%d notifications", n)
	}
	if err := c.Notify(t.Context(), issued(t, r, 2)); err != nil {
		t.Errorf("the right certificate: %v", err)
	}
}

func mustChallenge(t *testing.T, w *world) intunetest.Challenge {
	t.Helper()
	ch, err := w.cloud.Challenge(intunetest.Ask{Platform: "ios"})
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

// The cloud's own wish to be left alone reaches the front end.
func TestRetryAfterIsPassedOn(t *testing.T) {
	w := newWorld(t)
	c, r := w.client(t, "scep"), w.request(t)
	wait := func(err error) time.Duration {
		t.Helper()
		var asks interface{ RetryAfter() time.Duration }
		if err == nil || errors.Is(err, policymodule.ErrNotifyRefused) || !errors.As(err, &asks) {
			t.Fatalf("error %v", err)
		}
		return asks.RetryAfter()
	}
	w.cloud.Fail(intunetest.Validate, intunetest.Always, intunetest.Fault{Status: 429, RetryAfter: "120"})
	if _, err := c.Verify(t.Context(), r); wait(err) != 2*time.Minute {
		t.Errorf("asked: %v", err)
	}
	w.cloud.Heal()
	mustGrant(t, c, r)
	w.cloud.Fail(intunetest.Success, intunetest.Always, intunetest.Fault{Status: 429, RetryAfter: "240"})
	if err := c.Notify(t.Context(), issued(t, r, 1)); wait(err) != 4*time.Minute {
		t.Errorf("told: %v", err)
	}
	w.cloud.Heal()
	if err := c.Notify(t.Context(), issued(t, r, 1)); err != nil {
		t.Error(err)
	}
}

// Two certificates for one request, reported at the same moment: one is taken.
func TestOneOutcomeOfMany(t *testing.T) {
	w := newWorld(t)
	c, r := w.client(t, "scep"), w.request(t)
	mustGrant(t, c, r)
	outcomes := make([]policymodule.Outcome, 8)
	for i := range outcomes {
		outcomes[i] = issued(t, r, int64(i/2+1))
	}
	errs := make([]error, len(outcomes))
	var wg sync.WaitGroup
	for i, o := range outcomes {
		wg.Go(func() { errs[i] = c.Notify(t.Context(), o) })
	}
	wg.Wait()
	taken := map[[32]byte]bool{}
	for i, err := range errs {
		if err == nil {
			taken[thumbprint(outcomes[i])] = true
		} else if !errors.Is(err, policymodule.ErrNotifyRefused) {
			t.Error(err)
		}
	}
	if n := len(w.cloud.Notifications()); len(taken) != 1 || n != 1 {
		t.Errorf("%d certificates were taken, the cloud heard of %d", len(taken), n)
	}
}

// Neither log nor audit shows a challenge or a request.
func TestLogsShowNoSecret(t *testing.T) {
	w := newWorld(t)
	c, r := w.client(t, "scep"), w.request(t)
	mustGrant(t, c, r)
	if err := c.Notify(t.Context(), issued(t, r, 1)); err != nil {
		t.Fatal(err)
	}
	mustRefuse(t, c, w.request(t, func(ch *intunetest.Challenge) { ch.Subject = "CN=administrator" }), "intune_subject_mismatch")
	events := map[int64]bool{}
	for _, line := range append(w.logs.All(), w.audit.All()...) {
		for name, value := range line.ContextMap() {
			if n, ok := value.(int64); ok && name == "intune_event" {
				events[n] = true
			}
			if text, ok := value.(string); ok && (len(text) > 600 || strings.Contains(text, r.CSR.ChallengePassword.Reveal())) {
				t.Errorf("%s: field %s shows too much", line.Message, name)
			}
		}
	}
	for _, n := range []int64{4003, 4004, 4005, 4008} {
		if !events[n] {
			t.Errorf("no line has intune_event %d", n)
		}
	}
	if w.audit.FilterMessage("registration point decided").Len() != 2 || w.audit.FilterMessage("registration point outcome").Len() != 1 {
		t.Errorf("audit %v", w.audit.All())
	}
}

// The configured client certificate may be replaced; new connections show the
// new one.
func TestCertificateIsReplaced(t *testing.T) {
	w := newWorld(t)
	current := frontEnd(t, "stranger")
	c := w.client(t, "scep", func(config *clientConfig) {
		config.Certificate = func() (*tls.Certificate, error) { return current, nil }
	})
	if err := c.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "client_certificate_name") {
		t.Errorf("a stranger's certificate: %v", err)
	}
	c.Close()
	current = issue(t, leaf{names: []string{"scep.corp.example"}, usage: x509.ExtKeyUsageClientAuth})
	if err := c.Check(t.Context()); err != nil {
		t.Error(err)
	}
}
