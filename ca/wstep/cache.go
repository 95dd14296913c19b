package wstep

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/ca"
)

const (
	updateDefault = 8 * time.Hour // nextUpdateHours of a Windows policy service
	updateLeast   = time.Hour
	updateMost    = 7 * 24 * time.Hour
	// staleRetry is when a policy that could not be renewed is asked for again.
	staleRetry = time.Minute
)

// policyCache keeps the policy until its time. One caller asks at a time.
type policyCache struct {
	turn chan struct{}
	kept atomic.Pointer[keptPolicy]
}

type keptPolicy struct {
	policy *policy
	asked  time.Time
	until  time.Time
	date   time.Time // of the answer, by the service's clock
}

// policy returns the policy, which is asked for when there is none, when its
// time has come, or when it is older than since.
func (c *CA) policy(ctx context.Context, since time.Time) (*policy, error) {
	fresh := func() *policy {
		k := c.policies.kept.Load()
		if k != nil && c.config.Clock().Before(k.until) && !k.asked.Before(since) {
			return k.policy
		}
		return nil
	}
	if p := fresh(); p != nil {
		return p, nil
	}
	select {
	case c.policies.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, unavailable(ctx.Err())
	}
	defer func() { <-c.policies.turn }()
	if p := fresh(); p != nil { // somebody else asked meanwhile
		return p, nil
	}
	return c.renewPolicy(ctx)
}

// renewPolicy asks. While there is an older policy, a service that is down does
// not stop enrolment. The caller has the turn.
func (c *CA) renewPolicy(ctx context.Context) (*policy, error) {
	old := c.policies.kept.Load()
	now := c.config.Clock()
	k, err := c.fetchPolicy(ctx, old, now)
	if err != nil && (old == nil || isDone(ctx)) {
		return nil, fmt.Errorf("asking the policy service: %w", err)
	}
	if err != nil {
		c.config.Log.Warn("policy service does not answer; the last policy stays in use", zap.Error(err), zap.Time("asked_at", old.asked))
		k = &keptPolicy{policy: old.policy, asked: now, until: now.Add(staleRetry), date: old.date}
	}
	c.policies.kept.Store(k)
	return k.policy, nil
}

func (c *CA) fetchPolicy(ctx context.Context, old *keptPolicy, now time.Time) (*keptPolicy, error) {
	ctx, cancel := context.WithTimeout(ctx, c.config.PolicyWithin)
	defer cancel()
	var since time.Time
	if old != nil {
		since = old.date
	}
	r, err := c.ask(ctx, question{
		address: c.config.Policy, action: actionPolicies, replyAction: actionPoliciesReply,
		// The replies printed in [MS-XCEP], section 4, relate to nothing.
		content: policiesQuestion(since), limit: maxPolicy, loose: true,
	})
	if err != nil {
		return nil, asQuestion(err)
	}
	p, err := readPolicy(r.body)
	if err != nil {
		return nil, unavailable(err)
	}
	k := &keptPolicy{policy: p, asked: now, date: r.date}
	if p.unchanged {
		if old == nil {
			return nil, unavailable(errors.New("the policy service says that nothing changed, but never told what there is"))
		}
		k.policy, k.date = old.policy, old.date
	}
	update := p.update
	if update <= 0 {
		update = updateDefault
	}
	k.until = now.Add(min(max(update, updateLeast), updateMost))
	return k, nil
}

// choose picks our CA from a policy.
func (c *CA) choose(p *policy) (policyCA, error) {
	var found []policyCA
	var names []string
	for _, candidate := range p.cas {
		name := candidate.certificate.Subject.CommonName
		if c.config.CA == "" || name == c.config.CA {
			found = append(found, candidate)
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	switch {
	case len(found) == 0 && len(names) == 0:
		return policyCA{}, errors.New("the policy names no CA: is one of its templates published, and has the CA an enrolment service?")
	case len(found) == 0:
		return policyCA{}, fmt.Errorf("the policy does not name the CA %q; it names %q", c.config.CA, names)
	case c.config.CA == "" && len(names) > 1:
		return policyCA{}, fmt.Errorf("the policy names several CAs, configure one of %q", names)
	}
	// A renewed CA may be there with both certificates; the later one counts.
	return slices.MaxFunc(found, func(a, b policyCA) int {
		return a.certificate.NotAfter.Compare(b.certificate.NotAfter)
	}), nil
}

// addresses are the enrolment services to ask, the preferred one first.
func (c *CA) addresses(ctx context.Context) ([]string, error) {
	if len(c.config.Enrollment) > 0 {
		return c.config.Enrollment, nil
	}
	p, err := c.policy(ctx, time.Time{})
	if err != nil {
		return nil, err
	}
	chosen, err := c.choose(p)
	if err != nil {
		return nil, unavailable(err)
	}
	if !chosen.enroll {
		return nil, unavailable(fmt.Errorf("%w: by the policy the account may not enrol at this CA: grant Request Certificates", ca.ErrForbidden))
	}
	list := chosen.addresses(c.kind)
	if len(list) == 0 {
		return nil, unavailable(fmt.Errorf("the policy names no https address for new requests with %s at this CA", c.Mechanism()))
	}
	return list, nil
}

// Templates lists the templates that the policy shows to the account and that
// our CA issues.
func (c *CA) Templates(ctx context.Context) ([]Template, error) {
	if c.config.Policy == "" {
		return nil, errors.New("wstep: templates are listed by the policy service, and none is configured")
	}
	p, err := c.policy(ctx, c.config.Clock())
	if err != nil {
		return nil, fmt.Errorf("wstep: %w", err)
	}
	chosen, err := c.choose(p)
	if err != nil {
		return nil, fmt.Errorf("wstep: %w", err)
	}
	return slices.DeleteFunc(slices.Clone(p.templates), func(t Template) bool {
		return !slices.Contains(t.cas, chosen.reference)
	}), nil
}

// issuingCertificate is the CA's own, by a policy no older than since.
func (c *CA) issuingCertificate(ctx context.Context, since time.Time) (*x509.Certificate, error) {
	if c.config.Policy == "" {
		return c.config.Issuers[0], nil
	}
	p, err := c.policy(ctx, since)
	if err != nil {
		return nil, err
	}
	chosen, err := c.choose(p)
	if err != nil {
		return nil, unavailable(err)
	}
	return chosen.certificate, nil
}
