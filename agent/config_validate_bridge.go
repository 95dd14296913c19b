package agent

import (
	"fmt"
	"slices"
	"strings"

	"github.com/certconnector/certconnector/internal/negotiate"
	"github.com/certconnector/certconnector/internal/secret"
)

func (c *Config) validateCA(a CA, at string, m *mistakes) {
	kinds := 0
	for _, set := range []bool{a.Embedded != nil, a.ADCS != nil, a.Certsrv != nil, a.WSTEP != nil, len(a.Roads) > 0} {
		if set {
			kinds++
		}
	}
	if kinds != 1 {
		m.Add(at, "must be of exactly one kind: embedded, adcs, certsrv, wstep, or roads to others")
		return
	}
	if a.Embedded != nil {
		a.Embedded.validate(at+".embedded", m)
		if a.Chain != "" {
			m.Add(at+".chain", "is not used: an embedded CA has its chain in its certificate file")
		}
		return
	}
	if a.Chain == "" && len(a.Roads) == 0 {
		m.Add(at+".chain", "is missing; name a PEM file with the issuing CA's certificate and its issuers")
	}
	if a.Concurrent < 1 || a.Queue < 1 {
		m.Add(at+".concurrent", "concurrent and queue must be 1 or more")
	}
	switch {
	case a.ADCS != nil:
		a.ADCS.validate(at+".adcs", m)
	case a.Certsrv != nil:
		a.Certsrv.validate(at+".certsrv", m)
	case a.WSTEP != nil:
		a.WSTEP.validate(at+".wstep", m)
	default:
		c.validateRoads(a, at+".roads", m)
	}
}

func (c *Config) validateRoads(a CA, at string, m *mistakes) {
	for i, name := range a.Roads {
		k := slices.IndexFunc(c.CAs, func(other CA) bool { return other.Name == name })
		switch {
		case k < 0:
			m.Add(fmt.Sprintf("%s[%d]", at, i), "%q is no name in cas", name)
		case c.CAs[k].Embedded != nil || len(c.CAs[k].Roads) > 0:
			m.Add(fmt.Sprintf("%s[%d]", at, i), "%q is no bridge to a Microsoft CA", name)
		case slices.Index(a.Roads, name) != i:
			m.Add(fmt.Sprintf("%s[%d]", at, i), "%q is listed twice", name)
		}
	}
}

func (a *ADCS) validate(at string, m *mistakes) {
	host, name, ok := strings.Cut(a.Config, `\`)
	if !ok || host == "" || name == "" {
		m.Add(at+".config", `%q is not host\name, as certutil prints it: 'ca01.corp.example\Corp Issuing CA'`, a.Config)
	}
	if len(a.Issue) == 0 {
		m.Add(at+".issue", "is empty; want dcom, icpr or both")
	}
	for i, road := range a.Issue {
		oneOf(m, fmt.Sprintf("%s.issue[%d]", at, i), road, "dcom", "icpr")
	}
	oneOf(m, at+".revoke", a.Revoke, "", "csra")
	oneOf(m, at+".find", a.Find, "", "csra")
	if a.Approve && a.Revoke == "" {
		m.Add(at+".approve", "needs revoke: csra; it takes the same right")
	}
	if !signsIn(false, a.Kerberos != nil, a.NTLM != nil, a.SSPI != nil) {
		m.Add(at, "needs exactly one of kerberos, ntlm and sspi")
	}
	if a.SSPI != nil && a.SPNEGO {
		m.Add(at+".spnego", "does not go with sspi: hosts take its sign-in bare")
	}
	a.Kerberos.validate(at+".kerberos", m)
	a.NTLM.validate(at+".ntlm", m)
	positive(m, at+".submit_within", a.SubmitWithin)
	if a.EndpointMapperPort < 1 || a.EndpointMapperPort > 65535 {
		m.Add(at+".endpoint_mapper_port", "%d is no port", a.EndpointMapperPort)
	}
}

func (c *Certsrv) validate(at string, m *mistakes) {
	httpsURL(m, at+".url", c.URL)
	if !signsIn(c.ClientCertificate != nil, c.Kerberos != nil, c.NTLM != nil, c.SSPI != nil, c.Basic != nil) {
		m.Add(at, "needs one of kerberos, ntlm, sspi and basic, or client_certificate")
	}
	c.Kerberos.validate(at+".kerberos", m)
	c.NTLM.validate(at+".ntlm", m)
	c.Basic.validate(at+".basic", m)
	c.Proxy.validate(at+".proxy", m)
	if c.ClientCertificate != nil {
		c.ClientCertificate.validate(at+".client_certificate", m)
	}
	positive(m, at+".submit_within", c.SubmitWithin)
}

// signsIn wants at most one of the ways, and one of all.
func signsIn(certificate bool, ways ...bool) bool {
	n := 0
	for _, way := range ways {
		if way {
			n++
		}
	}
	return n == 1 || n == 0 && certificate
}

func (w *WSTEP) validate(at string, m *mistakes) {
	if w.Policy == "" && len(w.Enrollment) == 0 {
		m.Add(at+".policy", "is missing; name the policy service, or enrolment services")
	}
	if w.Policy != "" {
		httpsURL(m, at+".policy", w.Policy)
	}
	for i, u := range w.Enrollment {
		httpsURL(m, fmt.Sprintf("%s.enrollment[%d]", at, i), u)
	}
	ways := 0
	for _, set := range []bool{w.Kerberos != nil, w.SSPI != nil, w.User != nil, w.ClientCertificate != nil} {
		if set {
			ways++
		}
	}
	if ways != 1 {
		m.Add(at, "needs exactly one of kerberos, sspi, user and client_certificate")
	}
	w.Kerberos.validate(at+".kerberos", m)
	w.User.validate(at+".user", m)
	w.Proxy.validate(at+".proxy", m)
	if w.ClientCertificate != nil {
		w.ClientCertificate.validate(at+".client_certificate", m)
	}
	positive(m, at+".submit_within", w.SubmitWithin)
}

func (k *Kerberos) validate(at string, m *mistakes) {
	if k == nil {
		return
	}
	check := negotiate.Kerberos{Principal: k.Principal, Keytab: k.Keytab, CCache: k.CCache}
	if k.Password != nil {
		check.Password = secret.Text("named")
		k.Password.validate(at+".password", m)
	}
	if err := check.Check(); err != nil {
		m.Add(at, "%v", err)
	}
}

func (p *Password) validate(at string, m *mistakes) {
	if p == nil {
		return
	}
	if p.User == "" {
		m.Add(at+".user", `is missing; want DOMAIN\user or user@domain`)
	}
	p.Password.validate(at+".password", m)
}
