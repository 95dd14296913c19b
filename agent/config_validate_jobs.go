package agent

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/certconnector/certconnector/ca"
)

// coolDown is how long Intune answers nothing after it was asked for
// revocations.
const coolDown = time.Hour

func (r *Revocation) validate(at string, laboratory bool, m *mistakes) {
	if r == nil {
		return
	}
	least := coolDown
	if laboratory {
		least = time.Second
	}
	if r.Interval < least {
		m.Add(at+".interval", "%s is shorter than %s, within which nothing is answered", r.Interval, least)
	}
	batch(m, at+".batch", r.Batch)
	if _, err := ca.ParseReason(r.Reason); err != nil {
		m.Add(at+".reason", "%v", err)
	}
	if r.AtMostPerHour < 1 {
		m.Add(at+".at_most_per_hour", "must be 1 or more")
	}
	positive(m, at+".give_up_after", r.GiveUpAfter)
	oneOf(m, at+".codes", r.Codes, "name", "number")
}

func batch(m *mistakes, at string, n int) {
	if n < 1 || n > 500 {
		m.Add(at, "%d is not between 1 and 500", n)
	}
}

// kinds of key that a job may ask for.
var jobKeys = []string{"rsa2048", "rsa3072", "rsa4096", "p256", "p384"}

func (c *Config) validateJobs(m *mistakes) {
	uniqueNames(m, "jobs.sources", c.Jobs.Sources, func(s JobSource) string { return s.Name })
	for i, s := range c.Jobs.Sources {
		at := fmt.Sprintf("jobs.sources[%d]", i)
		s.validate(at, m)
		k := slices.IndexFunc(c.CAs, func(a CA) bool { return a.Name == s.CA })
		switch {
		case k < 0:
			m.Add(at+".ca", "%q is no name in cas", s.CA)
		case c.CAs[k].Embedded != nil && s.Template != "" && !slices.Contains(c.CAs[k].Embedded.profileNames(), s.Template):
			m.Add(at+".template", "%q is no profile of cas[%d], which has %s", s.Template, k, strings.Join(c.CAs[k].Embedded.profileNames(), ", "))
		}
		if p := s.Import; p != nil && !slices.ContainsFunc(c.Tenants, func(t Tenant) bool { return t.Name == p.Tenant }) {
			m.Add(at+".import.tenant", "%q is no name in tenants", p.Tenant)
		}
		if slices.ContainsFunc(c.Endpoints, func(e Endpoint) bool { return e.Name == s.Name }) {
			m.Add(at+".name", "%q is the name of an endpoint; the journal would not tell them apart", s.Name)
		}
	}
}

func (s JobSource) validate(at string, m *mistakes) {
	httpsURL(m, at+".queue.url", s.Queue.URL)
	(&KeyPair{Certificate: s.Queue.Certificate, Key: s.Queue.Key}).validate(at+".queue", m)
	s.Queue.Proxy.validate(at+".queue.proxy", m)
	if s.Queue.CAFile == "" {
		m.Add(at+".queue.ca_file", "is missing; name the roots that the queue's certificate chains to")
	}
	validateNames(m, at+".allow", s.Allow.Subject, s.Allow.SAN)
	validateEKU(m, at+".allow.eku", s.Allow.EKU)
	if len(s.Allow.Keys) == 0 {
		m.Add(at+".allow.keys", "is empty; want some of %s", strings.Join(jobKeys, ", "))
	}
	for j, k := range s.Allow.Keys {
		oneOf(m, fmt.Sprintf("%s.allow.keys[%d]", at, j), k, jobKeys...)
	}
	if s.Allow.MaxValidity < 0 {
		m.Add(at+".allow.max_validity", "must not be negative")
	}
	if len(s.Recipients) == 0 {
		m.Add(at+".recipients", "is empty; a key must be sealed to somebody")
	}
	for j, r := range s.Recipients {
		if r.Certificate == "" {
			m.Add(fmt.Sprintf("%s.recipients[%d].certificate", at, j), "is missing; name a PEM file")
		}
	}
	if s.Interval < time.Second {
		m.Add(at+".interval", "%s is shorter than 1s", s.Interval)
	}
	batch(m, at+".batch", s.Batch)
	if s.AtMostPerHour < 1 {
		m.Add(at+".at_most_per_hour", "must be 1 or more")
	}
	positive(m, at+".give_up_after", s.GiveUpAfter)
	if p := s.Import; p != nil {
		p.validate(at+".import", m)
	}
}

func (p *PFXImport) validate(at string, m *mistakes) {
	if p.PublicKey == "" {
		m.Add(at+".public_key", "is missing; name the file with the key that passwords are sealed to")
	}
	if p.KeyName == "" {
		m.Add(at+".key_name", "is missing; it is the key's name where Microsoft's connector runs")
	}
	oneOf(m, at+".padding", p.Padding, "oaepSha256", "oaepSha384", "oaepSha512")
	oneOf(m, at+".purpose", p.Purpose, "unassigned", "smimeEncryption", "smimeSigning", "wifi")
}

// validate wants files, or a CA that issues.
func (t *ListenerTLS) validate(at string, m *mistakes) {
	if t.IssuedBy == "" {
		t.files().validate(at, m)
		if len(t.Names) > 0 {
			m.Add(at+".names", "are those of an issued certificate; name the CA in issued_by, or remove them")
		}
		return
	}
	if t.Certificate != "" || t.Key != "" {
		m.Add(at, "names files and a CA that issues; keep one of them")
	}
	if len(t.Names) == 0 {
		m.Add(at+".names", "is empty; name the DNS names and addresses that devices use")
	}
	for j, n := range t.Names {
		if u, err := url.Parse("https://" + n); err != nil || u.Host != n || strings.ContainsAny(n, "*:@ ") && !strings.Contains(n, "::") {
			m.Add(fmt.Sprintf("%s.names[%d]", at, j), "%q is neither a DNS name nor an address", n)
		}
	}
}

// validateIssuer looks up who issues a listener's certificate.
func (c *Config) validateIssuer(t *ListenerTLS, at string, m *mistakes) {
	if t == nil || t.IssuedBy == "" {
		return
	}
	k := slices.IndexFunc(c.CAs, func(a CA) bool { return a.Name == t.IssuedBy })
	if k < 0 || c.CAs[k].Embedded == nil {
		m.Add(at+".issued_by", "%q is no embedded CA in cas", t.IssuedBy)
	}
}
