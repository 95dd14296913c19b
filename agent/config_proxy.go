package agent

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/textproto"
	"net/url"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/internal/forwarded"
	"github.com/certconnector/certconnector/internal/proxy"
)

// Proxy is an HTTP proxy towards a neighbour. It is asked for a tunnel by
// CONNECT.
type Proxy struct {
	// Its address, as http://proxy.corp.example:8080, or https:// to speak TLS with
	// the proxy, so that nobody on the way to it reads the password. No user or
	// password here.
	URL string `yaml:"url"`
	// User name for Basic authentication. Default none.
	User string `yaml:"user"`
	// The password of that user.
	Password *SecretRef `yaml:"password"`
	// PEM file with the roots that the certificate of an https proxy may chain
	// to. Default empty: the system's.
	CAFile string `yaml:"ca_file" path:"true"`
	// Hosts that are reached directly, as in NO_PROXY: corp.example with all names
	// below it, .corp.example for those below it only, addresses and networks as
	// 10.0.0.0/8, each with or without :port. Default: NO_PROXY of the environment.
	NoProxy []string `yaml:"no_proxy"`
}

func (p *Proxy) validate(at string, m *mistakes) {
	if p == nil {
		return
	}
	u, err := url.Parse(p.URL)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https":
		m.Add(at+".url", "is no address, want one as http://proxy.corp.example:8080")
	case u.User != nil:
		m.Add(at+".url", "holds a user; use the keys user and password")
	case (proxy.Config{URL: p.URL}).Check() != nil:
		m.Add(at+".url", "%v", (proxy.Config{URL: p.URL}).Check())
	case p.CAFile != "" && u.Scheme == "http":
		m.Add(at+".ca_file", "is for a proxy at https://; roots of a proxy that opens TLS belong into ca_file of the neighbour")
	}
	for i, entry := range p.NoProxy {
		if err := proxy.CheckNoProxy(entry); err != nil {
			m.Add(fmt.Sprintf("%s.no_proxy[%d]", at, i), "%v", err)
		}
	}
	if (p.User == "") != (p.Password == nil) {
		m.Add(at+".password", "user and password go together")
	} else if p.Password != nil {
		p.Password.validate(at+".password", m)
	}
	if strings.Contains(p.User, ":") {
		m.Add(at+".user", "has a colon, which Basic authentication cannot send")
	}
}

// checkProxies reads what proxies name, wherever there is one.
func (c *Config) checkProxies(m *mistakes) {
	for i, t := range c.Tenants {
		t.Proxy.check(fmt.Sprintf("tenants[%d].proxy", i), m)
	}
	for i, a := range c.CAs {
		if a.Certsrv != nil {
			a.Certsrv.Proxy.check(fmt.Sprintf("cas[%d].certsrv.proxy", i), m)
		}
		if a.WSTEP != nil {
			a.WSTEP.Proxy.check(fmt.Sprintf("cas[%d].wstep.proxy", i), m)
		}
	}
	for i, e := range c.Endpoints {
		if p := e.Policy.RegistrationPoint; p != nil {
			p.Proxy.check(fmt.Sprintf("endpoints[%d].policy.registration_point.proxy", i), m)
		}
	}
	for i, s := range c.Jobs.Sources {
		s.Queue.Proxy.check(fmt.Sprintf("jobs.sources[%d].queue.proxy", i), m)
	}
}

// check reads what a proxy names.
func (p *Proxy) check(at string, m *mistakes) {
	if p == nil {
		return
	}
	if p.Password != nil {
		p.Password.check(at+".password", m)
	}
	checkRootsIfSet(p.CAFile, at+".ca_file", m)
}

// load reads the password; of nil it is no proxy.
func (p *Proxy) load() (out proxy.Config, err error) {
	if p == nil {
		return out, nil
	}
	out = proxy.Config{URL: p.URL, User: p.User, NoProxy: p.NoProxy}
	if len(out.NoProxy) == 0 {
		out.NoProxy = proxy.EnvironmentNoProxy()
	}
	if p.CAFile != "" {
		if out.RootCAs, err = roots(p.CAFile); err != nil {
			return out, fmt.Errorf("proxy.ca_file: %w", err)
		}
	}
	if p.Password != nil {
		if out.Password, err = p.Password.Read(); err != nil {
			return out, fmt.Errorf("proxy.password: %w", err)
		}
	}
	return out, nil
}

// dial is how a neighbour behind the proxy is connected to; nil, of nil:
// directly.
func (p *Proxy) dial() (proxy.Dial, error) {
	if p == nil {
		return nil, nil
	}
	cfg, err := p.load()
	return cfg.Through(nil), err
}

// validateProxies looks at whom a listener believes what about others.
func (l Listener) validateProxies(at string, m *mistakes) {
	for i, text := range l.TrustedProxies {
		here := fmt.Sprintf("%s.trusted_proxies[%d]", at, i)
		if list, err := forwarded.ParseNetworks([]string{text}); err != nil {
			m.Add(here, "%v", err)
		} else if l.ClientCertificateHeader != "" && !list[0].IsSingleIP() {
			m.Add(here, "%q is a network, of which every host could pass for any client; with client_certificate_header name the proxy's own address", text)
		}
	}
	if l.ForwardedHeader != "" {
		oneOf(m, at+".forwarded_header", l.ForwardedHeader, forwarded.XForwardedFor, forwarded.Forwarded)
		if len(l.TrustedProxies) == 0 {
			m.Add(at+".forwarded_header", "needs trusted_proxies: from anybody else the header says what he likes")
		}
	}
	if l.ClientCertificateHeader == "" {
		return
	}
	host, _, _ := net.SplitHostPort(l.Address)
	switch at += ".client_certificate_header"; {
	case !headerName(l.ClientCertificateHeader):
		m.Add(at, "%q is no name for it, want one of its own as X-SSL-Client-Cert", l.ClientCertificateHeader)
	case len(l.TrustedProxies) == 0:
		m.Add(at, "needs trusted_proxies: from anybody else the header is forged")
	case l.ClientCA == "":
		m.Add(at, "needs client_ca, the roots of the certificates in it")
	case l.PlainHTTP && !loopback(host):
		m.Add(at, "needs tls, or an address of this machine: whoever is on the way could write the header")
	}
}

// trustsThisMachine reports whether one of the trusted proxies is here.
func (l Listener) trustsThisMachine() bool {
	networks, err := forwarded.ParseNetworks(l.TrustedProxies)
	return err == nil && slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Addr().IsLoopback() })
}

// taken are headers that mean something else, here or to a proxy.
var taken = []string{
	forwarded.XForwardedFor, forwarded.Forwarded, "Authorization", "Proxy-Authorization", "Host", "Cookie", "Via", "Connection",
	"Content-Length", "Content-Type", "Transfer-Encoding", "User-Agent", "Accept", "X-Real-Ip", "X-Forwarded-Proto", "X-Forwarded-Host",
}

// headerName accepts names of letters, digits and hyphens: with an underscore
// proxies drop them, or make one of two names.
func headerName(s string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789-"
	return strings.Trim(strings.ToLower(s), letters) == "" && !strings.HasPrefix(s, "-") &&
		!slices.Contains(taken, textproto.CanonicalMIMEHeaderKey(s))
}

// believing puts the trusted proxies of a listener in front of what it shows.
func (l Listener) believing(log *zap.Logger, shown http.Handler) (http.Handler, error) {
	networks, err := forwarded.ParseNetworks(l.TrustedProxies)
	if err != nil {
		return nil, fmt.Errorf("trusted_proxies: %w", err)
	}
	return forwarded.Config{
		Trusted: networks, Header: l.ForwardedHeader, CertificateHeader: l.ClientCertificateHeader,
		Log: log.With(zap.String("listener", l.Name)),
	}.Handler(shown), nil
}
