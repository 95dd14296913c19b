package jobs

import (
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/certconnector/certconnector/agent/jobs/jobqueue"
	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/internal/pkcs10"
	"github.com/certconnector/certconnector/policymodule"
)

// The names of the rules that an IssuePolicy refuses by, beside those of
// package policymodule.
const (
	RuleNoJob       policymodule.Reason = "job_missing"
	RuleJobKey      policymodule.Reason = "job_key_type"
	RuleJobSID      policymodule.Reason = "job_sid"
	RuleJobValidity policymodule.Reason = "job_validity"
)

// How long the registration authority must remember and keep trying for jobs,
// which are more patient than devices: the values for the ReplayWindow and
// WithholdFor of the endpoint of a job source.
const (
	// IssueReplayWindow is how long the same CSR gets the same certificate.
	IssueReplayWindow = 90 * 24 * time.Hour
	// IssueWithholdFor is how long a CA may be down before a job fails, unless
	// an operator says otherwise.
	IssueWithholdFor = 7 * 24 * time.Hour
)

// IssueRules say what one source of issuance jobs may ask for.
type IssueRules struct {
	Subject []string // patterns as policymodule.ParseNames reads them; empty: no subject
	SANs    []string // likewise; empty: no subjectAltName

	// ExtKeyUsages are names as clientAuth, or object identifiers. Empty: clientAuth.
	ExtKeyUsages []string
	// KeyTypes are those of jobs. Empty: rsa2048, rsa3072 and rsa4096. p256 and
	// p384 want an endpoint whose rules accept ECDSA.
	KeyTypes []string
	// MaxValidity is the longest life that may be asked for, and a cap on what
	// the CA's template gives; 0: the template's.
	MaxValidity time.Duration
}

// IssuePolicy is the policy module of the endpoint that a source's jobs are
// enrolled at. It vouches for a request when an Issuer makes it for a job, and
// its names, usages and key are within the source's rules. There is no
// challenge, and nobody is owed a notification: the job's own result is that.
// It is for a job alone: a device that reaches the endpoint gets nothing.
type IssuePolicy struct {
	names       policymodule.Names
	usages      []asn1.ObjectIdentifier
	keyTypes    []string
	maxValidity time.Duration
}

var _ policymodule.Module = (*IssuePolicy)(nil)

// NewIssuePolicy reads rules, or says all that is wrong with them.
func NewIssuePolicy(rules IssueRules) (*IssuePolicy, error) {
	p := &IssuePolicy{maxValidity: rules.MaxValidity, keyTypes: rules.KeyTypes}
	var errs []error
	var err error
	if p.names, err = policymodule.ParseNames(rules.Subject, rules.SANs); err != nil {
		errs = append(errs, err)
	}
	if len(rules.ExtKeyUsages) == 0 {
		rules.ExtKeyUsages = []string{"clientAuth"}
	}
	if p.usages, err = parseEKUs(rules.ExtKeyUsages); err != nil {
		errs = append(errs, err)
	}
	if len(p.keyTypes) == 0 {
		p.keyTypes = []string{"rsa2048", "rsa3072", "rsa4096"}
	}
	for _, k := range p.keyTypes {
		if _, known := keyTypes[k]; !known {
			errs = append(errs, fmt.Errorf("key type %q is not known; want rsa2048, rsa3072, rsa4096, p256 or p384", k))
		}
	}
	if rules.MaxValidity < 0 {
		errs = append(errs, errors.New("the longest validity is negative"))
	}
	return p, errors.Join(errs...)
}

// Names returns the names that may be asked for, for the endpoint's own rules.
func (p *IssuePolicy) Names() *policymodule.Names { return &p.names }

// ExtKeyUsages returns the usages that may be asked for, for the endpoint's
// own rules: they also limit what a template adds.
func (p *IssuePolicy) ExtKeyUsages() []asn1.ObjectIdentifier { return slices.Clone(p.usages) }

// issuing marks the context of an enrolment that an Issuer makes.
type issuing struct{}

// mark returns a context in which p vouches for one CSR.
func (p *IssuePolicy) mark(ctx context.Context, csr *pkcs10.Request) context.Context {
	return context.WithValue(ctx, issuing{}, issueGrant{p, csr.Digest()})
}

type issueGrant struct {
	policy *IssuePolicy
	csr    [32]byte
}

// Verify grants what an Issuer asks within the rules.
func (p *IssuePolicy) Verify(ctx context.Context, req policymodule.Request) (policymodule.Decision, error) {
	grant, _ := ctx.Value(issuing{}).(issueGrant)
	if req.CSR == nil || grant.policy != p || grant.csr != req.CSR.Digest() {
		return policymodule.Refuse(RuleNoJob, policymodule.BadRequest, "no job asks for this certificate"), nil
	}
	if d := p.check(req.CSR); d != nil {
		return *d, nil
	}
	return policymodule.Decision{Granted: true, MaxValidity: p.maxValidity, VouchedNames: true}, nil
}

// Notify has nobody to tell.
func (p *IssuePolicy) Notify(context.Context, policymodule.Outcome) error { return nil }

// check applies the source's rules to a CSR.
func (p *IssuePolicy) check(csr *pkcs10.Request) *policymodule.Decision {
	refuse := func(rule policymodule.Reason, detail string) *policymodule.Decision {
		d := policymodule.Refuse(rule, policymodule.BadRequest, detail)
		return &d
	}
	if !slices.Contains(p.keyTypes, keyTypeOf(csr)) {
		return refuse(RuleJobKey, "the key type is not allowed for this source")
	}
	if d := p.names.Check(csr); d != nil {
		return d
	}
	names, err := csr.SubjectAltNames()
	if err != nil {
		return refuse(policymodule.RuleSAN, "the subjectAltName cannot be read")
	}
	for _, sid := range policymodule.SIDs(names) {
		if !p.names.AllowsSID(sid) {
			return refuse(RuleJobSID, "the security identifier is not allowed for this source")
		}
	}
	for _, eku := range csr.ExtKeyUsage {
		if !slices.ContainsFunc(p.usages, eku.Equal) {
			return refuse(policymodule.RuleExtKeyUsage, "extended key usage "+eku.String()+" is not allowed for this source")
		}
	}
	if p.maxValidity > 0 && csr.Validity > p.maxValidity {
		return refuse(RuleJobValidity, "the validity is longer than this source may ask for")
	}
	return nil
}

// keyTypeOf names a CSR's key as jobs do.
func keyTypeOf(csr *pkcs10.Request) string {
	switch key := csr.PublicKey.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("rsa%d", key.N.BitLen())
	case *ecdsa.PublicKey:
		return fmt.Sprintf("p%d", key.Curve.Params().BitSize)
	}
	return ""
}

// ekuNames are the usages with a name of their own (RFC 5280, section
// 4.2.1.12, and Microsoft's).
var ekuNames = map[string]asn1.ObjectIdentifier{
	"serverauth":      {1, 3, 6, 1, 5, 5, 7, 3, 1},
	"clientauth":      {1, 3, 6, 1, 5, 5, 7, 3, 2},
	"codesigning":     {1, 3, 6, 1, 5, 5, 7, 3, 3},
	"emailprotection": {1, 3, 6, 1, 5, 5, 7, 3, 4},
	"timestamping":    {1, 3, 6, 1, 5, 5, 7, 3, 8},
	"smartcardlogon":  {1, 3, 6, 1, 4, 1, 311, 20, 2, 2},
	"encryptingfs":    {1, 3, 6, 1, 4, 1, 311, 10, 3, 4},
}

func parseEKUs(names []string) ([]asn1.ObjectIdentifier, error) {
	var oids []asn1.ObjectIdentifier
	for _, name := range names {
		oid, ok := ekuNames[strings.ToLower(name)]
		if !ok {
			if !strings.Contains(name, ".") {
				return nil, fmt.Errorf("extended key usage %q is not known; want a name as clientAuth, or an object identifier", name)
			}
			if oid, ok = pkcs10.AttributeType(name); !ok {
				return nil, fmt.Errorf("extended key usage %q is no object identifier", name)
			}
		}
		oids = append(oids, oid)
	}
	return oids, nil
}

// resultCode says which code of the interface stands for a refusal by one of
// our rules, this module's or the registration authority's.
func resultCode(rule string) jobqueue.Code {
	switch rule {
	case journal.RuleCAUnavailable:
		return jobqueue.ServiceUnavailableException
	case journal.RuleCADenied, journal.RuleOutcomeUnknown, journal.RuleParked, journal.RuleIssued, journal.RuleWithheld, "refused":
		return jobqueue.NonRetryableServiceError
	}
	return jobqueue.ParameterDataInvalidError
}
