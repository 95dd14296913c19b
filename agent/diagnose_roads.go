package agent

import (
	"bytes"
	"crypto/x509"
	"slices"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/embedded"
)

// checkRoads says whether the roads of a CA lead to one CA, by their chain
// files: each road is compared with its own at the CA.
func (cfg Config) checkRoads(c CA) []ca.Finding {
	if len(c.Roads) == 0 {
		return nil
	}
	var first *x509.Certificate
	if chain, err := embedded.LoadChain(c.Chain); err == nil {
		first = chain[0]
	} else if c.Chain != "" {
		return []ca.Finding{ca.Found(ca.Failure, ca.CheckConfig, "correct the chain of the CA in the configuration", "%v", err)}
	}
	for _, road := range cfg.CAs {
		if !slices.Contains(c.Roads, road.Name) {
			continue
		}
		chain, err := embedded.LoadChain(road.Chain)
		if err != nil {
			continue // a finding of the road
		}
		if first == nil {
			first = chain[0]
		}
		if !bytes.Equal(first.RawSubject, chain[0].RawSubject) || !bytes.Equal(first.RawSubjectPublicKeyInfo, chain[0].RawSubjectPublicKeyInfo) {
			return []ca.Finding{ca.Found(ca.Failure, ca.CheckChain, "name only roads to one CA in roads, and give them one chain file",
				"road %q leads to %q, and not to %q with the same key: a certificate is sought and revoked at the wrong CA", road.Name, chain[0].Subject, first.Subject)}
		}
	}
	return []ca.Finding{ca.Found(ca.OK, ca.CheckChain, "", "by their chain files all roads lead to one CA")}
}

// checkAbilities says what a CA that endpoints use cannot do by any road.
func (cfg Config) checkAbilities(c CA) []ca.Finding {
	if !slices.ContainsFunc(cfg.Endpoints, func(e Endpoint) bool { return e.CA == c.Name }) {
		return nil
	}
	revokes := cfg.anyRoad(c, func(c CA) bool { return c.Embedded != nil || c.ADCS != nil && c.ADCS.Revoke != "" })
	finds := cfg.anyRoad(c, func(c CA) bool { return c.Embedded != nil || c.Certsrv != nil || c.ADCS != nil && c.ADCS.Find != "" })
	var list []ca.Finding
	if revokes {
		list = append(list, ca.Found(ca.OK, ca.CheckRoadRevoke, "", "a road that revokes is configured"))
	} else {
		list = append(list, ca.Found(ca.Warning, ca.CheckRoadRevoke, "configure an adcs road with revoke: csra, and put it into roads of the CA",
			"no road to this CA revokes: a certificate that a device must not have stays valid"))
	}
	if finds {
		list = append(list, ca.Found(ca.OK, ca.CheckRoadFind, "", "a road that finds lost requests is configured"))
	} else {
		list = append(list, ca.Found(ca.Note, ca.CheckRoadFind, "", "no road to this CA finds out what became of a request whose answer was lost: it may leave a certificate that nobody has"))
	}
	return list
}

// anyRoad asks about a CA, or the roads to it.
func (cfg Config) anyRoad(c CA, can func(CA) bool) bool {
	if len(c.Roads) == 0 {
		return can(c)
	}
	return slices.ContainsFunc(cfg.CAs, func(road CA) bool { return slices.Contains(c.Roads, road.Name) && can(road) })
}
