package embedded

import (
	"context"
	"slices"
	"time"

	"github.com/certconnector/certconnector/ca"
)

var _ ca.Diagnoser = Config{}

// Diagnose implements ca.Diagnoser for a CA that is not open, from its key,
// its certificates and its profiles alone: the register belongs to the service,
// beside which this may run. Register and Sealer may be nil.
func (cfg Config) Diagnose(_ context.Context, want ca.Wanted) []ca.Finding {
	const correct = "correct the CA in the configuration, or the files that it names"
	now := time.Now
	if cfg.Clock != nil {
		now = cfg.Clock
	}
	if err := cfg.check(); err != nil {
		return []ca.Finding{ca.Found(ca.Failure, ca.CheckConfig, correct, "%v", err)}
	}
	key, chain, err := cfg.identity()
	if err == nil {
		_, err = checkIdentity(key, chain)
	}
	if err != nil {
		return []ca.Finding{ca.Found(ca.Failure, ca.CheckConfig, correct, "%v", err)}
	}
	profiles, standard, err := readProfiles(cfg.Profiles, true)
	if err != nil {
		return []ca.Finding{ca.Found(ca.Failure, ca.CheckConfig, correct, "%v", err)}
	}
	list := []ca.Finding{
		ca.Found(ca.OK, ca.CheckConfig, "", "key, certificates and profiles fit together"),
		ca.CheckValidity(chain[0], now()),
		ca.Found(ca.Note, ca.CheckCRL, "", "the service makes and publishes the revocation list"),
	}
	for _, w := range want.Templates {
		p := standard
		if w.Name != "" {
			p = profiles[profileKey(w.Name)]
		}
		list = append(list, profileFinding(w, p != nil))
		if p != nil {
			list = append(list, w.Compare(p.facts(w))...)
		}
	}
	return list
}

func profileFinding(w ca.WantedTemplate, is bool) ca.Finding {
	switch {
	case !is:
		return ca.Found(ca.Failure, ca.CheckTemplatePublished, "add the profile to the CA, or correct the template of the endpoint", "endpoint %q names profile %q, which the CA has not", w.Endpoint, w.Name)
	case w.Name == "":
		return ca.Found(ca.OK, ca.CheckTemplateNamed, "", "endpoint %q takes the CA's first profile for %s requests", w.Endpoint, w.Purpose)
	}
	return ca.Found(ca.OK, ca.CheckTemplatePublished, "", "the CA has profile %q", w.Name)
}

// facts are what requests of an endpoint get: of the extended key usages those
// that they may ask for, and those of a request that asks for none.
func (p *profile) facts(w ca.WantedTemplate) ca.TemplateFacts {
	f := ca.TemplateFacts{Enroll: true, SubjectFromRequest: true, MinKeyBits: p.MinRSABits, Purposes: true, KeyUsage: p.KeyUsages}
	for _, oid := range p.ExtKeyUsages {
		if slices.ContainsFunc(w.EKU, oid.Equal) || slices.ContainsFunc(p.DefaultExtKeyUsages, oid.Equal) {
			f.EKU = append(f.EKU, oid)
		}
	}
	return f
}
