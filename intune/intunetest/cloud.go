// Package intunetest is a cloud on the loopback interface: Entra ID's sign-in,
// parts of Microsoft Graph (the list of services, an application's keys, users'
// PFX certificates) and an Intune scale unit with its SCEP and revocation
// services, with state, faults on demand and a journal of every call. It speaks TLS with
// certificates of its own CA, checks what the real services are known to
// check, and serves MSAL and azidentity as well as plain HTTP clients.
//
// Two things are its own and never Intune's: the format of the challenges it
// makes (the real one is not public), and its policy where the real service's
// behaviour is not documented, which Options.Strict turns on.
package intunetest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/certconnector/certconnector/intune"
)

// Options say what a cloud is like. The zero value is a cloud with the tenant
// of Contoso.
type Options struct {
	Clock   func() time.Time // nil: time.Now
	Tenants []Tenant         // nil: Contoso alone

	// Strict refuses what the real service is not known to refuse:
	// a notification for a request that was never validated, a request that is
	// not one line of base64, and names of JSON members in another case.
	Strict bool

	// RoleStatus answers a token without the needed role at the scale unit,
	// default 401 as in the reference tests; 403 is seen as well.
	RoleStatus int

	TokenLife     time.Duration // default 3599 s
	ChallengeLife time.Duration // default 60 minutes
	PageSize      int           // entries of a page of the service list; 0: all on one

	// StateFile, when not empty, gets every accepted notification, result of a
	// revocation and change of a PFX certificate as a line of JSON that is
	// synced before the answer. ReadState reads it after a kill.
	StateFile string

	Revocation RevocationOptions

	// KeyDelay is how long a key that addKey added is not taken at sign-in
	// yet: Entra ID takes its time to tell all its servers.
	KeyDelay time.Duration

	// KeyRole has addKey and removeKey ask for Application.ReadWrite.OwnedBy.
	// Microsoft Graph documents that an application needs no permission to
	// roll its own keys, as the zero value has it.
	KeyRole bool
}

// Cloud is a simulated cloud. It is safe for concurrent use.
type Cloud struct {
	options  Options
	clock    func() time.Time
	pki      *pki
	tokenKey *ecdsa.PrivateKey
	makers   challengeKeys

	mu       sync.Mutex
	tenants  []*tenant
	unit     int // number of the scale unit, grows when it moves
	services []Service
	faults   map[Endpoint][]*armed
	outage   bool
	jtis     map[string]time.Time
	calls    []*Call
	records  records
	life     time.Duration // of a token
	cooldown time.Duration // after a download

	servers []*http.Server
	addrs   [4]string // login, graph, scale unit, control
	done    sync.WaitGroup
}

// The listeners of a Cloud.
const (
	loginAt = iota
	graphAt
	unitAt
	controlAt
)

// New returns a cloud that does not listen yet.
func New(options Options) (*Cloud, error) {
	if options.Clock == nil {
		options.Clock = time.Now
	}
	if options.Tenants == nil {
		options.Tenants = []Tenant{Contoso()}
	}
	if options.RoleStatus == 0 {
		options.RoleStatus = http.StatusUnauthorized
	}
	if options.TokenLife == 0 {
		options.TokenLife = 3599 * time.Second
	}
	if options.ChallengeLife == 0 {
		options.ChallengeLife = time.Hour
	}
	options.Revocation = options.Revocation.complete()
	pki, err := newPKI()
	if err != nil {
		return nil, fmt.Errorf("making the simulator's CA: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the simulator's token key: %w", err)
	}
	makers, err := newChallengeKeys()
	if err != nil {
		return nil, fmt.Errorf("making the simulator's challenge keys: %w", err)
	}
	c := &Cloud{
		options: options, clock: options.Clock, pki: pki, tokenKey: key, makers: makers,
		faults: map[Endpoint][]*armed{}, jtis: map[string]time.Time{}, life: options.TokenLife,
	}
	c.cooldown = options.Revocation.CoolDown
	for _, t := range options.Tenants {
		c.tenants = append(c.tenants, newTenant(t))
	}
	return c, c.records.open(options.StateFile)
}

// Start listens for sign-in, Graph, the scale unit and the control API, in
// this order, at the given addresses. Addresses that are left out are free
// ports of 127.0.0.1.
func (c *Cloud) Start(addresses ...string) error {
	if len(addresses) > len(c.addrs) {
		return fmt.Errorf("%d addresses are given, the cloud has %d listeners", len(addresses), len(c.addrs))
	}
	for i, handler := range []http.Handler{c.Login(), c.Graph(), c.ScaleUnit(), c.Control()} {
		address := "127.0.0.1:0"
		if i < len(addresses) && addresses[i] != "" {
			address = addresses[i]
		}
		l, err := net.Listen("tcp", address)
		if err != nil {
			return errors.Join(fmt.Errorf("listening at %s: %w", address, err), c.Close())
		}
		server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, ErrorLog: quiet()}
		c.mu.Lock()
		c.addrs[i] = l.Addr().String()
		c.servers = append(c.servers, server)
		c.mu.Unlock()
		if i != controlAt {
			server.TLSConfig = c.pki.serverConfig()
			c.done.Go(func() { _ = server.ServeTLS(l, "", "") })
		} else {
			c.done.Go(func() { _ = server.Serve(l) })
		}
	}
	return nil
}

// Close stops listening and ends all connections.
func (c *Cloud) Close() error {
	c.mu.Lock()
	servers := c.servers
	c.servers = nil
	c.mu.Unlock()
	var errs []error
	for _, s := range servers {
		errs = append(errs, s.Close())
	}
	c.done.Wait()
	errs = append(errs, c.records.close())
	return errors.Join(errs...)
}

func (c *Cloud) address(i int) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.addrs[i]
}

// AuthorityURL is where clients sign in.
func (c *Cloud) AuthorityURL() string { return "https://" + c.address(loginAt) + "/" }

// GraphURL is the base of Microsoft Graph.
func (c *Cloud) GraphURL() string { return "https://" + c.address(graphAt) + "/" }

// ResourceURL is the Intune resource that tokens are asked for; nothing
// listens there.
func (c *Cloud) ResourceURL() string { return intuneResource }

// ControlURL is the base of the control API, plain HTTP.
func (c *Cloud) ControlURL() string { return "http://" + c.address(controlAt) + "/control/" }

// ServiceURL is the present base address of the SCEP service.
func (c *Cloud) ServiceURL() string {
	return "https://" + c.address(unitAt) + c.scepPath()
}

// RevocationURL is the present base address of the revocation service.
func (c *Cloud) RevocationURL() string {
	return "https://" + c.address(unitAt) + c.pkiPath()
}

// RootPEM is the certificate of the cloud's CA.
func (c *Cloud) RootPEM() []byte { return c.pki.rootPEM }

// Roots has the certificate of the cloud's CA.
func (c *Cloud) Roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(c.pki.root)
	return pool
}

// Endpoints are the addresses for a client's configuration.
func (c *Cloud) Endpoints() intune.Endpoints {
	host, _, err := net.SplitHostPort(c.address(unitAt))
	if err != nil { // not started yet
		host = "127.0.0.1"
	}
	revocation := c.options.Revocation
	return intune.Endpoints{
		Authority: c.AuthorityURL(), Graph: c.GraphURL(), Resource: c.ResourceURL(),
		ServiceHosts:      []string{host},
		RevocationService: revocation.Service, RevocationVersion: revocation.Version,
		DownloadAction: revocation.DownloadAction, UploadAction: revocation.UploadAction,
	}
}

// ClientConfig is the configuration of a client of Contoso with its first
// secret.
func (c *Cloud) ClientConfig() intune.Config {
	c.mu.Lock()
	t := c.tenants[0]
	app := t.apps[0]
	cfg := intune.Config{
		TenantID: t.ID, ClientID: app.ClientID, Provider: "certconnector-test/1.0",
		Cloud: intune.Custom, Clock: c.clock,
	}
	if len(app.Secrets) > 0 {
		cfg.Credential.Secret = app.Secrets[0]
	}
	c.mu.Unlock()
	cfg.Endpoints, cfg.RootCAs = c.Endpoints(), c.Roots()
	return cfg
}
