package token

import (
	"context"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/certconnector/certconnector/internal/cms"
	"github.com/certconnector/certconnector/internal/pkcs10"
	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/policymodule"
)

// maxChallenge is the longest challenge in characters of base64.
const maxChallenge = 8 << 10

// limits of the CMS messages in a challenge.
var limits = cms.Limits{Bytes: maxChallenge}

// Verify opens the challenge, believes its signer, and compares the claims
// with the request. Every refusal is badRequest: the rule is for our log.
func (m *Module) Verify(_ context.Context, req policymodule.Request) (policymodule.Decision, error) {
	if req.CSR == nil || req.CSR.ChallengePassword == "" {
		return m.withoutChallenge(req), nil
	}
	usages, err := usagesOf(req.CSR)
	if err != nil {
		return refuse(RuleExtKeyUsage, err.Error()), nil
	}
	signed, refusal := m.open(req.CSR.ChallengePassword)
	if refusal != nil {
		return *refusal, nil
	}
	signer, refusal := m.believe(signed)
	if refusal != nil {
		return *refusal, nil
	}
	c, err := parseClaims(signed.Content)
	if err != nil {
		return refuse(RuleClaims, err.Error()), nil
	}
	for _, check := range []func() *policymodule.Decision{
		func() *policymodule.Decision { return m.checkTimes(c) },
		func() *policymodule.Decision { return checkRights(signer.Rights, c, usages) },
		func() *policymodule.Decision { return c.checkNames(req.CSR) },
		func() *policymodule.Decision { return c.checkUsages(req, usages) },
		func() *policymodule.Decision { return c.checkKey(req.CSR) },
	} {
		if d := check(); d != nil {
			return *d, nil
		}
	}
	return policymodule.Decision{
		Granted:       true,
		ChallengeID:   m.id(signer.Name, c.id),
		ChallengeMade: m.earliestUse(signer, c),
		MaxValidity:   c.maxValidity,
		VouchedNames:  true,
	}, nil
}

// earliestUse is before when a challenge cannot have been used, whenever it was
// written: that of a signer whose clock is fast is taken before its not_before.
func (m *Module) earliestUse(signer *Signer, c *claims) time.Time {
	if signer.Mint != nil { // its clock is ours
		return c.notBefore
	}
	return c.notBefore.Add(-m.config.ClockSkew)
}

// withoutChallenge decides about a request that carries none. A renewal's
// names are held to those of its old certificate elsewhere.
func (m *Module) withoutChallenge(req policymodule.Request) policymodule.Decision {
	switch {
	case req.CSR == nil || req.Renewal == nil:
		return refuse(RuleMissing, "the request has no challenge")
	case !m.config.AllowRenewals:
		return refuse(RuleRenewal, "renewals without a challenge are not allowed here")
	}
	return policymodule.Decision{Granted: true}
}

// usagesOf are the extended key usages that a request asks for. Windows takes
// Microsoft's application policies for such, and a CA may copy them from a
// request: they count too.
func usagesOf(csr *pkcs10.Request) ([]asn1.ObjectIdentifier, error) {
	policies, err := csr.ApplicationPolicies()
	if err != nil {
		return nil, errors.New("the request's application policies cannot be read")
	}
	return slices.Concat(csr.ExtKeyUsage, policies), nil
}

// id is the digest under which a challenge is remembered: by its claim, so
// that sealing or signing it once more makes no second challenge.
func (m *Module) id(signer, id string) string {
	return m.config.Sealer.ChallengeID("token\x00"+m.config.Endpoint+"\x00"+signer, secret.Text(id))
}

func refused(rule policymodule.Reason, detail string) *policymodule.Decision {
	d := refuse(rule, detail)
	return &d
}

// open decodes and decrypts.
func (m *Module) open(challenge secret.Text) (*cms.Signed, *policymodule.Decision) {
	der, err := decode(challenge)
	if err != nil {
		return nil, refused(RuleMalformed, err.Error())
	}
	inner, err := cms.Open(der, m.config.Recipients, limits)
	switch {
	case errors.Is(err, cms.ErrNotOpened):
		return nil, refused(RuleNotOpened, "the challenge is sealed for another key, or was changed")
	case err != nil:
		return nil, refused(RuleMalformed, err.Error())
	}
	signed, err := cms.ReadSigned(inner, limits)
	if err != nil {
		return nil, refused(RuleMalformed, err.Error())
	}
	return signed, nil
}

// decode reads base64 of the standard alphabet, with or without line breaks
// and padding.
func decode(challenge secret.Text) ([]byte, error) {
	text := challenge.Reveal()
	if len(text) > maxChallenge {
		return nil, errors.New("the challenge is longer than 8 KiB")
	}
	der, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(strings.TrimSpace(text), "="))
	if err != nil {
		return nil, errors.New("the challenge is not base64")
	}
	return der, nil
}

// believe finds the configured signer and checks the signature.
func (m *Module) believe(signed *cms.Signed) (*Signer, *policymodule.Decision) {
	now := m.config.Clock()
	refusal := refused(RuleSigner, "the challenge is signed by none of the configured certificates")
	for i, s := range m.config.Signers {
		if !signed.By(s.Certificate) { // two may share a subjectKeyIdentifier
			continue
		}
		if !validAt(s.Certificate, now) {
			refusal = refused(RuleExpiredBy, "the certificate of signer "+s.Name+" is not valid now")
			continue
		}
		if err := signed.Verify(s.Certificate); err != nil {
			refusal = refused(RuleSignature, err.Error())
			continue
		}
		return &m.config.Signers[i], nil
	}
	return nil, refusal
}

// checkTimes checks where and when a challenge may be used.
func (m *Module) checkTimes(c *claims) *policymodule.Decision {
	now, skew := m.config.Clock(), m.config.ClockSkew
	life := c.notAfter.Sub(c.notBefore)
	switch {
	case c.endpoint != m.config.Endpoint:
		return refused(RuleEndpoint, "the challenge is for another endpoint")
	case life <= 0 || life > m.config.MaxLifetime:
		return refused(RuleLifetime, "the challenge lives "+life.String()+", and may up to "+m.config.MaxLifetime.String())
	case now.Add(skew).Before(c.notBefore):
		return refused(RuleNotYetValid, "the challenge is not valid before "+c.notBefore.Format(timeLayout))
	case !now.Add(-skew).Before(c.notAfter):
		return refused(RuleExpired, "the challenge was valid until "+c.notAfter.Format(timeLayout))
	}
	return nil
}
