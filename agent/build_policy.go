package agent

import (
	"cmp"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent/identity"
	"github.com/certconnector/certconnector/agent/identity/entra"
	"github.com/certconnector/certconnector/ca/embedded"
	"github.com/certconnector/certconnector/crp"
	"github.com/certconnector/certconnector/crp/crpclient"
	"github.com/certconnector/certconnector/internal/keys"
	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/intune"
	"github.com/certconnector/certconnector/policymodule"
	"github.com/certconnector/certconnector/policymodule/onetime"
	"github.com/certconnector/certconnector/policymodule/static"
	"github.com/certconnector/certconnector/policymodule/token"
)

// buildModule is one of the two places that know concrete bridges and modules.
func (a *Agent) buildModule(e Endpoint, points map[string]*crp.Point, sealer *secret.Sealer) (policymodule.Module, error) {
	log := a.log.With(zap.String("endpoint", e.Name))
	var m policymodule.Module
	var err error
	switch p := e.Policy; {
	case p.Intune != nil:
		m = points[p.Intune.Tenant]
	case p.RegistrationPoint != nil:
		m, err = a.buildRemote(p.RegistrationPoint, sealer, log)
	case p.Onetime != nil:
		m, err = onetime.New(onetime.Config{
			Endpoint: e.Name, Ledger: a.journal, Sealer: sealer,
			Rights:   shared(rightsAt(e.Name, a.principals), p.Onetime.MaxOutstanding),
			Lifetime: p.Onetime.Lifetime, Bytes: p.Onetime.Bytes, MaxOutstanding: p.Onetime.MaxOutstanding,
			AllowRenewals: e.Renewal.WithoutChallenge, Clock: a.options.Clock, Log: a.log.Named("onetime"),
		})
	case p.Token != nil:
		m, err = a.buildToken(e, sealer)
	case p.Static != nil:
		m, err = buildStatic(e, log)
	default:
		err = errors.New("no policy is configured")
	}
	if err != nil {
		return nil, fmt.Errorf("endpoint %q: %w", e.Name, err)
	}
	if c, ok := m.(policymodule.Challenger); ok && e.Policy.makesChallenges() {
		a.challengers[e.Name] = c
	}
	return m, nil
}

func buildStatic(e Endpoint, log *zap.Logger) (policymodule.Module, error) {
	challenge, err := e.Policy.Static.Challenge.Read()
	if err != nil {
		return nil, fmt.Errorf("static challenge: %w", err)
	}
	return static.New(static.Config{
		Challenge: challenge, AllowStaticChallenge: e.Policy.Static.AllowStaticChallenge,
		RefuseRenewals: !e.Renewal.WithoutChallenge, Log: log.Named("static"),
	})
}

// buildRemote asks the registration point of another certconnector.
func (a *Agent) buildRemote(p *RemotePolicy, sealer *secret.Sealer, log *zap.Logger) (policymodule.Module, error) {
	pair, err := a.watch("registration point "+p.URL, identity.KindCRPClient, KeyPair{Certificate: p.Certificate, Key: p.Key})
	if err != nil {
		return nil, err
	}
	cfg := crpclient.Config{
		URL: p.URL, Tenant: p.Tenant, Sealer: sealer, Timeout: p.Timeout, UserAgent: "certconnector/" + a.options.Version,
		Certificate: pair.Certificate,
		Clock:       a.options.Clock, Log: log.Named("registration_point"),
	}
	if cfg.Dial, err = p.Proxy.dial(); err != nil {
		return nil, err
	}
	if p.CAFile != "" {
		if cfg.RootCAs, err = roots(p.CAFile); err != nil {
			return nil, err
		}
	}
	client, err := crpclient.New(cfg)
	if err != nil {
		return nil, err
	}
	pair.OnChange(client.Close) // of idle connections: the next question is asked with the new certificate
	a.down.push("registration point client", func(context.Context) error { client.Close(); return nil })
	a.more = append(a.more, task{"registration point " + p.URL, func(ctx context.Context) error {
		if err := client.Check(ctx); err != nil && ctx.Err() == nil {
			log.Warn("the registration point does not know us, or cannot be reached; devices are told to come again", zap.Error(err))
		}
		<-ctx.Done()
		return nil
	}})
	return client, nil
}

// signerHere is the party that signs the challenges made here.
const signerHere = "here"

// buildToken collects whose challenges an endpoint believes. What is signed
// here may say what the endpoint allows; principals are bound before.
func (a *Agent) buildToken(e Endpoint, sealer *secret.Sealer) (policymodule.Module, error) {
	p := e.Policy.Token
	cfg := token.Config{
		Endpoint: e.Name, Sealer: sealer, MaxLifetime: p.Lifetime, Rights: rightsAt(e.Name, a.principals),
		AllowRenewals: e.Renewal.WithoutChallenge, Clock: a.options.Clock, Log: a.log.Named("token"),
	}
	for _, r := range p.Recipients {
		pair, err := loadPair(a.keys, r)
		if err != nil {
			return nil, err
		}
		decrypter, ok := pair.Key.(crypto.Decrypter)
		if !ok {
			return nil, fmt.Errorf("key %q cannot decrypt; challenges are sealed to an RSA key", keys.Shown(r.Key))
		}
		cfg.Recipients = append(cfg.Recipients, token.Recipient{Certificate: pair.Certificate, Key: decrypter})
	}
	if p.Signing != nil {
		pair, err := loadPair(a.keys, *p.Signing)
		if err != nil {
			return nil, err
		}
		n, err := names(e.Allow.Subject, e.Allow.SAN)
		if err != nil {
			return nil, err
		}
		if err := a.note("endpoint "+e.Name, identity.KindTokenSigning, *p.Signing); err != nil {
			return nil, err
		}
		cfg.Signers = append(cfg.Signers, token.Signer{
			Name: signerHere, Certificate: pair.Certificate, Mint: pair.Key,
			Rights: policymodule.Rights{Names: n},
		})
	}
	for _, s := range p.Trusted {
		certs, err := embedded.LoadChain(s.Certificate)
		if err != nil {
			return nil, err
		}
		n, err := names(s.Subject, s.SAN)
		if err != nil {
			return nil, err
		}
		for _, cert := range certs { // two while one replaces the other
			cfg.Signers = append(cfg.Signers, token.Signer{
				Name: s.Name, Certificate: cert, Rights: policymodule.Rights{Names: n, ExtKeyUsages: extKeyUsages(s.EKU)},
			})
		}
	}
	return token.New(cfg)
}

// tenant returns the name of the tenant that vouches at an endpoint, or "".
func (e Endpoint) tenant() string {
	switch {
	case e.Policy.Intune != nil:
		return e.Policy.Intune.Tenant
	case e.Policy.RegistrationPoint != nil:
		return cmp.Or(e.Policy.RegistrationPoint.Tenant, "registration_point")
	}
	return ""
}

// buildTenant builds a tenant's client and its registration point.
func (a *Agent) buildTenant(t Tenant, sealer *secret.Sealer, clock func() time.Time) (*crp.Point, error) {
	var store *entra.Store
	if m := t.Credential.Managed; m != nil {
		var err error
		if store, err = m.open(t.Name, a.keys, keys.Place(a.cfg.Keys.New), a.options, a.log.Named("entra"), a.audit); err != nil {
			return nil, err
		}
		if len(store.Certificates()) == 0 {
			return nil, fmt.Errorf("tenant %q: there is no certificate for Entra ID yet; run \"certconnector entra create\" and upload what it makes", t.Name)
		}
	}
	cfg, err := a.intuneConfig(t, store)
	if err != nil {
		return nil, err
	}
	observed := cfg // what tries a certificate that Entra ID may not know yet is not observed
	observed.Observe = a.meter.observeCloud(t.Name)
	client, err := intune.New(observed)
	if err != nil {
		return nil, fmt.Errorf("tenant %q: %w", t.Name, err)
	}
	a.tenants[t.Name] = client
	a.down.push("tenant "+t.Name, func(context.Context) error { client.Close(); return nil })
	if store != nil {
		a.buildEntra(t, store, cfg, client)
	} else if err := a.noteCredential(t); err != nil {
		return nil, fmt.Errorf("tenant %q: %w", t.Name, err)
	}
	return crp.New(crp.Config{Tenant: t.Name, Cloud: client, Sealer: sealer, Clock: clock, Log: cfg.Log})
}

// intuneConfig is how a tenant is reached. store is its managed certificate,
// nil where it signs in with something else.
func (a *Agent) intuneConfig(t Tenant, store *entra.Store) (cfg intune.Config, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("tenant %q: %w", t.Name, err)
		}
	}()
	cfg = intune.Config{
		TenantID: t.TenantID, ClientID: t.ClientID, Provider: "certconnector/" + a.options.Version,
		Cloud: intune.Cloud(t.Cloud),
		Endpoints: intune.Endpoints{
			Authority: t.URLs.Authority, Graph: t.URLs.Graph, Resource: t.URLs.Resource, ServiceHosts: t.URLs.ServiceHosts,
			RevocationService: t.API.RevocationService, RevocationVersion: t.API.RevocationVersion,
			DownloadAction: t.API.DownloadAction, UploadAction: t.API.UploadAction,
		},
		Timeouts: intune.Timeouts{
			Token: t.Timeouts.Token, Discovery: t.Timeouts.Discovery,
			Validate: t.Timeouts.Service, Notify: t.Timeouts.Service, Total: t.Timeouts.Total,
			Revocation: t.Timeouts.Revocation, Graph: t.Timeouts.Graph,
		},
		Clock: a.options.Clock, Log: a.log.Named("intune").With(zap.String("tenant", t.Name)),
	}
	if t.Revocation != nil && t.Revocation.Codes == "number" {
		cfg.RevocationCodes = intune.CodeNumbers
	}
	if store != nil {
		cfg.Credential.Certificates = certificates(store)
	} else if cfg.Credential, err = t.Credential.load(a.keys); err != nil {
		return cfg, err
	}
	if cfg.Proxy, err = t.Proxy.load(); err != nil {
		return cfg, err
	}
	cfg.RootCAs, err = extraRoots(t.CAFile)
	return cfg, err
}

// noteCredential puts what a tenant signs in with into the inventory.
func (a *Agent) noteCredential(t Tenant) error {
	name, c := "tenant "+t.Name, t.Credential
	switch {
	case c.Secret != nil:
		a.keeper.Add(identity.Note(identity.Secret(name, identity.KindEntraSecret, c.Secret.place(), time.Time{}), a.options.Clock))
	case c.TokenFile != "":
		a.keeper.Add(identity.Note(identity.Secret(name, identity.KindEntraSecret, c.TokenFile, time.Time{}), a.options.Clock))
	default:
		return a.note(name, identity.KindEntraClient, KeyPair{Certificate: c.Certificate, Key: c.Key})
	}
	return nil
}

func (c Credential) load(from *keys.Keys) (intune.Credential, error) {
	switch {
	case c.Secret != nil:
		text, err := c.Secret.Read()
		return intune.Credential{Secret: text}, err
	case c.TokenFile != "":
		return intune.Credential{TokenFile: c.TokenFile}, secret.CheckPrivate(c.TokenFile)
	}
	pair, err := loadPair(from, KeyPair{Certificate: c.Certificate, Key: c.Key})
	if err != nil {
		return intune.Credential{}, err
	}
	return intune.Credential{Certificates: intune.Fixed(intune.Certificate{Certificate: pair.Certificate, Signer: pair.Key})}, nil
}

// roots reads the only certificates that a neighbour's may chain to.
func roots(path string) (*x509.CertPool, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading roots: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("%q holds no certificate in PEM form", path)
	}
	return pool, nil
}

// extraRoots adds a file's certificates to the system's roots; nil means the
// system's alone.
func extraRoots(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading ca_file: %w", err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("ca_file %q holds no certificate in PEM form", path)
	}
	return roots, nil
}
