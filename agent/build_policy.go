package agent

import (
	"crypto/x509"
	"fmt"
	"os"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/ca/embedded"
	"github.com/certconnector/certconnector/crp"
	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/intune"
	"github.com/certconnector/certconnector/policymodule"
	"github.com/certconnector/certconnector/policymodule/static"
)

// buildModule is one of the two places that know concrete bridges and modules.
func (a *Agent) buildModule(e Endpoint, points map[string]*crp.Point) (policymodule.Module, error) {
	switch {
	case e.Policy.Intune != nil:
		return points[e.Policy.Intune.Tenant], nil
	case e.Policy.Static != nil:
		challenge, err := e.Policy.Static.Challenge.Read()
		if err != nil {
			return nil, fmt.Errorf("endpoint %q: static challenge: %w", e.Name, err)
		}
		m, err := static.New(static.Config{
			Challenge: challenge, AllowStaticChallenge: e.Policy.Static.AllowStaticChallenge,
			RefuseRenewals: !e.Renewal.WithoutChallenge, Log: a.log.Named("static").With(zap.String("endpoint", e.Name)),
		})
		if err != nil {
			return nil, fmt.Errorf("endpoint %q: %w", e.Name, err)
		}
		return m, nil
	}
	return nil, fmt.Errorf("endpoint %q has no policy", e.Name)
}

// tenant returns the name of the tenant that vouches at an endpoint, or "".
func (e Endpoint) tenant() string {
	if e.Policy.Intune == nil {
		return ""
	}
	return e.Policy.Intune.Tenant
}

// buildTenant builds a tenant's client and its registration point.
func (a *Agent) buildTenant(t Tenant, sealer *secret.Sealer, clock func() time.Time) (*crp.Point, error) {
	cfg := intune.Config{
		TenantID: t.TenantID, ClientID: t.ClientID, Provider: "certconnector/" + a.options.Version,
		Cloud: intune.Cloud(t.Cloud),
		Endpoints: intune.Endpoints{
			Authority: t.URLs.Authority, Graph: t.URLs.Graph, Resource: t.URLs.Resource, ServiceHosts: t.URLs.ServiceHosts,
		},
		Timeouts: intune.Timeouts{
			Token: t.Timeouts.Token, Discovery: t.Timeouts.Discovery,
			Validate: t.Timeouts.Service, Notify: t.Timeouts.Service, Total: t.Timeouts.Total,
		},
		Clock: clock, Log: a.log.Named("intune").With(zap.String("tenant", t.Name)),
	}
	var err error
	if cfg.Credential, err = t.Credential.load(); err != nil {
		return nil, fmt.Errorf("tenant %q: %w", t.Name, err)
	}
	if cfg.Proxy, err = t.Proxy.load(); err != nil {
		return nil, fmt.Errorf("tenant %q: %w", t.Name, err)
	}
	if cfg.RootCAs, err = extraRoots(t.CAFile); err != nil {
		return nil, fmt.Errorf("tenant %q: %w", t.Name, err)
	}
	client, err := intune.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("tenant %q: %w", t.Name, err)
	}
	a.tenants[t.Name] = client
	return crp.New(crp.Config{Tenant: t.Name, Cloud: client, Sealer: sealer, Clock: clock, Log: cfg.Log})
}

func (c Credential) load() (intune.Credential, error) {
	if c.Secret != nil {
		text, err := c.Secret.Read()
		return intune.Credential{Secret: text}, err
	}
	certs, err := embedded.LoadChain(c.Certificate)
	if err != nil {
		return intune.Credential{}, err
	}
	key, err := embedded.LoadKey(c.Key)
	if err != nil {
		return intune.Credential{}, err
	}
	return intune.Credential{Certificates: intune.Fixed(intune.Certificate{Certificate: certs[0], Signer: key})}, nil
}

func (p *Proxy) load() (intune.Proxy, error) {
	if p == nil {
		return intune.Proxy{}, nil
	}
	out := intune.Proxy{URL: p.URL, User: p.User}
	if p.Password == nil {
		return out, nil
	}
	var err error
	out.Password, err = p.Password.Read()
	return out, err
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
