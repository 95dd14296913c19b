// Package catest is the contract that every bridge to a certificate authority
// passes: what an Authority promises, and what each optional interface
// promises where a bridge has it. It also has a register in memory, and
// certification requests as devices make them.
package catest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/certconnector/certconnector/ca"
)

// Ability is an optional interface of a bridge.
type Ability string

// The abilities that a harness declares.
const (
	CanRevoke  Ability = "Revoker"
	CanCollect Ability = "Collector"
	CanFind    Ability = "Finder"
	CanCheck   Ability = "Checker"
	CanPublish Ability = "Publisher"
)

// Harness says how to get a bridge with a CA behind it and what it can do.
type Harness struct {
	// New returns a bridge to a CA of its own, stopped when the test ends.
	New func(t *testing.T) *Bridge

	// Abilities are the optional interfaces that the bridge has. One that is
	// not declared must not be there: callers find out by a type assertion,
	// and a method that cannot work would be called.
	Abilities []Ability

	// KeepsValidity says that Request.Validity and MaxValidity reach the CA.
	KeepsValidity bool
}

// Bridge is one bridge and what a test may do behind its back.
type Bridge struct {
	Authority ca.Authority
	// Officer has Revoker, Checker and Publisher where revoking takes another
	// road to the same CA; nil: the Authority has them.
	Officer any

	Templates Templates
	Now       func() time.Time // the CA's clock; nil: time.Now

	// Restart stops the bridge and returns one over the same state; nil: it
	// has no state.
	Restart func(t *testing.T) *Bridge
	// Approve and Deny are a person's decision at the CA; nil: nobody can be
	// asked to.
	Approve, Deny func(ctx context.Context, requestID string) error
	// Lose has the CA issue for a request while the answer gets lost, and
	// returns a bridge to go on with; nil: it cannot be arranged.
	Lose func(t *testing.T, req ca.Request) *Bridge
}

// Templates are names that behave in a known way; "" leaves out the tests that
// need one.
type Templates struct {
	Issue   string // issues at once, EKU clientAuth, digitalSignature and keyEncipherment; "" is fine
	Park    string // parks each request
	Deny    string // denies each request
	Unknown string // the CA does not know it
}

// Run runs the contract.
func Run(t *testing.T, h Harness) {
	s := &suite{h}
	run := func(name string, test func(t *testing.T, b *Bridge)) {
		t.Run(name, func(t *testing.T) { test(t, h.New(t)) })
	}
	run("has the interfaces it declares and no others", s.declaration)
	run("chain leads from the issuing CA to the root", s.chain)
	s.runIssue(run)
	s.runRefusals(run)
	if h.can(CanCollect) {
		s.runParked(run)
	}
	if h.can(CanRevoke) {
		s.runRevoke(run)
	}
	if h.can(CanFind) {
		s.runFind(run)
	}
	run("cancelled before the call submits nothing", s.cancelled)
	run("64 at once get 64 serial numbers", s.manyAtOnce)
	run("restart keeps everything", s.restart)
}

type suite struct{ Harness }

func (h Harness) can(a Ability) bool { return slices.Contains(h.Abilities, a) }

// officer returns where Revoker, Checker and Publisher are.
func (b *Bridge) officer() any {
	if b.Officer != nil {
		return b.Officer
	}
	return b.Authority
}

func (b *Bridge) now() time.Time {
	if b.Now != nil {
		return b.Now()
	}
	return time.Now()
}

// ability finds an optional interface as the connector does.
func ability[T any](v any) (T, bool) {
	if a, ok := v.(ca.Authority); ok {
		return ca.Ability[T](a)
	}
	t, ok := v.(T)
	return t, ok
}

// must is for an ability that is declared.
func must[T any](v any) T {
	t, ok := ability[T](v)
	if !ok {
		panic(fmt.Sprintf("the bridge lacks an ability that it declares: %T", v))
	}
	return t
}

func (s *suite) declaration(t *testing.T, b *Bridge) {
	has := map[Ability]bool{}
	_, has[CanCollect] = ability[ca.Collector](b.Authority)
	_, has[CanFind] = ability[ca.Finder](b.Authority)
	_, has[CanRevoke] = ability[ca.Revoker](b.officer())
	_, has[CanCheck] = ability[ca.Checker](b.officer())
	_, has[CanPublish] = ability[ca.Publisher](b.officer())
	for ability, there := range has {
		if there != s.can(ability) {
			t.Errorf("ca.%s: implemented %t, declared %t", ability, there, s.can(ability))
		}
	}
}

func (s *suite) chain(t *testing.T, b *Bridge) {
	chain, err := b.Authority.Chain(t.Context())
	if err != nil || len(chain) == 0 {
		t.Fatalf("Chain: %d certificates, %v", len(chain), err)
	}
	for i, cert := range chain {
		if !cert.IsCA {
			t.Errorf("certificate %d of the chain is not one of a CA", i)
		}
		issuer := chain[min(i+1, len(chain)-1)] // the last is its own issuer
		if err := cert.CheckSignatureFrom(issuer); err != nil {
			t.Errorf("certificate %d was not issued by the next (or is no root): %v", i, err)
		}
	}
}

// mustIssue issues for a new request, whatever the test is about.
func mustIssue(t *testing.T, b *Bridge, o CSROptions) (ca.Request, *ca.Issued) {
	t.Helper()
	req := ca.Request{CSR: NewCSR(t, o), Template: b.Templates.Issue}
	got, err := b.Authority.Issue(t.Context(), req)
	if err != nil {
		t.Fatalf("Issue: %v", err)
	}
	return req, got
}

// mustPark parks a new request and returns its ID.
func mustPark(t *testing.T, b *Bridge) (ca.Request, string) {
	t.Helper()
	req := ca.Request{CSR: NewCSR(t, CSROptions{}), Template: b.Templates.Park}
	_, err := b.Authority.Issue(t.Context(), req)
	return req, wantPending(t, err)
}

func wantPending(t *testing.T, err error) string {
	t.Helper()
	pending, ok := errors.AsType[*ca.Pending](err)
	if !ok || pending.RequestID == "" {
		t.Fatalf("got error %v, want *ca.Pending with a request ID", err)
	}
	return pending.RequestID
}

func wantDenied(t *testing.T, err error, code int32) {
	t.Helper()
	denied, ok := errors.AsType[*ca.Denied](err)
	if !ok {
		t.Fatalf("got error %v, want *ca.Denied", err)
	}
	if denied.HResult == 0 || denied.Text == "" || code != 0 && denied.HResult != code {
		t.Errorf("denied with 0x%08X %q, want 0x%08X and a text", uint32(denied.HResult), denied.Text, uint32(code))
	}
}

func wantError(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want one that is %v", err, want)
	}
}
