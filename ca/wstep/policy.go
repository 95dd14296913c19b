package wstep

import (
	"cmp"
	"crypto/x509"
	"errors"
	"math"
	"slices"
	"strconv"
	"time"
)

// Template is a certificate template as the policy shows it to us.
type Template struct {
	Name   string // common name, as requests use it
	OID    string // "" when the policy does not tell
	Enroll bool   // whether the account may enrol for it
	// SubjectFromRequest says that subject and alternative names are those of
	// the request; else the CA takes them from the directory.
	SubjectFromRequest bool
	MinKeyBits         int
	Validity           time.Duration
	Signatures         int // how many authorised signatures a request needs; 0: none
	cas                []int
}

// policy is a GetPoliciesResponse.
type policy struct {
	unchanged bool
	update    time.Duration // until the next question; 0: not told
	templates []Template
	cas       []policyCA
}

// policyCA is one CA of a policy ([MS-XCEP], section 3.1.4.1.3.2).
type policyCA struct {
	reference   int
	certificate *x509.Certificate
	enroll      bool
	services    []service
}

// service is a CAURI ([MS-XCEP], section 3.1.4.1.3.5).
type service struct {
	kind        int
	address     string
	priority    int64 // the lowest comes first
	renewalOnly bool
}

// readPolicy reads the body of a GetPoliciesResponse. CAs whose certificate
// does not read are left out: nothing they issue could be checked.
func readPolicy(body *element) (*policy, error) {
	top := body.only(nsPolicy, "GetPoliciesResponse")
	response := top.only(nsPolicy, "response")
	if response == nil {
		return nil, errors.New("the answer holds no policy")
	}
	p := &policy{unchanged: response.only(nsPolicy, "policiesNotChanged").isTrue()}
	p.update = time.Duration(min(number(response.only(nsPolicy, "nextUpdateHours")), 1e6)) * time.Hour
	names := map[int]string{}
	for _, o := range top.only(nsPolicy, "oIDs").all(nsPolicy, "oID") {
		names[reference(o.only(nsPolicy, "oIDReferenceID"))] = plain(o.only(nsPolicy, "value").content())
	}
	for _, e := range response.only(nsPolicy, "policies").all(nsPolicy, "policy") {
		if t := readTemplate(e, names); t.Name != "" {
			p.templates = append(p.templates, t)
		}
	}
	for _, e := range top.only(nsPolicy, "cAs").all(nsPolicy, "cA") {
		der, err := e.only(nsPolicy, "certificate").bytes()
		if err != nil {
			continue
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil || !cert.IsCA {
			continue
		}
		p.cas = append(p.cas, policyCA{
			reference: reference(e.only(nsPolicy, "cAReferenceID")), certificate: cert,
			enroll: e.only(nsPolicy, "enrollPermission").isTrue(), services: readServices(e),
		})
	}
	return p, nil
}

func readTemplate(e *element, names map[int]string) Template {
	attributes := e.only(nsPolicy, "attributes")
	const supplied = 0x00000001 // the enrollee supplies the subject
	t := Template{
		Name: plain(attributes.only(nsPolicy, "commonName").content()), OID: names[reference(e.only(nsPolicy, "policyOIDReference"))],
		Enroll:             attributes.path(nsPolicy, "permission", "enroll").isTrue(),
		SubjectFromRequest: number(attributes.only(nsPolicy, "subjectNameFlags"))&supplied != 0,
		MinKeyBits:         int(min(number(attributes.path(nsPolicy, "privateKeyAttributes", "minimalKeyLength")), 1<<20)),
		Signatures:         int(min(number(attributes.path(nsPolicy, "rARequirements", "rASignatures")), 1<<20)),
	}
	seconds := number(attributes.path(nsPolicy, "certificateValidity", "validityPeriodSeconds"))
	t.Validity = time.Duration(min(seconds, int64(math.MaxInt64/time.Second))) * time.Second
	for _, r := range e.only(nsPolicy, "cAs").all(nsPolicy, "cAReference") {
		t.cas = append(t.cas, reference(r))
	}
	return t
}

func readServices(e *element) []service {
	var list []service
	for _, u := range e.only(nsPolicy, "uris").all(nsPolicy, "cAURI") {
		s := service{
			kind: int(min(number(u.only(nsPolicy, "clientAuthentication")), 1<<16)), address: u.only(nsPolicy, "uri").content(),
			priority: number(u.only(nsPolicy, "priority")), renewalOnly: u.only(nsPolicy, "renewalOnly").isTrue(),
		}
		if checkAddress(s.address) == nil {
			list = append(list, s)
		}
	}
	slices.SortStableFunc(list, func(a, b service) int { return cmp.Compare(a.priority, b.priority) })
	return list
}

// addresses are the services that take new requests by our kind of
// authentication, the preferred one first.
func (p policyCA) addresses(kind int) []string {
	const most = 8
	var list []string
	for _, s := range p.services {
		if s.kind == kind && !s.renewalOnly && !slices.Contains(list, s.address) && len(list) < most {
			list = append(list, s.address)
		}
	}
	return list
}

// number reads xs:unsignedInt; 0 for nil and for anything else.
func number(e *element) int64 {
	n, err := strconv.ParseInt(e.content(), 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// reference reads an identifier within a policy; -1 for none.
func reference(e *element) int {
	n, err := strconv.ParseInt(e.content(), 10, 32)
	if err != nil {
		return -1
	}
	return int(n)
}
