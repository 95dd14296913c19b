package crpclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/certconnector/certconnector/internal/mtls"
	"github.com/certconnector/certconnector/policymodule"
)

// The names of the rules that refuse here. Those of a missing and of an
// endless challenge are package crp's: it makes no difference to a device
// where the registration point stands.
const (
	RuleChallengeMissing policymodule.Reason = "intune_challenge_missing"
	RuleChallengeTooLong policymodule.Reason = "intune_challenge_too_long"
	RuleRefused          policymodule.Reason = "registration_point_refused"
)

const (
	maxChallenge   = 64 << 10
	mostText       = 1024                     // characters of a description
	mostName       = 255                      // octets of a CA's name
	mostValidity   = 100 * 365 * 24 * 60 * 60 // seconds
	grantedVerdict = "granted"
	refusedVerdict = "refused"
)

// verifyQuestion is the body of VerifyRequest.
type verifyQuestion struct {
	Tenant             string `json:"tenant,omitempty"`
	Endpoint           string `json:"endpoint"`
	TransactionID      []byte `json:"transactionId"`
	CertificateRequest []byte `json:"certificateRequest"`
	Template           string `json:"template,omitempty"`
	RenewalCertificate []byte `json:"renewalCertificate,omitempty"`
}

// notifyQuestion is the body of Notify.
type notifyQuestion struct {
	Tenant             string `json:"tenant,omitempty"`
	Endpoint           string `json:"endpoint"`
	TransactionID      []byte `json:"transactionId"`
	CertificateRequest []byte `json:"certificateRequest"`
	Outcome            string `json:"outcome"`
	Certificate        []byte `json:"certificate,omitempty"`
	IssuingCA          string `json:"issuingCa,omitempty"`
	HResult            int32  `json:"hresult,omitempty"`
	Description        string `json:"description,omitempty"`
}

// verdict is the answer to VerifyRequest.
type verdict struct {
	Verdict            string    `json:"verdict"`
	Rule               string    `json:"rule"`
	FailInfo           int       `json:"failInfo"`
	Detail             string    `json:"detail"`
	Notify             bool      `json:"notify"`
	NamesVouched       bool      `json:"namesVouched"`
	ReleasesItself     bool      `json:"releasesItself"`
	MaxValiditySeconds int64     `json:"maxValiditySeconds"`
	ChallengeMade      time.Time `json:"challengeMade"`
}

// Verify asks the registration point whether a request may have a
// certificate. A request without a challenge is refused without asking.
func (c *Client) Verify(ctx context.Context, req policymodule.Request) (policymodule.Decision, error) {
	if req.CSR == nil || req.CSR.ChallengePassword == "" {
		return policymodule.Refuse(RuleChallengeMissing, policymodule.BadRequest, "the request has no challenge"), nil
	}
	if len(req.CSR.ChallengePassword) > maxChallenge {
		return policymodule.Refuse(RuleChallengeTooLong, policymodule.BadRequest, "the challenge is too long"), nil
	}
	question := verifyQuestion{
		Tenant: c.config.Tenant, Endpoint: req.Endpoint, TransactionID: []byte(req.TransactionID),
		CertificateRequest: req.CSR.Raw, Template: req.Template,
	}
	if req.Renewal != nil {
		question.RenewalCertificate = req.Renewal.Raw
	}
	status, content, err := c.post(ctx, verifyPath, question)
	if err != nil {
		return policymodule.Decision{}, err
	}
	v, err := readVerdict(status, content)
	if err != nil {
		return policymodule.Decision{}, err
	}
	if v.Verdict == refusedVerdict {
		return v.refusal(), nil
	}
	return policymodule.Decision{
		Granted: true, ChallengeID: c.config.Sealer.ChallengeID(c.scope, req.CSR.ChallengePassword), ChallengeMade: v.ChallengeMade,
		Notify: v.Notify, VouchedNames: v.NamesVouched, MaxValidity: time.Duration(v.MaxValiditySeconds) * time.Second,
	}, nil
}

// readVerdict wants a verdict that can be acted upon: what is not understood
// is neither a grant nor a refusal.
func readVerdict(status int, content []byte) (v verdict, err error) {
	switch err := json.Unmarshal(content, &v); {
	case status != http.StatusCreated:
		return v, fmt.Errorf("registration point answered %d in place of a verdict; is url the address of a certconnector?", status)
	case err != nil:
		return v, errors.New("the registration point's verdict cannot be read; are both sides of the same version?")
	case v.Verdict != grantedVerdict && v.Verdict != refusedVerdict:
		return v, errors.New("the registration point's verdict is none that is known; are both sides of the same version?")
	case v.MaxValiditySeconds < 0 || v.MaxValiditySeconds > mostValidity:
		return v, errors.New("the registration point's cap on the validity makes no sense; are both sides of the same version?")
	case v.Verdict == grantedVerdict && v.ReleasesItself:
		return v, errors.New("the registration point takes us for a front end that releases certificates by itself; remove releases_itself there")
	}
	return v, nil
}

// refusal keeps names few and texts short, whoever sends them.
func (v verdict) refusal() policymodule.Decision {
	rule, info := policymodule.Reason(v.Rule), policymodule.FailInfo(v.FailInfo)
	if !mtls.IsRule(v.Rule) {
		rule = RuleRefused
	}
	if info < policymodule.BadAlg || info > policymodule.BadCertID {
		info = policymodule.BadRequest
	}
	return policymodule.Refuse(rule, info, cut(v.Detail, mostText))
}

// Notify tells the registration point what became of a request. Its 409 is
// the last word, policymodule.ErrNotifyRefused; any other failure is not.
func (c *Client) Notify(ctx context.Context, o policymodule.Outcome) error {
	question := notifyQuestion{
		Tenant: c.config.Tenant, Endpoint: o.Endpoint, TransactionID: []byte(o.TransactionID), CertificateRequest: o.CSR,
		Outcome: policymodule.OutcomeFailed, HResult: o.HResult, Description: cut(o.Description, mostText),
	}
	if o.Certificate != nil {
		question.Outcome, question.HResult, question.Description = policymodule.OutcomeIssued, 0, ""
		question.Certificate, question.IssuingCA = o.Certificate.Raw, o.IssuingCA
		if len(o.IssuingCA) > mostName {
			return fmt.Errorf("telling the registration point: the CA's name has more than %d octets; give the CA a shorter one", mostName)
		}
	}
	status, _, err := c.post(ctx, notifyPath, question)
	refused, ok := errors.AsType[*StatusError](err)
	switch {
	case ok && refused.Status == http.StatusConflict:
		return fmt.Errorf("%w: %w", policymodule.ErrNotifyRefused, refused)
	case err != nil:
		return err
	case status != http.StatusNoContent:
		return fmt.Errorf("registration point answered %d in place of a receipt; is releases_itself set there for this front end?", status)
	}
	return nil
}

// cut shortens text to so many characters, and drops control characters,
// which the registration point refuses.
func cut(s string, most int) string {
	kept := make([]rune, 0, min(len(s), most))
	for _, r := range s {
		if len(kept) == most {
			break
		}
		if r < 0x20 || 0x7f <= r && r < 0xa0 {
			r = ' '
		}
		kept = append(kept, r)
	}
	return string(kept)
}
