package onetime

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/certconnector/certconnector/internal/pkcs10"
	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/policymodule"
)

// Rules of this module. Those about names and usages are policymodule's.
const (
	RuleMissing       policymodule.Reason = "onetime_challenge_missing"
	RuleUnknown       policymodule.Reason = "onetime_challenge_unknown"
	RuleExpired       policymodule.Reason = "onetime_challenge_expired"
	RulePrincipalGone policymodule.Reason = "onetime_principal_gone"
	RuleRenewal       policymodule.Reason = "onetime_renewal_refused"
)

// Verify looks a request's password up and compares the request with the
// rights of the principal that had it made. It spends nothing: that the
// password is used once is decided when the journal records the intent under
// the decision's ChallengeID, and neither a refusal here nor one by the
// endpoint's rules comes that far.
//
// The look-up is by a keyed digest, so that the time it takes tells nothing
// about how much of a guess was right. All refusals are badRequest: of the
// values of RFC 8894, section 3.2.1.4.5, badTime is about the signing time of
// a message, not about the age of a challenge.
func (m *Module) Verify(ctx context.Context, req policymodule.Request) (policymodule.Decision, error) {
	if req.CSR == nil || req.CSR.ChallengePassword == "" {
		return m.withoutChallenge(req), nil
	}
	password, ok := normal(req.CSR.ChallengePassword)
	if !ok {
		return unknown(), nil
	}
	id := m.id(password)
	c, err := m.config.Ledger.FindChallenge(ctx, m.config.Endpoint, id)
	switch {
	case errors.Is(err, policymodule.ErrUnknownChallenge):
		return unknown(), nil
	case err != nil:
		return policymodule.Decision{}, fmt.Errorf("looking up a one-time password: %w", err)
	}
	if !m.config.Clock().Before(c.Expires) {
		return refuse(RuleExpired, "the one-time password has expired"), nil
	}
	rights, ok := m.config.Rights[c.Principal]
	if !ok {
		return refuse(RulePrincipalGone, "the principal that had this one-time password made has no right here any more"), nil
	}
	if d := allowed(rights, req.CSR); d != nil {
		return *d, nil
	}
	return policymodule.Decision{Granted: true, ChallengeID: id, ChallengeMade: c.Made}, nil
}

func refuse(rule policymodule.Reason, detail string) policymodule.Decision {
	return policymodule.Refuse(rule, policymodule.BadRequest, detail)
}

func unknown() policymodule.Decision {
	return refuse(RuleUnknown, "the challenge is no one-time password of this endpoint")
}

// withoutChallenge decides about a request that carries no password. A
// renewal's names are held to those of its old certificate elsewhere.
func (m *Module) withoutChallenge(req policymodule.Request) policymodule.Decision {
	switch {
	case req.CSR == nil || req.Renewal == nil:
		return refuse(RuleMissing, "the request has no challenge")
	case !m.config.AllowRenewals:
		return refuse(RuleRenewal, "renewals without a challenge are not allowed here")
	}
	return policymodule.Decision{Granted: true}
}

// normal returns a password as it was made, or that it cannot be one. White
// space around it is dropped: on the page the password stands between blanks,
// and a script that cuts it out between its tags passes them on. Letter case
// is kept: the page shows upper case, and of one password there shall be one
// form. Neither costs a bit of what an attacker has to guess.
func normal(challenge secret.Text) (secret.Text, bool) {
	text := strings.Trim(challenge.Reveal(), " \t\r\n")
	if len(text) < 2*MinBytes || len(text) > 2*MaxBytes {
		return "", false
	}
	for _, c := range []byte(text) {
		if (c < '0' || c > '9') && (c < 'A' || c > 'F') {
			return "", false
		}
	}
	return secret.Text(text), true
}

// allowed returns the refusal of a request that asks for more than the
// principal may have, or nil. Windows takes Microsoft's application policies
// for extended key usages, and a CA may copy them from a request: they count
// as such.
func allowed(rights policymodule.Rights, csr *pkcs10.Request) *policymodule.Decision {
	if d := rights.Names.Check(csr); d != nil {
		return d
	}
	if len(rights.ExtKeyUsages) == 0 {
		return nil
	}
	policies, err := csr.ApplicationPolicies()
	if err != nil {
		d := refuse(policymodule.RuleExtKeyUsage, "the application policies cannot be read")
		return &d
	}
	usages := slices.Concat(csr.ExtKeyUsage, policies)
	if len(usages) == 0 { // the CA's template would choose, from what the endpoint allows
		d := refuse(policymodule.RuleExtKeyUsage, "the request names no extended key usage, and the principal may not have every one")
		return &d
	}
	for _, usage := range usages {
		if !slices.ContainsFunc(rights.ExtKeyUsages, usage.Equal) {
			d := refuse(policymodule.RuleExtKeyUsage, "extended key usage "+usage.String()+" is not among those the principal may have")
			return &d
		}
	}
	return nil
}
