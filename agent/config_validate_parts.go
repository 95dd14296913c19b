package agent

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

func (c *Config) validateTenants(m *mistakes) {
	uniqueNames(m, "tenants", c.Tenants, func(t Tenant) string { return t.Name })
	for i, t := range c.Tenants {
		at := fmt.Sprintf("tenants[%d]", i)
		t.validate(at, m)
		if t.Revocation != nil && len(c.CAs) == 0 {
			m.Add(at+".revocation", "has nothing to revoke at: there is no CA in cas; it belongs into the connector that has CA and journal")
		}
	}
}

func (t Tenant) validate(at string, m *mistakes) {
	if t.TenantID == "" {
		m.Add(at+".tenant_id", "is missing; the Entra admin centre shows it under Overview")
	}
	if t.ClientID == "" {
		m.Add(at+".client_id", "is missing; it is the app registration's application (client) ID")
	}
	oneOf(m, at+".cloud", t.Cloud, "public", "usgov", "dod", "china", "custom")
	t.Credential.validate(at+".credential", m)
	for _, u := range []struct{ key, value string }{
		{"authority", t.URLs.Authority}, {"graph", t.URLs.Graph}, {"resource", t.URLs.Resource},
	} {
		if u.value != "" {
			httpsURL(m, at+".urls."+u.key, u.value)
		} else if t.Cloud == "custom" {
			m.Add(at+".urls."+u.key, "is missing; cloud: custom has no addresses of its own")
		}
	}
	if t.Cloud == "china" && t.URLs.Resource == "" {
		m.Add(at+".urls.resource", "is missing; no address of Intune in this cloud is published, ask the operator of the cloud")
	}
	t.Proxy.validate(at+".proxy", m)
	positive(m, at+".timeouts.token", t.Timeouts.Token)
	positive(m, at+".timeouts.discovery", t.Timeouts.Discovery)
	positive(m, at+".timeouts.service", t.Timeouts.Service)
	positive(m, at+".timeouts.total", t.Timeouts.Total)
	positive(m, at+".timeouts.revocation", t.Timeouts.Revocation)
	positive(m, at+".timeouts.graph", t.Timeouts.Graph)
	t.Revocation.validate(at+".revocation", t.Cloud == "custom", m)
}

func (c Credential) validate(at string, m *mistakes) {
	pair := KeyPair{Certificate: c.Certificate, Key: c.Key}
	var kinds []string
	for _, k := range []struct {
		name string
		set  bool
	}{
		{"a certificate", !pair.empty()}, {"managed", c.Managed != nil}, {"a secret", c.Secret != nil}, {"token_file", c.TokenFile != ""},
	} {
		if k.set {
			kinds = append(kinds, k.name)
		}
	}
	switch {
	case len(kinds) == 0:
		m.Add(at, "is missing; name certificate and key, managed: {}, a secret, or token_file")
	case len(kinds) > 1:
		m.Add(at, "has %s; keep one of them", strings.Join(kinds, " and "))
	case c.Secret != nil:
		c.Secret.validate(at+".secret", m)
	case c.Managed != nil:
		between(m, at+".managed.lifetime", c.Managed.Lifetime, 30*24*time.Hour, 2*365*24*time.Hour)
		between(m, at+".managed.overlap", c.Managed.Overlap, time.Hour, c.Managed.Lifetime/6)
	case c.TokenFile == "":
		pair.validate(at, m)
	}
}

func (r SecretRef) validate(at string, m *mistakes) {
	if (r.File == "") == (r.Env == "") {
		m.Add(at, "needs either file or env, as {file: secrets/name}; a secret never stands in this file")
	}
}

func (c *Config) validateCAs(m *mistakes) {
	if len(c.CAs) == 0 && (len(c.Endpoints) > 0 || len(c.RegistrationPoint.FrontEnds) == 0) {
		m.Add("cas", "is empty; without a CA nothing can be issued")
	}
	uniqueNames(m, "cas", c.CAs, func(a CA) string { return a.Name })
	for i, a := range c.CAs {
		c.validateCA(a, fmt.Sprintf("cas[%d]", i), m)
	}
}

func (e *EmbeddedCA) validate(at string, m *mistakes) {
	(&KeyPair{Certificate: e.Certificate, Key: e.Key}).validate(at, m)
	uniqueNames(m, at+".profiles", e.Profiles, func(p Profile) string { return p.Name })
	for i, p := range e.Profiles {
		here := fmt.Sprintf("%s.profiles[%d]", at, i)
		positive(m, here+".validity", p.Validity)
		validateEKU(m, here+".eku", p.EKU)
	}
	for _, u := range []struct{ key, value string }{
		{"crl_url", e.CRLURL}, {"delta_crl_url", e.DeltaCRLURL}, {"ocsp_url", e.OCSPURL}, {"issuer_url", e.IssuerURL},
	} {
		if u.value == "" {
			continue
		}
		if parsed, err := url.Parse(u.value); err != nil || parsed.Scheme != "http" || parsed.Host == "" {
			// RFC 5280, section 8: https would need the CRL to check its own server.
			m.Add(at+"."+u.key, "%q is no address that begins with http://", u.value)
		}
	}
	if e.DeltaCRLURL != "" && e.CRLURL == "" {
		m.Add(at+".delta_crl_url", "needs crl_url: a delta list counts from a full one")
	}
	if e.DeltaCRLLifetime < time.Hour || e.DeltaCRLLifetime > e.CRLLifetime {
		m.Add(at+".delta_crl_lifetime", "%s is not between 1h and crl_lifetime", e.DeltaCRLLifetime)
	}
	oneOf(m, at+".ocsp_unknown", e.OCSPUnknown, "unknown", "revoked")
	if e.CRLLifetime < time.Hour {
		m.Add(at+".crl_lifetime", "%s is too short, want 1h or more", e.CRLLifetime)
	}
	if e.Backdate < 0 || e.Backdate > 24*time.Hour {
		m.Add(at+".backdate", "%s is not between 0s and 24h", e.Backdate)
	}
}

// names of extended key usages that may stand in a file instead of an object identifier.
var ekuNames = []string{"clientAuth", "serverAuth", "emailProtection", "ipsecIKE"}

func validateEKU(m *mistakes, at string, list []string) {
	if len(list) == 0 {
		m.Add(at, "is empty; want some of %s, or object identifiers", strings.Join(ekuNames, ", "))
	}
	for i, e := range list {
		here := fmt.Sprintf("%s[%d]", at, i)
		switch {
		case e == "2.5.29.37.0" || e == "1.3.6.1.4.1.311.20.2.1" || e == "1.3.6.1.5.5.7.3.9":
			// anyExtendedKeyUsage, Certificate Request Agent, OCSPSigning: each would let
			// a device act for others (scep-ndes M6).
			m.Add(here, "%q is never given to a device", e)
		case !slices.Contains(ekuNames, e) && !objectIdentifier(e):
			m.Add(here, "%q is unknown, want one of %s, or an object identifier", e, strings.Join(ekuNames, ", "))
		}
	}
}

func objectIdentifier(s string) bool {
	arcs := strings.Split(s, ".")
	for _, arc := range arcs {
		if _, err := strconv.ParseUint(arc, 10, 31); err != nil {
			return false
		}
	}
	return len(arcs) >= 3
}
