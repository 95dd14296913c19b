package agent

import (
	"context"
	"crypto/x509"
	"errors"
	"math/big"
	"time"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/internal/admission"
)

// The calls to a CA and how they end, as labels.
var (
	caCalls   = []string{callIssue, callFind, callCollect, callRevoke, callCheck, callCRL, callApprove, callDeny}
	caResults = []string{"ok", "parked", "denied", "not_found", caForbidden, caBusy, caUnavailable, caUnknown, caCancelled}
)

const (
	callIssue   = "issue"
	callFind    = "find"
	callCollect = "collect"
	callRevoke  = "revoke"
	callCheck   = "check"
	callCRL     = "crl"
	callApprove = "approve"
	callDeny    = "deny"

	caForbidden   = "forbidden"
	caBusy        = "busy" // no turn: the CA was not asked
	caUnavailable = "unavailable"
	caUnknown     = "unknown"
	caCancelled   = "cancelled"
)

func caResult(err error) string {
	var pending *ca.Pending
	var denied *ca.Denied
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &pending):
		return "parked"
	case errors.As(err, &denied):
		return "denied"
	case errors.Is(err, ca.ErrNotFound):
		return "not_found"
	case errors.Is(err, ca.ErrForbidden):
		return caForbidden
	case errors.Is(err, context.Canceled):
		return caCancelled
	case errors.Is(err, ca.ErrUnavailable):
		if _, ok := errors.AsType[*admission.Shed](err); ok {
			return caBusy
		}
		return caUnavailable
	}
	return caUnknown
}

// caCalled counts a call that is over.
func (m *meter) caCalled(name, call string, began time.Time, err error) {
	result := caResult(err)
	m.caCalls.Inc(name, call, result)
	m.caTook.Observe(time.Since(began), name, call)
	switch result {
	case caBusy, caCancelled: // says nothing about the CA
	case caForbidden, caUnavailable, caUnknown:
		m.ca.bad(name, call, result, m.clock())
	default:
		m.ca.good(name, call, m.clock())
	}
}

// measuredCA counts the calls to a CA. It implements ca.Roads: each ability of
// the CA is a road of its own, so that ca.Ability finds those and no others.
type measuredCA struct {
	plainCA
	roads []ca.Authority
}

var (
	_ ca.Roads  = (*measuredCA)(nil)
	_ ca.Turner = (*measuredCA)(nil)
)

// measured returns a CA whose calls are counted.
func (m *meter) measured(name string, to ca.Authority) *measuredCA {
	p := plainCA{to, name, m}
	c := &measuredCA{plainCA: p}
	if r, ok := ca.Ability[ca.Revoker](to); ok {
		c.roads = append(c.roads, measuredRevoker{p, r})
	}
	if r, ok := ca.Ability[ca.Collector](to); ok {
		c.roads = append(c.roads, measuredCollector{p, r})
	}
	if r, ok := ca.Ability[ca.Finder](to); ok {
		c.roads = append(c.roads, measuredFinder{p, r})
	}
	if r, ok := ca.Ability[ca.Checker](to); ok {
		c.roads = append(c.roads, measuredChecker{p, r})
	}
	if r, ok := ca.Ability[ca.Publisher](to); ok {
		c.roads = append(c.roads, measuredPublisher{p, r})
	}
	if r, ok := ca.Ability[ca.Approver](to); ok {
		c.roads = append(c.roads, measuredApprover{p, r})
	}
	return c
}

// Roads implements ca.Roads.
func (c *measuredCA) Roads() []ca.Authority { return c.roads }

// Turn implements ca.Turner by the CA itself.
func (c *measuredCA) Turn(ctx context.Context) (func(), error) { return ca.Turn(ctx, c.to) }

// plainCA is what every CA can do. Its fields have names, so that no other
// ability shows through.
type plainCA struct {
	to   ca.Authority
	name string
	m    *meter
}

// Issue implements ca.Authority.
func (p plainCA) Issue(ctx context.Context, req ca.Request) (*ca.Issued, error) {
	began := time.Now()
	issued, err := p.to.Issue(ctx, req)
	p.m.caCalled(p.name, callIssue, began, err)
	return issued, err
}

// Chain implements ca.Authority.
func (p plainCA) Chain(ctx context.Context) ([]*x509.Certificate, error) { return p.to.Chain(ctx) }

type measuredRevoker struct {
	plainCA
	revoker ca.Revoker
}

// Revoke implements ca.Revoker.
func (r measuredRevoker) Revoke(ctx context.Context, serial *big.Int, reason ca.Reason) error {
	began := time.Now()
	err := r.revoker.Revoke(ctx, serial, reason)
	r.m.caCalled(r.name, callRevoke, began, err)
	return err
}

type measuredCollector struct {
	plainCA
	collector ca.Collector
}

// Collect implements ca.Collector.
func (c measuredCollector) Collect(ctx context.Context, requestID string) (*ca.Issued, error) {
	began := time.Now()
	issued, err := c.collector.Collect(ctx, requestID)
	c.m.caCalled(c.name, callCollect, began, err)
	return issued, err
}

type measuredFinder struct {
	plainCA
	finder ca.Finder
}

// Find implements ca.Finder.
func (f measuredFinder) Find(ctx context.Context, q ca.Query) (*ca.Issued, error) {
	began := time.Now()
	issued, err := f.finder.Find(ctx, q)
	f.m.caCalled(f.name, callFind, began, err)
	return issued, err
}

type measuredChecker struct {
	plainCA
	checker ca.Checker
}

// Check implements ca.Checker.
func (c measuredChecker) Check(ctx context.Context, serial *big.Int) (ca.Status, error) {
	began := time.Now()
	status, err := c.checker.Check(ctx, serial)
	c.m.caCalled(c.name, callCheck, began, err)
	return status, err
}

type measuredPublisher struct {
	plainCA
	publisher ca.Publisher
}

// CRL implements ca.Publisher.
func (p measuredPublisher) CRL(ctx context.Context) ([]byte, error) {
	began := time.Now()
	list, err := p.publisher.CRL(ctx)
	p.m.caCalled(p.name, callCRL, began, err)
	return list, err
}

type measuredApprover struct {
	plainCA
	approver ca.Approver
}

// Approve implements ca.Approver.
func (a measuredApprover) Approve(ctx context.Context, requestID string) error {
	began := time.Now()
	err := a.approver.Approve(ctx, requestID)
	a.m.caCalled(a.name, callApprove, began, err)
	return err
}

// Deny implements ca.Approver.
func (a measuredApprover) Deny(ctx context.Context, requestID, why string) error {
	began := time.Now()
	err := a.approver.Deny(ctx, requestID, why)
	a.m.caCalled(a.name, callDeny, began, err)
	return err
}
