package agent

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/http"
	"strings"

	"github.com/certconnector/certconnector/internal/webauth"
	"github.com/certconnector/certconnector/internal/webserver"
	"github.com/certconnector/certconnector/policymodule"
	"github.com/certconnector/certconnector/policymodule/onetime"
	"github.com/certconnector/certconnector/policymodule/token"
)

func (a *Agent) serverConfig(l Listener) (cfg webserver.Config, err error) {
	cfg = webserver.Config{
		Address: l.Address, Log: a.log.Named("http"),
		HeaderBytes: a.cfg.Limits.HeaderBytes, Connections: a.cfg.Limits.Connections,
		ReadHeaderTimeout: a.cfg.Limits.ReadHeaderTimeout, ReadTimeout: a.cfg.Limits.ReadTimeout,
		WriteTimeout: a.cfg.Limits.WriteTimeout, IdleTimeout: a.cfg.Limits.IdleTimeout, Grace: a.cfg.ShutdownGrace,
	}
	if !l.PlainHTTP {
		if cfg.GetCertificate, err = a.certificate(l); err != nil {
			return cfg, err
		}
	}
	if l.ClientCA != "" {
		if cfg.ClientCAs, err = roots(l.ClientCA); err != nil {
			return cfg, fmt.Errorf("client_ca: %w", err)
		}
	}
	shown, err := a.faces(l, cfg.ClientCAs)
	if err != nil {
		return cfg, err
	}
	cfg.Handler, err = l.believing(cfg.Log, shown)
	return cfg, err
}

// face is one thing that a listener shows.
type face struct {
	serves func(path string) bool
	http.Handler
}

// faces is what a listener shows. Each face claims its paths; what no face
// claims is for the endpoints, which log it, or for nobody.
func (a *Agent) faces(l Listener, clients *x509.CertPool) (http.Handler, error) {
	var shown []face
	rest := http.NotFoundHandler()
	if l.Shows(FaceSCEP) {
		shown, rest = append(shown, face{a.handler.Serves, a.handler}), a.handler
	}
	if l.Shows(FaceStatus) {
		shown = append(shown, face{isHealth, a.status.Handler()})
	}
	if l.Shows(FaceChallenges) {
		pages, err := a.challengeFaces(l, clients)
		if err != nil {
			return nil, err
		}
		shown = append(shown, pages...)
	}
	if l.Shows(FaceCRP) {
		known := &webauth.Certificates{Roots: clients, Clock: a.options.Clock}
		for _, f := range a.cfg.RegistrationPoint.FrontEnds {
			known.Clients = append(known.Clients, f.Certificate.client(f.Name))
		}
		if err := webauth.CheckClients(known.Clients); err != nil {
			return nil, fmt.Errorf("registration_point.front_ends: %w", err)
		}
		shown = append(shown, face{a.registrationPoint.Serves, identify(known, a.registrationPoint)})
	}
	if l.Shows(FaceCRL) {
		shown = append(shown, face{a.distribution.Serves, a.distribution})
	}
	if l.Shows(FaceOCSP) { // last: a responder without a path takes whatever looks like a request
		shown = append(shown, face{a.responder.Serves, a.responder})
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, f := range shown {
			if f.serves(r.URL.Path) {
				f.ServeHTTP(w, r)
				return
			}
		}
		rest.ServeHTTP(w, r)
	}), nil
}

func isHealth(path string) bool { return path == "/livez" || path == "/readyz" || path == "/metrics" }

// challengeFaces are where principals have challenges made: a page for each
// endpoint with one-time passwords, and the interface for programs.
func (a *Agent) challengeFaces(l Listener, clients *x509.CertPool) ([]face, error) {
	who, err := a.authenticator(l, clients)
	if err != nil {
		return nil, err
	}
	authenticate := func(r *http.Request) (policymodule.Principal, error) {
		name, err := who.Identify(r)
		if err != nil {
			return policymodule.Principal{}, err
		}
		return a.principals[name], nil
	}
	var shown []face
	for _, e := range a.cfg.Endpoints {
		p := e.Policy.Onetime
		if p == nil {
			continue
		}
		charset, err := onetime.ParseCharset(p.Charset)
		if err != nil {
			return nil, err
		}
		page, err := onetime.NewPage(onetime.PageConfig{
			Challenger: a.challengers[e.Name], Endpoint: e.Name, Path: p.AdminPath,
			Authenticate: authenticate, Refuse: who.Refuse, Lifetime: p.Lifetime, Charset: charset, Log: a.log.Named("onetime"),
			CA: func() (*x509.Certificate, error) { return a.issuer(e.CA) },
		})
		if err != nil {
			return nil, fmt.Errorf("endpoint %q: %w", e.Name, err)
		}
		shown = append(shown, face{page.Serves, page})
	}
	api := token.NewAPI(token.APIConfig{
		Challengers: a.challengers, Authenticate: authenticate, Refuse: who.Refuse, Log: a.log.Named("challenges"),
	})
	return append(shown, face{isChallenge, api}), nil
}

func isChallenge(path string) bool { return strings.HasPrefix(path, "/challenges/") }

// authenticator knows the principals: by certificate where the listener asks
// for one, and by password.
func (a *Agent) authenticator(l Listener, clients *x509.CertPool) (*webauth.Authenticator, error) {
	who := &webauth.Authenticator{Realm: "challenges"}
	var accounts []webauth.Account
	var certificates []webauth.Client
	for i, p := range a.cfg.Principals {
		if p.Password != nil {
			text, err := p.Password.Read()
			if err != nil {
				return nil, fmt.Errorf("principals[%d].password: %w", i, err)
			}
			accounts = append(accounts, webauth.Account{Name: p.Name, Password: text})
		}
		if p.Certificate != nil {
			certificates = append(certificates, p.Certificate.client(p.Name))
		}
	}
	if len(accounts) > 0 {
		var err error
		if who.Passwords, err = webauth.NewPasswords(accounts, a.options.Clock); err != nil {
			return nil, fmt.Errorf("principals: %w", err)
		}
		a.passwords[l.Address] = who.Passwords
		if from := a.options.from; from != nil && from.passwords[l.Address] != nil {
			who.Passwords.Inherit(from.passwords[l.Address])
		}
	}
	if clients != nil {
		if err := webauth.CheckClients(certificates); err != nil {
			return nil, fmt.Errorf("principals: %w", err)
		}
		who.Certificates = &webauth.Certificates{Roots: clients, Clients: certificates, Clock: a.options.Clock}
	}
	return who, nil
}

// issuer is a CA's own certificate.
func (a *Agent) issuer(name string) (*x509.Certificate, error) {
	chain, err := a.cas[name].Chain(context.Background())
	if err != nil {
		return nil, fmt.Errorf("reading the chain of CA %q: %w", name, err)
	}
	return chain[0], nil
}
