package agent

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// challengeLife is how long an Intune challenge lives at the least: what is
// withheld longer can no longer be asked for.
const challengeLife = time.Hour

func (c *Config) validateEndpoints(m *mistakes) {
	if len(c.Endpoints) == 0 && len(c.RegistrationPoint.FrontEnds) == 0 {
		m.Add("endpoints", "is empty; without an endpoint no device can enrol")
	}
	uniqueNames(m, "endpoints", c.Endpoints, func(e Endpoint) string { return e.Name })
	paths := map[string]int{}
	for i := range c.Endpoints {
		e := &c.Endpoints[i]
		at := fmt.Sprintf("endpoints[%d]", i)
		e.validate(at, m)
		c.validateReferences(e, at, m)
		// As NDES does, a path that ends in /mscep.dll claims its folder.
		key := strings.TrimSuffix(strings.ToLower(e.Path), "/mscep.dll")
		if first, taken := paths[key]; taken && key != "" {
			m.Add(at+".path", "%q is the path of endpoints[%d] already (case and /mscep.dll do not matter)", e.Path, first)
		} else {
			paths[key] = i
		}
		if e.Policy.Onetime == nil {
			continue
		}
		admin := strings.ToLower(e.Policy.Onetime.AdminPath)
		if first, taken := paths[admin]; taken {
			m.Add(at+".policy.onetime.admin_path", "%q is a path of endpoints[%d] already", e.Policy.Onetime.AdminPath, first)
		} else {
			paths[admin] = i
		}
	}
}

func (e *Endpoint) validate(at string, m *mistakes) {
	if !plainPath(e.Path) {
		m.Add(at+".path", "%q is no path, want one as /certsrv/mscep/mscep.dll or /scep/corp", e.Path)
	}
	e.Policy.validate(at+".policy", m)
	e.RA.validate(at+".ra", m)
	positive(m, at+".answer_within", e.AnswerWithin)
	positive(m, at+".withhold_for", e.WithholdFor)
	positive(m, at+".replay_window", e.ReplayWindow)
	positive(m, at+".pending_for", e.PendingFor)
	if e.Policy.Vouched() && e.WithholdFor > challengeLife {
		m.Add(at+".withhold_for", "%s is longer than the life of a challenge (1h)", e.WithholdFor)
	}
	if e.Policy.Vouched() && e.Renewal.WithoutChallenge {
		m.Add(at+".renewal.without_challenge", "cannot be true here: whether a device may still have a certificate is for Intune to say")
	}
	if e.Renewal.Grace < 0 {
		m.Add(at+".renewal.grace", "must not be negative")
	}
	if e.Policy.Vouched() {
		validatePatterns(m, at+".allow", e.Allow.Subject, e.Allow.SAN)
	} else {
		validateNames(m, at+".allow", e.Allow.Subject, e.Allow.SAN)
	}
	validateEKU(m, at+".allow.eku", e.Allow.EKU)
	if e.Allow.MinRSABits < 2048 {
		m.Add(at+".allow.min_rsa_bits", "%d is weak, want 2048 or more", e.Allow.MinRSABits)
	}
	if e.Allow.MaxRSABits > 8192 || e.Allow.MaxRSABits < e.Allow.MinRSABits {
		m.Add(at+".allow.max_rsa_bits", "%d is not between min_rsa_bits and 8192", e.Allow.MaxRSABits)
	}
	if e.Allow.MaxValidity < 0 {
		m.Add(at+".allow.max_validity", "must not be negative")
	}
	if e.Limits.Concurrent < 0 || e.Limits.Held < 0 {
		m.Add(at+".limits", "must not be negative; 0 is no limit of its own")
	}
	oneOf(m, at+".sid.extension", e.SID.Extension, "refuse", "strip")
	oneOf(m, at+".sid.uri", e.SID.URI, "keep_if_validated", "refuse")
}

func (r RA) validate(at string, m *mistakes) {
	oneOf(m, at+".renew", r.Renew, RenewAuto, RenewOff)
	if r.Templates.Encryption != "" && r.Templates.Signing == "" {
		m.Add(at+".templates.signing", "is missing; name the template for signing too")
	}
	r.Signing.validate(at+".signing", m)
	switch r.Shape {
	case ShapeSplit:
		r.Encryption.validate(at+".encryption", m)
	case ShapeCombined:
		if !r.Encryption.empty() {
			m.Add(at+".encryption", "is not used in the combined shape; remove it")
		}
	default:
		oneOf(m, at+".shape", r.Shape, ShapeSplit, ShapeCombined)
	}
	if !r.Signing.empty() && !r.Encryption.empty() && r.Signing.Key == r.Encryption.Key && r.Shape == ShapeSplit {
		m.Add(at+".encryption.key", "is the signing key; use two keys, or the combined shape")
	}
}

// validateReferences looks up what an endpoint names elsewhere in the tree.
func (c *Config) validateReferences(e *Endpoint, at string, m *mistakes) {
	if p := e.Policy.Intune; p != nil && !slices.ContainsFunc(c.Tenants, func(t Tenant) bool { return t.Name == p.Tenant }) {
		m.Add(at+".policy.intune.tenant", "%q is no name in tenants", p.Tenant)
	}
	for j, name := range e.Renewal.From {
		k := slices.IndexFunc(c.Endpoints, func(other Endpoint) bool { return other.Name == name })
		switch {
		case k < 0:
			m.Add(fmt.Sprintf("%s.renewal.from[%d]", at, j), "%q is no name in endpoints", name)
		case c.Endpoints[k].Policy.Vouched():
			m.Add(fmt.Sprintf("%s.renewal.from[%d]", at, j), "%q is vouched for by Intune, which would not be asked", name)
		}
	}
	if e.AnswerWithin >= c.Limits.WriteTimeout && c.Limits.WriteTimeout > 0 {
		m.Add(at+".answer_within", "%s is not shorter than limits.write_timeout (%s)", e.AnswerWithin, c.Limits.WriteTimeout)
	}
	i := slices.IndexFunc(c.CAs, func(a CA) bool { return a.Name == e.CA })
	if i < 0 {
		m.Add(at+".ca", "%q is no name in cas", e.CA)
		return
	}
	embedded := c.CAs[i].Embedded
	if embedded == nil {
		if e.SID.Extension == "strip" {
			m.Add(at+".sid.extension", "cannot be strip here: a Microsoft CA takes the extension over from the request")
		}
		return
	}
	profiles := embedded.profileNames()
	for _, t := range []struct{ key, name string }{
		{"signature", e.Templates.Signature}, {"encryption", e.Templates.Encryption}, {"general", e.Templates.General},
	} {
		if t.name != "" && !slices.Contains(profiles, t.name) {
			m.Add(at+".templates."+t.key, "%q is no profile of cas[%d], which has %s", t.name, i, strings.Join(profiles, ", "))
			continue
		}
		if eku := embedded.defaultEKU(t.name); len(e.Allow.EKU) > 0 && !slices.ContainsFunc(extKeyUsages(e.Allow.EKU), extKeyUsages([]string{eku})[0].Equal) && (t.name != "" || t.key == "general") {
			m.Add(at+".allow.eku", "lacks %s, which the CA gives where a request asks for none; such certificates would be refused and revoked", eku)
		}
	}
	for _, own := range []KeyPair{e.RA.Signing, e.RA.Encryption} {
		if own.Key != "" && own.Key == embedded.Key {
			m.Add(at+".ra", "uses the CA's key; make a key of its own, or decrypting for strangers endangers the CA")
		}
	}
}

// defaultEKU is what a profile gives where a request asks for no extended key
// usage; "" is the first profile.
func (e *EmbeddedCA) defaultEKU(profile string) string {
	p := DefaultProfile()
	for i, candidate := range e.Profiles {
		if candidate.Name == profile || profile == "" && i == 0 {
			p = candidate
			break
		}
	}
	if len(p.EKU) == 0 || slices.Contains(p.EKU, "clientAuth") {
		return "clientAuth"
	}
	return p.EKU[0]
}

// profileNames lists what an embedded CA can issue.
func (e *EmbeddedCA) profileNames() []string {
	if len(e.Profiles) == 0 {
		return []string{DefaultProfile().Name}
	}
	names := make([]string, len(e.Profiles))
	for i, p := range e.Profiles {
		names[i] = p.Name
	}
	return names
}
