package agent

import (
	"cmp"
	"encoding/asn1"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/certconnector/certconnector/agent/identity"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/embedded"
	"github.com/certconnector/certconnector/internal/keys"
	"github.com/certconnector/certconnector/internal/secret"
)

// authority is a CA as built: sameStore says that its register is in the
// journal's database.
type authority struct {
	ca.Authority
	sameStore bool
}

// buildCA is one of the two places that know concrete bridges and modules.
func (a *Agent) buildCA(c CA, sealer *secret.Sealer) (authority, error) {
	switch {
	case c.Embedded != nil:
		issuer, err := buildEmbedded(c, a.journal, a.keys, sealer, a.options.Clock)
		return authority{Authority: issuer, sameStore: true}, err
	case len(c.Roads) > 0:
		return a.buildRoads(c)
	}
	return a.buildBridge(c)
}

// inOrder returns the CAs so that roads come before what they lead to.
func inOrder(cas []CA) []CA {
	ordered := slices.Clone(cas)
	slices.SortStableFunc(ordered, func(x, y CA) int { return cmp.Compare(len(x.Roads), len(y.Roads)) })
	return ordered
}

func buildEmbedded(c CA, register ca.Register, from *keys.Keys, sealer *secret.Sealer, clock func() time.Time) (*embedded.CA, error) {
	cfg, err := embeddedConfig(c, from, clock)
	if err != nil {
		return nil, err
	}
	cfg.Register, cfg.Sealer = register, sealer
	return embedded.Open(cfg)
}

// embeddedConfig reads what the configuration names of an embedded CA. The
// register and the sealer are still to come.
func embeddedConfig(c CA, from *keys.Keys, clock func() time.Time) (embedded.Config, error) {
	key, err := from.Load(c.Embedded.Key)
	if err != nil {
		return embedded.Config{}, fmt.Errorf("CA %q: %w", c.Name, err)
	}
	chain, err := identity.LoadChain(c.Embedded.Certificate)
	if err != nil {
		return embedded.Config{}, fmt.Errorf("CA %q: %w", c.Name, err)
	}
	cfg := embedded.Config{
		Name: c.Name, Key: key, Chain: chain, Clock: clock, CRLValidity: c.Embedded.CRLLifetime,
	}
	for _, u := range []struct {
		address string
		into    *[]string
	}{
		{c.Embedded.CRLURL, &cfg.CRLURLs}, {c.Embedded.DeltaCRLURL, &cfg.DeltaCRLURLs},
		{c.Embedded.OCSPURL, &cfg.OCSPURLs}, {c.Embedded.IssuerURL, &cfg.IssuerURLs},
	} {
		if u.address != "" {
			*u.into = []string{u.address}
		}
	}
	cfg.DeltaCRLValidity = c.Embedded.DeltaCRLLifetime
	profiles := c.Embedded.Profiles
	if len(profiles) == 0 {
		profiles = []Profile{DefaultProfile()}
	}
	for _, p := range profiles {
		cfg.Profiles = append(cfg.Profiles, p.embedded(c.Embedded.Backdate))
	}
	return cfg, nil
}

func (p Profile) embedded(backdate time.Duration) embedded.Profile {
	approval := embedded.Auto
	if p.Approval {
		approval = embedded.Manual
	}
	if backdate == 0 {
		backdate = -1 // none was chosen; the package's 0 is its default
	}
	return embedded.Profile{
		Name: p.Name, ExtKeyUsages: extKeyUsages(p.EKU), DefaultValidity: p.Validity, MaxValidity: p.Validity,
		BackDate: backdate, Approval: approval,
	}
}

// ekuIDs are what the names in ekuNames stand for.
var ekuIDs = map[string]asn1.ObjectIdentifier{
	"clientAuth":      {1, 3, 6, 1, 5, 5, 7, 3, 2},
	"serverAuth":      {1, 3, 6, 1, 5, 5, 7, 3, 1},
	"emailProtection": {1, 3, 6, 1, 5, 5, 7, 3, 4},
	"ipsecIKE":        {1, 3, 6, 1, 5, 5, 7, 3, 17},
}

// extKeyUsages turns validated names and dotted numbers into identifiers.
func extKeyUsages(names []string) []asn1.ObjectIdentifier {
	var oids []asn1.ObjectIdentifier
	for _, name := range names {
		oid, ok := ekuIDs[name]
		if !ok {
			for part := range strings.SplitSeq(name, ".") {
				n, _ := strconv.Atoi(part) // Validate saw to it
				oid = append(oid, n)
			}
		}
		oids = append(oids, oid)
	}
	return oids
}
