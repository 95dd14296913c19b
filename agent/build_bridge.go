package agent

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent/identity"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/adcs"
	"github.com/certconnector/certconnector/ca/certsrv"
	"github.com/certconnector/certconnector/ca/embedded"
	"github.com/certconnector/certconnector/ca/route"
	"github.com/certconnector/certconnector/ca/wstep"
	"github.com/certconnector/certconnector/internal/keys"
	"github.com/certconnector/certconnector/internal/negotiate"
	"github.com/certconnector/certconnector/internal/secret"
)

// buildBridge builds a bridge to a Microsoft CA behind bounds of its own.
func (a *Agent) buildBridge(c CA) (authority, error) {
	chain, err := embedded.LoadChain(c.Chain)
	if err != nil {
		return authority{}, fmt.Errorf("CA %q: chain: %w", c.Name, err)
	}
	var bridge ca.Authority
	switch {
	case c.ADCS != nil:
		bridge, err = a.buildADCS(c, chain)
	case c.Certsrv != nil:
		bridge, err = a.buildCertsrv(c, chain)
	case c.WSTEP != nil:
		bridge, err = a.buildWSTEP(c, chain)
	default:
		err = fmt.Errorf("no kind of CA is configured")
	}
	if err != nil {
		return authority{}, fmt.Errorf("CA %q: %w", c.Name, err)
	}
	return a.bounded(c, chain, []route.Road{{Name: c.Name, CA: bridge}})
}

// OpenBridge builds the bridge to one Microsoft CA of a configuration, with the
// roads that lead there, and nothing else: a command may use it beside the
// service. Close it after use. An embedded CA is the service's alone.
func OpenBridge(cfg Config, name string, log *zap.Logger) (bridge ca.Authority, close func() error, err error) {
	a := &Agent{cfg: cfg, options: Options{Logger: log, Clock: time.Now, Version: "unknown"}, log: log, cas: make(map[string]authority), down: teardown{log: log}, keys: cfg.Keys.Open(log)}
	close = func() error { return a.down.run(cfg.ShutdownGrace) }
	for _, c := range inOrder(cfg.CAs) {
		if c.Embedded != nil {
			continue
		}
		build := a.buildBridge
		if len(c.Roads) > 0 {
			build = a.buildRoads
		}
		if a.cas[c.Name], err = build(c); err != nil {
			return nil, nil, errors.Join(err, close())
		}
	}
	found, ok := a.cas[name]
	if !ok {
		return nil, nil, errors.Join(fmt.Errorf("%q is no Microsoft CA in cas", name), close())
	}
	return found.Authority, close, nil
}

// buildRoads puts several bridges before one CA. They are built before.
func (a *Agent) buildRoads(c CA) (authority, error) {
	var chain []*x509.Certificate
	if c.Chain != "" {
		var err error
		if chain, err = embedded.LoadChain(c.Chain); err != nil {
			return authority{}, fmt.Errorf("CA %q: chain: %w", c.Name, err)
		}
	}
	var roads []route.Road
	for _, name := range c.Roads {
		roads = append(roads, route.Road{Name: name, CA: a.cas[name].Authority})
	}
	return a.bounded(c, chain, roads)
}

func (a *Agent) bounded(c CA, chain []*x509.Certificate, roads []route.Road) (authority, error) {
	r, err := route.New(route.Config{
		Name: c.Name, Roads: roads, Chain: chain, Concurrent: c.Concurrent, Queue: c.Queue,
		Clock: a.options.Clock, Log: a.log.Named("ca"),
	})
	return authority{Authority: r}, err
}

func (a *Agent) buildADCS(c CA, chain []*x509.Certificate) (ca.Authority, error) {
	b := c.ADCS
	cfg := adcs.Config{
		Name: c.Name, Config: b.Config, Revoke: adcs.Road(b.Revoke), Find: adcs.Road(b.Find), Approve: b.Approve,
		SPNEGO: b.SPNEGO, Address: b.Address, EndpointMapperPort: b.EndpointMapperPort, Validity: b.SendValidity,
		Certificates: upToRoot(chain), SubmitDeadline: b.SubmitWithin, Connections: c.Concurrent,
		Clock: a.options.Clock, Log: a.log.Named("adcs").With(zap.String("ca", c.Name)),
	}
	for _, road := range b.Issue {
		cfg.Issue = append(cfg.Issue, adcs.Road(road))
	}
	var err error
	if cfg.Kerberos, err = b.Kerberos.load(); err != nil {
		return nil, err
	}
	if cfg.NTLM, err = b.NTLM.ntlm(); err != nil {
		return nil, err
	}
	cfg.SSPI = b.SSPI.load()
	bridge, err := adcs.New(cfg)
	if err != nil {
		return nil, err
	}
	a.down.push("CA "+c.Name, func(context.Context) error { return bridge.Close() })
	return bridge.Bridge(), nil
}

func (a *Agent) buildCertsrv(c CA, chain []*x509.Certificate) (ca.Authority, error) {
	b := c.Certsrv
	cfg := certsrv.Config{
		Name: c.Name, URL: b.URL, Issuer: chain[0], SendValidity: b.SendValidity, SubmitTimeout: b.SubmitWithin, Connections: c.Concurrent,
		Certificate: b.ClientCertificate.negotiate(a.keys), Now: a.options.Clock, Log: a.log.Named("certsrv").With(zap.String("ca", c.Name)),
	}
	var err error
	if cfg.Roots, err = rootsIfSet(b.CAFile); err != nil {
		return nil, err
	}
	if cfg.Kerberos, err = b.Kerberos.load(); err != nil {
		return nil, err
	}
	if cfg.NTLM, err = b.NTLM.ntlm(); err != nil {
		return nil, err
	}
	cfg.SSPI = b.SSPI.load()
	if user, password, err := b.Basic.load(); err != nil {
		return nil, err
	} else if b.Basic != nil {
		cfg.Basic = &negotiate.Basic{User: user, Password: password}
	}
	if cfg.Dial, err = b.Proxy.dial(); err != nil {
		return nil, err
	}
	bridge, err := certsrv.New(cfg)
	if err != nil {
		return nil, err
	}
	a.down.push("CA "+c.Name, func(context.Context) error { return bridge.Close() })
	return bridge, nil
}

func (a *Agent) buildWSTEP(c CA, chain []*x509.Certificate) (ca.Authority, error) {
	b := c.WSTEP
	cfg := wstep.Config{
		Policy: b.Policy, Enrollment: b.Enrollment, CA: cmp.Or(b.CAName, chain[0].Subject.CommonName), Issuers: upToRoot(chain),
		SendValidity: b.SendValidity, SubmitWithin: b.SubmitWithin, Connections: c.Concurrent,
		Certificate: b.ClientCertificate.negotiate(a.keys), Clock: a.options.Clock, Log: a.log.Named("wstep").With(zap.String("ca", c.Name)),
	}
	var err error
	if cfg.Roots, err = rootsIfSet(b.CAFile); err != nil {
		return nil, err
	}
	if cfg.Kerberos, err = b.Kerberos.load(); err != nil {
		return nil, err
	}
	cfg.SSPI = b.SSPI.load()
	if user, password, err := b.User.load(); err != nil {
		return nil, err
	} else if b.User != nil {
		cfg.User = &wstep.User{Name: user, Password: password}
	}
	if cfg.Dial, err = b.Proxy.dial(); err != nil {
		return nil, err
	}
	bridge, err := wstep.New(cfg)
	if err != nil {
		return nil, err
	}
	a.down.push("CA "+c.Name, func(context.Context) error { return bridge.Close() })
	return bridge, nil
}

// upToRoot leaves the former certificates of the issuing CA out, which stand
// behind the root in a chain file.
func upToRoot(chain []*x509.Certificate) []*x509.Certificate {
	for i, cert := range chain {
		if bytes.Equal(cert.RawIssuer, cert.RawSubject) && cert.CheckSignatureFrom(cert) == nil {
			return chain[:i+1]
		}
	}
	return chain
}

func rootsIfSet(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	return roots(path)
}

func (k *Kerberos) load() (*negotiate.Kerberos, error) {
	if k == nil {
		return nil, nil
	}
	out := &negotiate.Kerberos{Principal: k.Principal, Keytab: k.Keytab, CCache: k.CCache, Config: k.Krb5Conf, SPN: k.SPN}
	if k.Password != nil {
		var err error
		if out.Password, err = k.Password.Read(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (s *SSPI) load() *negotiate.SSPI {
	if s == nil {
		return nil
	}
	return &negotiate.SSPI{SPN: s.SPN, NTLM: s.NTLM}
}

func (p *Password) ntlm() (*negotiate.NTLM, error) {
	user, password, err := p.load()
	if p == nil || err != nil {
		return nil, err
	}
	return &negotiate.NTLM{User: user, Password: password}, nil
}

func (p *Password) load() (user string, password secret.Text, err error) {
	if p == nil {
		return "", "", nil
	}
	password, err = p.Password.Read()
	return p.User, password, err
}

func (p *KeyPair) negotiate(from *keys.Keys) *negotiate.Certificate {
	if p.empty() {
		return nil
	}
	return &negotiate.Certificate{File: p.Certificate, Key: p.Key, Load: func() (*tls.Certificate, error) {
		return identity.Load(from, identity.Files(*p))
	}}
}
