// Package moduletest is the contract that every policy module passes: what it
// grants and refuses, that a party who cannot be asked is an error and never
// a refusal, and that it may be told an outcome more than once.
package moduletest

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/certconnector/certconnector/internal/pkcs10"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/policymodule"
)

// Subject is a module under test, with what a test needs around it.
type Subject struct {
	Module policymodule.Module

	// Request makes a request that the module should grant, with a challenge of
	// its own where the module knows more than one.
	Request func(t *testing.T) policymodule.Request

	// Spoil returns the request with a challenge that the module never made.
	Spoil func(t *testing.T, r policymodule.Request) policymodule.Request

	// Rename returns a request for another subject with the same challenge.
	Rename func(t *testing.T, r policymodule.Request) policymodule.Request

	// VouchesNames says that the module compares names, so that a renamed
	// request must be refused; otherwise it must be granted as the first was.
	VouchesNames bool

	// Notifies says that a grant must ask for the outcome.
	Notifies bool

	// Cut cuts the module off from whom it asks, and returns how to undo that;
	// nil: it asks nobody.
	Cut func(t *testing.T) (restore func())
}

// Run runs the contract over modules that fresh makes.
func Run(t *testing.T, fresh func(t *testing.T) Subject) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, Subject)
	}{
		{"a good request is granted", grants},
		{"a wrong challenge is refused", refusesWrong},
		{"a missing challenge is refused", refusesMissing},
		{"another request with the same challenge is decided on its own", decidesEach},
		{"who cannot be asked does not refuse", cannotAsk},
		{"an outcome may be told again", toldAgain},
		{"a failure is taken", toldFailure},
		{"who cannot be told did not refuse", cannotTell},
		{"many ask at once", concurrent},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, fresh(t)) })
	}
}

func verify(t *testing.T, s Subject, r policymodule.Request) policymodule.Decision {
	t.Helper()
	d, err := s.Module.Verify(t.Context(), r)
	if err != nil {
		t.Fatalf("Verify: %v", err)
	}
	return d
}

func mustGrant(t *testing.T, s Subject, r policymodule.Request) policymodule.Decision {
	t.Helper()
	d := verify(t, s, r)
	if !d.Granted {
		t.Fatalf("refused by %s: %s", d.Rule, d.Detail)
	}
	if d.Notify != s.Notifies || d.VouchedNames != s.VouchesNames {
		t.Errorf("decision %+v, want Notify %v, VouchedNames %v", d, s.Notifies, s.VouchesNames)
	}
	if d.Rule != "" {
		t.Errorf("a grant names the rule %s", d.Rule)
	}
	return d
}

func mustRefuse(t *testing.T, s Subject, r policymodule.Request) policymodule.Decision {
	t.Helper()
	d := verify(t, s, r)
	if d.Granted {
		t.Fatal("granted")
	}
	if d.Rule == "" || d.FailInfo < policymodule.BadAlg || d.FailInfo > policymodule.BadCertID {
		t.Errorf("refusal %+v has no rule or failInfo", d)
	}
	if d.ChallengeID != "" || d.Notify {
		t.Errorf("refusal %+v spends a challenge or wants to hear of it", d)
	}
	return d
}

func grants(t *testing.T, s Subject) {
	r := s.Request(t)
	first := mustGrant(t, s, r)
	again := mustGrant(t, s, r)
	if first.ChallengeID != again.ChallengeID {
		t.Error("one challenge has two IDs")
	}
	other := mustGrant(t, s, s.Request(t))
	if first.ChallengeID != "" && first.ChallengeID == other.ChallengeID {
		t.Error("two challenges have one ID")
	}
	if challenge := r.CSR.ChallengePassword.Reveal(); challenge != "" && first.ChallengeID == challenge {
		t.Error("the challenge ID is the challenge")
	}
}

func refusesWrong(t *testing.T, s Subject) {
	r := s.Request(t)
	bad := s.Spoil(t, r)
	first := mustRefuse(t, s, bad)
	if second := mustRefuse(t, s, bad); second.Rule != first.Rule {
		t.Errorf("refused by %s, then by %s", first.Rule, second.Rule)
	}
	mustGrant(t, s, r) // a refusal spends nothing
}

func refusesMissing(t *testing.T, s Subject) {
	r := s.Request(t)
	r.CSR = without(r.CSR)
	mustRefuse(t, s, r)
	r.CSR = nil
	mustRefuse(t, s, r)
}

// without returns a request as if it had come without a challenge.
func without(csr *pkcs10.Request) *pkcs10.Request {
	c := *csr
	c.ChallengePassword = ""
	return &c
}

func decidesEach(t *testing.T, s Subject) {
	r := s.Request(t)
	granted := mustGrant(t, s, r)
	renamed := s.Rename(t, r)
	renamed.TransactionID = r.TransactionID // not even then
	if s.VouchesNames {
		mustRefuse(t, s, renamed)
	} else if d := mustGrant(t, s, renamed); d.ChallengeID != granted.ChallengeID {
		t.Error("the same challenge has another ID in another request")
	}
}

func cannotAsk(t *testing.T, s Subject) {
	if s.Cut == nil {
		t.Skip("this module asks nobody")
	}
	r := s.Request(t)
	restore := s.Cut(t)
	if d, err := s.Module.Verify(t.Context(), r); err == nil {
		t.Fatalf("decided %+v without asking", d)
	}
	restore()
	mustGrant(t, s, r)
}

// outcome makes what a CA would have made of a request.
func outcome(t *testing.T, r policymodule.Request) policymodule.Outcome {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(4711), Subject: pkix.Name{CommonName: "device"},
		NotBefore: time.Now(), NotAfter: time.Now().AddDate(1, 0, 0),
	}
	key := testkeys.P256(0)
	der, err := x509.CreateCertificate(rand.Reader, template, template, r.CSR.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return policymodule.Outcome{
		Endpoint: r.Endpoint, TransactionID: r.TransactionID, CSR: r.CSR.Raw, Certificate: cert, IssuingCA: "corp-issuing-ca-1",
	}
}

func toldAgain(t *testing.T, s Subject) {
	r := s.Request(t)
	mustGrant(t, s, r)
	o := outcome(t, r)
	for i := range 3 {
		if err := s.Module.Notify(t.Context(), o); err != nil {
			t.Fatalf("Notify, time %d: %v", i+1, err)
		}
	}
}

func toldFailure(t *testing.T, s Subject) {
	r := s.Request(t)
	mustGrant(t, s, r)
	o := policymodule.Outcome{
		Endpoint: r.Endpoint, TransactionID: r.TransactionID, CSR: r.CSR.Raw, HResult: -2146877420, Description: "denied",
	}
	if err := s.Module.Notify(t.Context(), o); err != nil {
		t.Fatalf("Notify: %v", err)
	}
	o.Description = "" // a CA may give no reason
	if err := s.Module.Notify(t.Context(), o); err != nil {
		t.Fatalf("Notify without a description: %v", err)
	}
}

func cannotTell(t *testing.T, s Subject) {
	if s.Cut == nil {
		t.Skip("this module tells nobody")
	}
	r := s.Request(t)
	mustGrant(t, s, r)
	restore := s.Cut(t)
	err := s.Module.Notify(t.Context(), outcome(t, r))
	if err == nil || errors.Is(err, policymodule.ErrNotifyRefused) {
		t.Fatalf("Notify: %v, want an error that is not final", err)
	}
	restore()
	if err := s.Module.Notify(t.Context(), outcome(t, r)); err != nil {
		t.Fatalf("Notify, connected again: %v", err)
	}
}

func concurrent(t *testing.T, s Subject) {
	var requests []policymodule.Request
	for range 8 {
		requests = append(requests, s.Request(t))
	}
	bad := s.Spoil(t, requests[0])
	errs := make(chan error, 4*len(requests))
	var wg sync.WaitGroup
	for i := range cap(errs) {
		wg.Go(func() {
			r, want := requests[i%len(requests)], true
			if i%5 == 4 {
				r, want = bad, false
			}
			d, err := s.Module.Verify(t.Context(), r)
			switch {
			case err != nil:
				errs <- err
			case d.Granted != want:
				errs <- fmt.Errorf("request %d: granted %v, want %v (%s)", i, d.Granted, want, d.Rule)
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
}
