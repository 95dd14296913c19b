package agent

import (
	"encoding/hex"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/certconnector/certconnector/policymodule"
)

func (p Policy) validate(at string, m *mistakes) {
	kinds := 0
	for _, set := range []bool{p.Intune != nil, p.Onetime != nil, p.Token != nil, p.RegistrationPoint != nil, p.Static != nil} {
		if set {
			kinds++
		}
	}
	switch {
	case kinds > 1:
		m.Add(at, "has more than one kind; each endpoint has exactly one policy")
	case kinds == 0:
		m.Add(at, "is missing; use intune: {tenant: …}, registration_point, token or onetime, or static for a laboratory")
	case p.Onetime != nil:
		p.Onetime.validate(at+".onetime", m)
	case p.Token != nil:
		p.Token.validate(at+".token", m)
	case p.RegistrationPoint != nil:
		p.RegistrationPoint.validate(at+".registration_point", m)
	case p.Static != nil:
		p.Static.Challenge.validate(at+".static.challenge", m)
		if !p.Static.AllowStaticChallenge {
			m.Add(at+".static.allow_static_challenge", "must be true: one secret for all devices is unsafe, say that you want it")
		}
	}
}

func (p *OnetimePolicy) validate(at string, m *mistakes) {
	between(m, at+".lifetime", p.Lifetime, time.Minute, 24*time.Hour)
	if p.Lifetime%time.Minute != 0 {
		m.Add(at+".lifetime", "%s is not whole minutes, which is what the page says", p.Lifetime)
	}
	if p.Bytes < 8 || p.Bytes > 32 {
		m.Add(at+".bytes", "%d is not between 8 and 32", p.Bytes)
	}
	if p.MaxOutstanding < 1 {
		m.Add(at+".max_outstanding", "must be 1 or more")
	}
	if !plainPath(p.AdminPath) {
		m.Add(at+".admin_path", "%q is no path, want one as /certsrv/mscep_admin", p.AdminPath)
	}
	oneOf(m, at+".charset", p.Charset, "utf16le-bom", "utf16le", "utf8")
}

func (p *TokenPolicy) validate(at string, m *mistakes) {
	between(m, at+".lifetime", p.Lifetime, time.Minute, 24*time.Hour)
	if p.Signing != nil {
		p.Signing.validate(at+".signing", m)
	}
	if len(p.Recipients) == 0 {
		m.Add(at+".recipients", "is empty; name the RSA key that challenges are sealed to")
	}
	for i := range p.Recipients {
		p.Recipients[i].validate(fmt.Sprintf("%s.recipients[%d]", at, i), m)
	}
	if p.Signing == nil && len(p.Trusted) == 0 {
		m.Add(at, "trusts nobody; name a signing key, or somebody in trusted")
	}
	uniqueNames(m, at+".trusted", p.Trusted, func(s TrustedSigner) string { return s.Name })
	for i, s := range p.Trusted {
		here := fmt.Sprintf("%s.trusted[%d]", at, i)
		if s.Certificate == "" {
			m.Add(here+".certificate", "is missing; name a PEM file")
		}
		validateNames(m, here, s.Subject, s.SAN)
		if len(s.EKU) > 0 {
			validateEKU(m, here+".eku", s.EKU)
		}
	}
}

func (p *RemotePolicy) validate(at string, m *mistakes) {
	httpsURL(m, at+".url", p.URL)
	(&KeyPair{Certificate: p.Certificate, Key: p.Key}).validate(at, m)
	positive(m, at+".timeout", p.Timeout)
	p.Proxy.validate(at+".proxy", m)
}

// validateNames wants patterns that can be read, and at least one for the
// subject: a party that vouches for no name must be told which it may give.
func validateNames(m *mistakes, at string, subject, san []string) {
	if len(subject) == 0 {
		m.Add(at+".subject", "is missing; say which subjects may be asked for, as [\"CN=*.corp.example\"], or [\"*\"] for any")
	}
	validatePatterns(m, at, subject, san)
}

func validatePatterns(m *mistakes, at string, subject, san []string) {
	for i, s := range subject {
		if _, err := policymodule.ParseNames([]string{s}, nil); err != nil {
			m.Add(fmt.Sprintf("%s.subject[%d]", at, i), "%v", err)
		}
	}
	for i, s := range san {
		if _, err := policymodule.ParseNames(nil, []string{s}); err != nil {
			m.Add(fmt.Sprintf("%s.san[%d]", at, i), "%v", err)
		}
	}
}

func (c *Config) validatePrincipals(m *mistakes) {
	uniqueNames(m, "principals", c.Principals, func(p Principal) string { return p.Name })
	for i, p := range c.Principals {
		at := fmt.Sprintf("principals[%d]", i)
		if p.Name == operator {
			m.Add(at+".name", "%q is whoever uses the control socket; choose another name", p.Name)
		}
		if p.Password == nil && p.Certificate == nil {
			m.Add(at, "cannot sign in; name a password or a certificate")
		}
		if p.Password != nil {
			p.Password.validate(at+".password", m)
		}
		if p.Certificate != nil {
			p.Certificate.validate(at+".certificate", m)
		}
		if len(p.Rights) == 0 {
			m.Add(at+".rights", "is empty; somebody who is known has no right by that alone")
		}
		for j, r := range p.Rights {
			c.validateRight(r, fmt.Sprintf("%s.rights[%d]", at, j), m)
		}
	}
	if len(c.Principals) > 0 && !c.shows(FaceChallenges) {
		m.Add("principals", "no listener shows the face challenges, so nobody could have a challenge made")
	}
}

func (c *Config) validateRight(r Right, at string, m *mistakes) {
	i := slices.IndexFunc(c.Endpoints, func(e Endpoint) bool { return e.Name == r.Endpoint })
	switch {
	case i < 0:
		m.Add(at+".endpoint", "%q is no name in endpoints", r.Endpoint)
	case !c.Endpoints[i].Policy.makesChallenges():
		m.Add(at+".endpoint", "%q makes no challenges; its policy must be onetime, or token with a signing key", r.Endpoint)
	}
	validateNames(m, at, r.Subject, r.SAN)
	if len(r.EKU) > 0 {
		validateEKU(m, at+".eku", r.EKU)
	}
	if r.MaxOutstanding < 0 {
		m.Add(at+".max_outstanding", "must not be negative; 0 is an equal share of the endpoint's")
	}
	if r.PerMinute < 1 {
		m.Add(at+".per_minute", "must be 1 or more")
	}
}

func (c ClientCertificate) validate(at string, m *mistakes) {
	if c.DNSName == "" || strings.ContainsAny(c.DNSName, "* /:") {
		m.Add(at+".dns_name", "%q is no host's name; a certificate for many hosts identifies none", c.DNSName)
	}
	for i, pin := range c.SHA256 {
		if b, err := hex.DecodeString(plainHex(pin)); err != nil || len(b) != 32 {
			m.Add(fmt.Sprintf("%s.sha256[%d]", at, i), "is no SHA-256 in hexadecimal (64 digits)")
		}
	}
}

// plainHex takes the colons and blanks out that tools print between octets.
func plainHex(s string) string { return strings.NewReplacer(":", "", " ", "").Replace(s) }

func (c *Config) validateRegistrationPoint(m *mistakes) {
	list := c.RegistrationPoint.FrontEnds
	const at = "registration_point.front_ends"
	uniqueNames(m, at, list, func(f FrontEnd) string { return f.Name })
	if (len(list) > 0) != c.shows(FaceCRP) {
		m.Add(at, "front ends and a listener with the face crp go together")
	}
	for i, f := range list {
		here := fmt.Sprintf("%s[%d]", at, i)
		f.Certificate.validate(here+".certificate", m)
		if len(f.Tenants) == 0 {
			m.Add(here+".tenants", "is empty; name the tenants that it may ask for")
		}
		for j, name := range f.Tenants {
			if !slices.ContainsFunc(c.Tenants, func(t Tenant) bool { return t.Name == name }) {
				m.Add(fmt.Sprintf("%s.tenants[%d]", here, j), "%q is no name in tenants", name)
			}
		}
		if f.CA != "" && !slices.ContainsFunc(c.CAs, func(a CA) bool { return a.Name == f.CA }) {
			m.Add(here+".ca", "%q is no name in cas", f.CA)
		}
		if f.CA != "" && !f.ReleasesItself {
			m.Add(here+".ca", "is not used: this front end revokes by itself")
		}
	}
}

func (c *Config) shows(face string) bool {
	return slices.ContainsFunc(c.Listeners, func(l Listener) bool { return l.Shows(face) })
}

// validateClients looks at what a listener shows and whom it asks for a
// certificate.
func (l Listener) validateClients(at string, m *mistakes) {
	host, _, _ := net.SplitHostPort(l.Address)
	switch {
	case l.ClientCA != "" && l.TLS.empty() && l.ClientCertificateHeader == "":
		m.Add(at+".client_ca", "needs tls, or client_certificate_header where a proxy ends it")
	case l.ClientCA != "" && (l.Shows(FaceSCEP) || l.Shows(FaceStatus)):
		m.Add(at+".client_ca", "would have devices and monitors asked for a certificate; give scep and status a listener of their own")
	case l.Shows(FaceCRP) && l.ClientCA == "":
		m.Add(at+".client_ca", "is missing; front ends are known by their certificates")
	case l.Shows(FaceCRP) && (l.Shows(FaceSCEP) || l.Shows(FaceStatus)):
		m.Add(at+".faces", "crp needs a listener without scep and status")
	case l.Shows(FaceChallenges) && l.PlainHTTP && !loopback(host):
		m.Add(at+".plain_http", "passwords would travel in clear text; the face challenges needs tls")
	}
}

// plainPath accepts the path of a page.
func plainPath(p string) bool {
	return strings.HasPrefix(p, "/") && len(p) > 1 && !strings.HasSuffix(p, "/") &&
		!strings.ContainsAny(p, "?#{}%\\ ") && !strings.Contains(p, "//") && !strings.Contains(p, "/.")
}

func between(m *mistakes, at string, d, least, most time.Duration) {
	if d < least || d > most {
		m.Add(at, "%s is not between %s and %s", d, least, most)
	}
}
