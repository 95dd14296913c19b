package wstep

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/certconnector/certconnector/ca"
)

var _ ca.Diagnoser = (*CA)(nil)

const codeEnrollDenied = 0x80094011 // CERTSRV_E_ENROLL_DENIED

// Diagnose implements ca.Diagnoser. It asks the policy service anew, which
// tells the account's rights and what is in the templates, and the enrolment
// service for the outcome of a request that cannot be there.
func (c *CA) Diagnose(ctx context.Context, want ca.Wanted) []ca.Finding {
	var list []ca.Finding
	if c.config.Policy == "" {
		list = append(list, ca.Found(ca.Note, ca.CheckTemplatePublished, "configure policy, the address of the policy service",
			"without a policy service neither the CA's certificate nor its templates can be seen"))
	} else {
		found, ok := c.diagnosePolicy(ctx, want)
		if list = found; !ok {
			return list
		}
	}
	list = append(list, c.diagnoseEnrollment(ctx)...)
	return append(list,
		ca.Found(ca.Note, ca.CheckRoadRevoke, "", "the enrolment web services cannot revoke"),
		ca.Found(ca.Note, ca.CheckRoadFind, "", "the enrolment web services cannot be searched after a lost answer"),
		ca.Found(ca.Note, ca.CheckCRL, "", "the enrolment web services show no revocation list"))
}

// diagnosePolicy asks the policy service, past the cache. ok says that the
// policy names our CA.
func (c *CA) diagnosePolicy(ctx context.Context, want ca.Wanted) (list []ca.Finding, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, ca.ProbeTimeout)
	defer cancel()
	r, err := c.ask(ctx, question{
		address: c.config.Policy, action: actionPolicies, replyAction: actionPoliciesReply,
		content: policiesQuestion(time.Time{}), limit: maxPolicy, loose: true,
	})
	if err != nil {
		return []ca.Finding{c.askFinding("policy service", err)}, false
	}
	list = []ca.Finding{
		ca.Found(ca.OK, ca.CheckReach, "", "the policy service answers"),
		ca.Found(ca.OK, ca.CheckSignIn, "", "signed in to the policy service with %s", c.Mechanism()),
		ca.CompareClocks(r.date, c.config.Clock()),
	}
	p, err := readPolicy(r.body)
	if err == nil && p.unchanged {
		err = errors.New("it says that nothing changed, and was not asked that")
	}
	if err != nil {
		return append(list, ca.Found(ca.Failure, ca.CheckReach, "check that policy is the address of a policy service", "the policy does not read: %v", err)), false
	}
	chosen, err := c.choose(p)
	if err != nil {
		return append(list, ca.Found(ca.Failure, ca.CheckName, "correct ca_name, publish the template on the CA, and see that its enrolment service is in the directory (certutil -enrollmentServerURL)", "%v", err)), false
	}
	list = append(list, ca.Found(ca.OK, ca.CheckName, "", "the policy names the CA %q", plain(chosen.certificate.Subject.CommonName)))
	list = append(list, ca.CompareChain([]*x509.Certificate{chosen.certificate}, want.Chain, c.config.Clock())...)
	list = append(list, c.diagnoseRights(chosen)...)
	return append(list, diagnoseTemplates(want, p, chosen, readPurposes(r.body))...), true
}

// askFinding sorts the error of a question.
func (c *CA) askFinding(what string, err error) ca.Finding {
	const check = "check user and password, keytab or certificate, the rights on the web site, the clocks, and that the address is that of this way to sign in"
	f, isFault := errors.AsType[*fault](err)
	_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
	switch {
	case isFault && f.refusesCredentials(), !isFault && errors.Is(err, ca.ErrForbidden):
		return ca.Found(ca.Failure, ca.CheckSignIn, check, "%s: signing in with %s: %v", what, c.Mechanism(), err)
	case isFault && f.hresult != 0:
		return ca.Found(ca.Failure, ca.CheckReach, ca.Remedy(uint32(f.hresult)), "%s: %v", what, err)
	case untrusted:
		return ca.Found(ca.Failure, ca.CheckReach, "name the root of the web server's certificate in ca_file, and its name in the address", "%s: %v", what, err)
	}
	return ca.Found(ca.Failure, ca.CheckReach, "check the address, name resolution, TCP 443 and the firewall, and that the web site and its application pool run", "%s: %v", what, err)
}

// diagnoseRights reads what the policy says of the account and the CA.
func (c *CA) diagnoseRights(chosen policyCA) []ca.Finding {
	var list []ca.Finding
	if chosen.enroll {
		list = append(list, ca.Found(ca.OK, ca.CheckEnroll, "", "by the policy the account may enrol at the CA"))
	} else {
		list = append(list, ca.Found(ca.Failure, ca.CheckEnroll, ca.Remedy(codeEnrollDenied), "by the policy the account may not enrol at the CA"))
	}
	if len(c.config.Enrollment) == 0 && len(chosen.addresses(c.kind)) == 0 {
		list = append(list, ca.Found(ca.Failure, ca.CheckRoadIssue, "set up an enrolment service for this way to sign in, or name its address in enrollment",
			"the policy names no https address for new requests with %s at this CA", c.Mechanism()))
	}
	return list
}

// diagnoseTemplates compares the templates of the policy. It shows those that
// the account may enrol for; a missing one is not published, or not permitted.
func diagnoseTemplates(want ca.Wanted, p *policy, chosen policyCA, purposes map[string]ca.TemplateFacts) []ca.Finding {
	var list []ca.Finding
	for _, w := range want.Templates {
		i := slices.IndexFunc(p.templates, func(t Template) bool { return strings.EqualFold(t.Name, w.Name) || t.OID != "" && t.OID == w.Name })
		switch {
		case w.Name == "":
			list = append(list, w.Named())
		case i < 0:
			list = append(list, ca.Found(ca.Failure, ca.CheckTemplatePublished, ca.Remedy(0x80094800)+"; or "+ca.Remedy(0x80094012),
				"the policy does not show template %q of endpoint %q: it is not published, or the account may not enrol for it", w.Name, w.Endpoint))
		case !slices.Contains(p.templates[i].cas, chosen.reference):
			list = append(list, w.Published(false))
		default:
			t := p.templates[i]
			facts := purposes[t.Name]
			facts.Enroll, facts.SubjectFromRequest, facts.Signatures, facts.MinKeyBits = t.Enroll, t.SubjectFromRequest, t.Signatures, t.MinKeyBits
			list = append(append(list, w.Published(true)), w.Compare(facts)...)
		}
	}
	return list
}

// readPurposes reads the extensions that the policy gives each template's
// certificates ([MS-XCEP], section 3.1.4.1.3.10), where it gives any.
func readPurposes(body *element) map[string]ca.TemplateFacts {
	top := body.only(nsPolicy, "GetPoliciesResponse")
	names := map[int]string{}
	for _, o := range top.only(nsPolicy, "oIDs").all(nsPolicy, "oID") {
		names[reference(o.only(nsPolicy, "oIDReferenceID"))] = plain(o.only(nsPolicy, "value").content())
	}
	all := map[string]ca.TemplateFacts{}
	for _, e := range top.path(nsPolicy, "response", "policies").all(nsPolicy, "policy") {
		attributes := e.only(nsPolicy, "attributes")
		extensions := attributes.only(nsPolicy, "extensions").all(nsPolicy, "extension")
		if len(extensions) == 0 {
			continue
		}
		facts := ca.TemplateFacts{Purposes: true}
		for _, x := range extensions {
			value, err := x.only(nsPolicy, "value").bytes()
			if err != nil || !readPurpose(&facts, names[reference(x.only(nsPolicy, "oIDReference"))], value) {
				facts.Purposes = false
				break
			}
		}
		all[plain(attributes.only(nsPolicy, "commonName").content())] = facts
	}
	return all
}

// readPurpose reads one extension; false says that it does not read.
func readPurpose(facts *ca.TemplateFacts, oid string, value []byte) bool {
	switch oid {
	case "2.5.29.15":
		var usage asn1.BitString
		if rest, err := asn1.Unmarshal(value, &usage); err != nil || len(rest) > 0 {
			return false
		}
		for i := range min(usage.BitLength, bits.UintSize-1, 9) {
			facts.KeyUsage |= x509.KeyUsage(usage.At(i) << i)
		}
	case "2.5.29.37":
		rest, err := asn1.Unmarshal(value, &facts.EKU)
		return err == nil && len(rest) == 0
	}
	return true
}

// diagnoseEnrollment asks the enrolment service for a request that is not
// there.
func (c *CA) diagnoseEnrollment(ctx context.Context) []ca.Finding {
	ctx, cancel := context.WithTimeout(ctx, ca.ProbeTimeout)
	defer cancel()
	addresses, err := c.addresses(ctx)
	if err != nil {
		return nil // the policy said so, and why
	}
	_, err = c.askOneOf(ctx, addresses, statusQuestion(strconv.Itoa(ca.UnknownRequest)))
	f, isFault := errors.AsType[*fault](err)
	switch {
	case isFault && uint32(f.hresult) == codePropertyEmpty, err == nil:
		return []ca.Finding{ca.Found(ca.OK, ca.CheckRoadIssue, "", "the enrolment service and the CA behind it answer")}
	case isFault && (uint32(f.hresult) == codeEnrollDenied || uint32(f.hresult) == 0x80070005):
		return []ca.Finding{ca.Found(ca.Failure, ca.CheckEnroll, ca.Remedy(codeEnrollDenied), "the account may not ask for certificates: %v", err)}
	case isFault && f.hresult != 0:
		return []ca.Finding{ca.Found(ca.Failure, ca.CheckRoadIssue, ca.Remedy(uint32(f.hresult)), "enrolment service: %v", err)}
	}
	return []ca.Finding{c.askFinding("enrolment service", err)}
}
