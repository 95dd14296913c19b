package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/certconnector/certconnector/agent/enroll"
	"github.com/certconnector/certconnector/agent/identity"
	"github.com/certconnector/certconnector/internal/keys"
	"github.com/certconnector/certconnector/policymodule"
	"github.com/certconnector/certconnector/scep"
	"github.com/certconnector/certconnector/scep/scephttp"
)

// buildEndpoint puts an endpoint's parts together: who vouches, who issues,
// and the keys that speak to devices.
func (a *Agent) buildEndpoint(ctx context.Context, e Endpoint, module policymodule.Module, issuer authority) (scephttp.Endpoint, error) {
	algorithms := scep.Algorithms{LegacySHA1: e.Algorithms.LegacySHA1, Legacy3DES: e.Algorithms.Legacy3DES}
	ra, err := a.buildRA(ctx, e)
	if err != nil {
		return scephttp.Endpoint{}, err
	}
	rules, err := e.rules()
	if err != nil {
		return scephttp.Endpoint{}, fmt.Errorf("endpoint %q: %w", e.Name, err)
	}
	enroller, err := a.registration.Add(enroll.EndpointConfig{
		Name: e.Name, Tenant: e.tenant(), Module: module, ModuleKind: e.Policy.kind(), CA: a.bridges[e.CA], CAName: e.CA,
		Templates: e.Templates.purposes(), Rules: rules,
		AnswerWithin: e.AnswerWithin, WithholdFor: e.WithholdFor, ReplayWindow: e.ReplayWindow, ParkedFor: e.PendingFor,
		SameStore: issuer.sameStore,
	})
	if err != nil {
		return scephttp.Endpoint{}, err
	}
	bare, admin := scephttp.Page, ""
	if e.Policy.Vouched() {
		bare = scephttp.Forbidden // the documented sign of health with Intune's policy module
	}
	if e.Policy.Onetime != nil {
		admin = e.Policy.Onetime.AdminPath
	}
	return scephttp.Endpoint{
		Name: e.Name, Path: e.Path, Enroller: enroller, RA: ra.Live, Algorithms: algorithms,
		Ready: func() error { return errors.Join(ra.Expired(), a.ready(e, module)) },
		Clock: a.options.Clock,

		Concurrent: e.Limits.Concurrent, Held: e.Limits.Held,
		BareGET: bare, AdminPath: admin, NDESCompatible: strings.HasPrefix(strings.ToLower(e.Path), "/certsrv/mscep"),
	}, nil
}

// ready says why an endpoint cannot enrol at present, as far as is known
// without asking anybody over the network.
func (a *Agent) ready(e Endpoint, module policymodule.Module) error {
	if err := a.journal.Err(); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if _, err := a.issuer(e.CA); err != nil {
		return err
	}
	if m, ok := module.(interface{ Ready() error }); ok {
		return m.Ready()
	}
	return nil
}

// purposes fills the templates that were not named with the general one.
func (t Templates) purposes() enroll.Templates {
	out := enroll.Templates{Signature: t.Signature, Encryption: t.Encryption, General: t.General}
	if out.Signature == "" {
		out.Signature = out.General
	}
	if out.Encryption == "" {
		out.Encryption = out.General
	}
	return out
}

func (e Endpoint) rules() (enroll.Rules, error) {
	allowed, err := e.allowed()
	return enroll.Rules{
		MinRSABits: e.Allow.MinRSABits, MaxRSABits: e.Allow.MaxRSABits, MaxValidity: e.Allow.MaxValidity, Names: allowed,
		LegacySHA1: e.Algorithms.LegacySHA1, ExtKeyUsages: extKeyUsages(e.Allow.EKU),
		StripSID: e.SID.Extension == "strip", RefuseSIDURI: e.SID.URI == "refuse",
		RenewalWithoutChallenge: e.Renewal.WithoutChallenge, RenewalNewKey: !e.Renewal.AllowSameKey, RenewalGrace: e.Renewal.Grace,
		RenewalFrom: e.Renewal.From,
	}, err
}

func loadPair(from *keys.Keys, p KeyPair) (scep.KeyPair, error) {
	certs, err := identity.LoadChain(p.Certificate)
	if err != nil {
		return scep.KeyPair{}, err
	}
	key, err := from.Load(p.Key)
	if err != nil {
		return scep.KeyPair{}, err
	}
	return scep.KeyPair{Certificate: certs[0], Key: key}, nil
}
