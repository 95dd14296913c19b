// Package adcs is the bridge to a Microsoft certificate authority over its own
// protocols: enrolment by DCOM ([MS-WCCE]) or plain RPC ([MS-ICPR]), and by
// the administration interface ([MS-CSRA]) revocation, approval and the search
// in its database. Every call travels with packet privacy, signed in to by
// Kerberos or, only where it is switched on, NTLM.
package adcs

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/internal/negotiate"
)

// Road is a way to a Microsoft CA.
type Road string

// The roads. DCOM and ICPR issue, CSRA revokes and searches.
const (
	DCOM Road = "dcom"
	ICPR Road = "icpr"
	CSRA Road = "csra"
)

// Config says which CA, over which roads, and as whom.
type Config struct {
	Name   string // of the CA in our configuration and log
	Config string // host\CA name, as certutil prints it: DNS name of the host, common name of the CA

	// Issue are the roads for requests, the preferred one first; nil: DCOM.
	// The next one is taken when a request surely did not get through.
	Issue []Road
	// Revoke is CSRA, or "" if the account is no officer at the CA.
	Revoke Road
	// Find is CSRA, or "" if the account may not read the CA's database.
	Find Road
	// Approve has this account decide parked requests; it is an officer then,
	// so Revoke is needed too.
	Approve bool

	// Exactly one of the four. NTLM proves nothing of the server. SSPI is for
	// Windows: Check says so elsewhere.
	Kerberos  *negotiate.Kerberos
	NTLM      *negotiate.NTLM
	SSPI      *negotiate.SSPI
	Mechanism Mechanism
	// SPNEGO wraps it, for hosts that refuse the bare mechanism.
	SPNEGO bool

	// Address is where to connect if the host's name does not resolve to it.
	// The name stays the one that Kerberos proves.
	Address            string
	EndpointMapperPort int // 0: 135

	// Validity sends the wished life time with the request. The CA heeds it
	// only with EDITF_ATTRIBUTEENDDATE, and only to shorten.
	Validity bool
	// Certificates are the CA's certificate and its issuers: for ICPR alone,
	// which does not show them, for a root that the CA does not show, and while
	// the CA cannot be reached.
	Certificates []*x509.Certificate

	SubmitDeadline time.Duration    // of one request; 0: 60 s
	Connections    int              // kept at most, and calls at once; 0: 4
	Clock          func() time.Time // nil: time.Now
	Log            *zap.Logger      // with the CA's name; nil: none
}

// CA is a Microsoft CA seen from here. It has Issue, Chain and Collect; what
// else it can do by its configuration, Bridge returns. It is safe for
// concurrent use.
type CA struct {
	name, host, target, authority string
	addressed                     string // as the operator wrote it
	mapperPort                    int
	roads                         []Road
	validity, revoke, find        bool
	approve                       bool
	deadline                      time.Duration
	now                           func() time.Time
	log                           *zap.Logger
	mechanism                     Mechanism
	connect                       connector

	requests map[Road]*pool[requester]
	admins   *pool[*admin]
	search   chan struct{} // one search at a time
	chains   chainCache
	lists    listCache

	mu      sync.Mutex
	columns map[string]column      // of the database; nil: not read yet
	first   int                    // number of a view's first row; -1: not settled
	newest  uint32                 // largest request ID seen
	sent    map[[32]byte]time.Time // submissions without an answer, by CSR
	last    Road                   // that worked, for the log
}

const (
	defaultDeadline    = 60 * time.Second
	defaultConnections = 4
)

// New checks the configuration. It connects nowhere.
func New(cfg Config) (*CA, error) {
	c := &CA{
		name: cfg.Name, addressed: cfg.Config, mapperPort: cfg.EndpointMapperPort, roads: cfg.Issue, validity: cfg.Validity,
		revoke: cfg.Revoke == CSRA, find: cfg.Find == CSRA, approve: cfg.Approve,
		deadline: cfg.SubmitDeadline, now: cfg.Clock, log: cfg.Log,
		search: make(chan struct{}, 1), first: -1, sent: map[[32]byte]time.Time{}, connect: dialTCP,
	}
	c.defaults()
	if err := c.check(cfg); err != nil {
		return nil, fmt.Errorf("CA %s: %w", cfg.Name, err)
	}
	host, authority, _ := strings.Cut(cfg.Config, `\`)
	c.host, c.authority, c.target = host, authority, "host/"+host
	if cfg.Address != "" {
		c.host = cfg.Address
	}
	var err error
	if c.mechanism, err = signInWith(cfg, c.now); err != nil {
		return nil, fmt.Errorf("CA %s: %w", cfg.Name, err)
	}
	size := cfg.Connections
	if size <= 0 {
		size = defaultConnections
	}
	c.requests = map[Road]*pool[requester]{}
	for _, road := range c.roads {
		dial := c.dialDCOM
		if road == ICPR {
			dial = c.dialICPR
		}
		c.requests[road] = newPool(size, c.now, dial)
	}
	c.admins = newPool(min(size, 2), c.now, c.dialAdmin)
	c.chains.pinned = cfg.Certificates
	return c, nil
}

func (c *CA) defaults() {
	if len(c.roads) == 0 {
		c.roads = []Road{DCOM}
	}
	if c.mapperPort == 0 {
		c.mapperPort = 135
	}
	if c.deadline <= 0 {
		c.deadline = defaultDeadline
	}
	if c.now == nil {
		c.now = time.Now
	}
	if c.log == nil {
		c.log = zap.NewNop()
	}
}

func (c *CA) check(cfg Config) error {
	host, authority, ok := strings.Cut(cfg.Config, `\`)
	if !ok || host == "" || authority == "" || strings.Contains(authority, `\`) {
		return fmt.Errorf(`config %q is not of the form host\CA name (certutil -config prints it)`, cfg.Config)
	}
	if (cfg.Kerberos != nil || cfg.SSPI != nil && !cfg.SSPI.NTLM) && (net.ParseIP(host) != nil || !strings.Contains(host, ".")) {
		return fmt.Errorf("host %q: Kerberos needs the full DNS name of the CA's host", host)
	}
	seen := map[Road]bool{}
	for _, road := range c.roads {
		if road != DCOM && road != ICPR || seen[road] {
			return fmt.Errorf("issue: %q: name dcom, icpr or both, each once", road)
		}
		seen[road] = true
	}
	for what, road := range map[string]Road{"revoke": cfg.Revoke, "find": cfg.Find} {
		if road != CSRA && road != "" {
			return fmt.Errorf("%s: %q: the only road is csra", what, road)
		}
	}
	if cfg.Approve && cfg.Revoke != CSRA {
		return errors.New("approve takes an officer, so revoke: csra")
	}
	if !c.hasDCOM() && len(cfg.Certificates) == 0 {
		return errors.New("plain RPC alone does not show the CA's certificate: configure the chain, or a road over DCOM")
	}
	return checkOrder(cfg.Certificates)
}

// hasDCOM reports whether any road is DCOM, over which the CA's properties are read.
func (c *CA) hasDCOM() bool { return slices.Contains(c.roads, DCOM) || c.revoke || c.find }

// signInWith makes the mechanism that the configuration names.
func signInWith(cfg Config, now func() time.Time) (Mechanism, error) {
	given := 0
	for _, is := range []bool{cfg.Kerberos != nil, cfg.NTLM != nil, cfg.SSPI != nil, cfg.Mechanism != nil} {
		if is {
			given++
		}
	}
	if given != 1 {
		return nil, errors.New("name exactly one of kerberos, ntlm and sspi to sign in with")
	}
	m := cfg.Mechanism
	if m == nil && cfg.SSPI == nil {
		if err := checkFIPS(fipsEnforced); err != nil {
			return nil, err
		}
	}
	switch {
	case cfg.NTLM != nil:
		if cfg.NTLM.User == "" || cfg.NTLM.Password == "" {
			return nil, errors.New("ntlm needs user and password")
		}
		m = ntlmSignIn{*cfg.NTLM}
	case cfg.Kerberos != nil:
		k, err := newKerberos(*cfg.Kerberos, now)
		if err != nil {
			return nil, err
		}
		m = k
	case cfg.SSPI != nil:
		if err := cfg.SSPI.Check(); err != nil {
			return nil, err
		}
		if cfg.SPNEGO {
			return nil, errors.New("sspi is not wrapped in spnego: hosts with SSPI take the bare mechanism")
		}
		m = sspiSignIn{who: *cfg.SSPI, open: openSSPI}
	}
	if cfg.SPNEGO {
		m = inSPNEGO{m}
	}
	return m, nil
}

// Name returns the configured name of the CA.
func (c *CA) Name() string { return c.name }

// Mechanism returns the name of the mechanism that signs in, for the log and
// the self-test.
func (c *CA) Mechanism() string { return c.mechanism.Name() }

// Close ends the kept connections, and refuses calls from then on.
func (c *CA) Close() error {
	for _, p := range c.requests {
		p.close()
	}
	c.admins.close()
	return nil
}

// within bounds a call that has no deadline of its own.
func (c *CA) within(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, c.deadline)
}
