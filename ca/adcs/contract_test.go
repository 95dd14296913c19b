package adcs

import (
	"context"
	"crypto/x509"
	"slices"
	"testing"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/adcstest"
	"github.com/certconnector/certconnector/ca/catest"
)

// variant is a road with its configuration and what it can do.
type variant struct {
	cfg       Config
	abilities []catest.Ability
	kdc       *adcstest.KDC
}

var everything = []catest.Ability{catest.CanRevoke, catest.CanCollect, catest.CanFind, catest.CanCheck, catest.CanPublish}

func (v variant) harness() catest.Harness {
	return catest.Harness{
		Abilities: v.abilities, KeepsValidity: v.cfg.Validity,
		New: func(t *testing.T) *catest.Bridge {
			l := newLab(t, v.kdc, adcstest.Options{EndDateFlag: v.cfg.Validity, PublishOnRevoke: true})
			return v.bridge(t, l)
		},
	}
}

func (v variant) bridge(t *testing.T, l *lab) *catest.Bridge {
	if !slices.Contains(v.abilities, catest.CanPublish) {
		v.cfg.Certificates = []*x509.Certificate{l.ca.Certificate(), l.ca.Root()}
	}
	c := l.connect(t, "svc", v.cfg)
	again := func(t *testing.T) *catest.Bridge {
		if err := l.ca.Restart(); err != nil {
			t.Fatal(err)
		}
		return v.bridge(t, l)
	}
	return &catest.Bridge{
		Authority: c.Bridge(),
		Templates: catest.Templates{Issue: issuing, Park: parking, Deny: forbidden, Unknown: "No Such Template"},
		Restart:   again,
		Approve:   func(_ context.Context, id string) error { return l.approve(id) },
		Deny:      func(_ context.Context, id string) error { return l.deny(id) },
		Lose: func(t *testing.T, req ca.Request) *catest.Bridge {
			l.ca.Fail(adcstest.DropAfterIssue, 1)
			if _, err := c.Issue(t.Context(), req); err == nil {
				t.Fatal("the answer was not lost")
			}
			return again(t)
		},
	}
}

func TestContractDCOMWithNTLM(t *testing.T) {
	catest.Run(t, variant{cfg: Config{Revoke: CSRA, Find: CSRA, Validity: true}, abilities: everything}.harness())
}

func TestContractDCOMWithKerberos(t *testing.T) {
	catest.Run(t, variant{cfg: Config{Revoke: CSRA, Find: CSRA}, abilities: everything, kdc: startKDC(t)}.harness())
}

func TestContractICPR(t *testing.T) {
	catest.Run(t, variant{cfg: Config{Issue: []Road{ICPR}}, abilities: []catest.Ability{catest.CanCollect}}.harness())
}

func TestContractICPRWithKerberosAndCSRA(t *testing.T) {
	catest.Run(t, variant{cfg: Config{Issue: []Road{ICPR, DCOM}, Revoke: CSRA, Find: CSRA}, abilities: everything, kdc: startKDC(t)}.harness())
}
