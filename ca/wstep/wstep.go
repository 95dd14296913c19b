// Package wstep asks a Microsoft CA over its enrolment web services: the
// policy service CEP ([MS-XCEP]) tells which CA and which addresses there are,
// the enrolment service CES ([MS-WSTEP]) takes requests. Both are SOAP 1.2 over
// HTTPS.
//
// The protocol cannot revoke, nor say whether the CA issued for a request
// whose answer was lost: of the optional interfaces there is ca.Collector
// alone.
package wstep

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/internal/negotiate"
	"github.com/certconnector/certconnector/internal/secret"
)

// User signs in with a name and a password in the message (WS-Security
// UsernameToken), at the services that are named UsernamePassword.
type User struct {
	Name     string // DOMAIN\user or user@domain
	Password secret.Text
}

// Config says where the services are and as whom to ask: exactly one of User,
// Kerberos, NTLM, SSPI and Certificate.
type Config struct {
	// Policy is the address of the policy service, as
	// https://pki.corp.example/ADPolicyProvider_CEP_Kerberos/service.svc/CEP.
	Policy string
	// Enrollment are addresses of enrolment services of one CA, the preferred
	// one first. They take the place of those in the policy; without Policy
	// they are required, and Issuers too.
	Enrollment []string
	// CA is the common name of the CA where the policy names several.
	CA string
	// Issuers are the certificates that issued certificates must lead to: the
	// root, and the CAs below it as far as the policy does not name them. The
	// issuing CA is the first where there is no Policy. Empty: the certificate
	// in the policy is believed, and the root is learnt from replies.
	Issuers []*x509.Certificate

	User        *User
	Kerberos    *negotiate.Kerberos
	NTLM        *negotiate.NTLM // at the services that are named Kerberos
	SSPI        *negotiate.SSPI // there too; Windows only
	Certificate *negotiate.Certificate

	Roots *x509.CertPool // vouch for the services' TLS certificates; nil: the system's
	// Dial opens connections below TLS, as through a proxy; nil: TCP.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// SendValidity sends the wished life time along. The CA shortens by it only
	// where its flag EDITF_ATTRIBUTEENDDATE is set, and ignores it without a
	// word elsewhere.
	SendValidity bool

	SubmitWithin time.Duration // for one request; 0: 60 s
	PolicyWithin time.Duration // for one question to the policy service; 0: 30 s
	Connections  int           // at most so many at once to one host; 0: 8

	Clock func() time.Time // nil: time.Now
	Log   *zap.Logger      // nil: nothing is logged
}

// clientAuthentication of [MS-XCEP], section 3.1.4.1.3.5.
const (
	byKerberos    = 2
	byUser        = 4
	byCertificate = 8
)

// CA is a Microsoft CA behind its enrolment web services. It is safe for
// concurrent use.
type CA struct {
	config Config
	kind   int // of clientAuthentication

	heldUntil atomic.Int64 // Unix nanoseconds: until when a refused password rests

	policies policyCache
	mu       sync.Mutex
	hosts    map[string]*negotiate.Transport
	learnt   []*x509.Certificate // CA certificates of replies
}

var (
	_ ca.Authority = (*CA)(nil)
	_ ca.Collector = (*CA)(nil)
)

// New returns a bridge. It connects to nobody; Chain and Templates do.
func New(config Config) (*CA, error) {
	c := &CA{config: config, hosts: map[string]*negotiate.Transport{}}
	c.policies.turn = make(chan struct{}, 1)
	if err := c.readKind(); err != nil {
		return nil, fmt.Errorf("wstep: %w", err)
	}
	if err := c.checkAddresses(); err != nil {
		return nil, fmt.Errorf("wstep: %w", err)
	}
	c.config.SubmitWithin = cmp.Or(max(config.SubmitWithin, 0), 60*time.Second)
	c.config.PolicyWithin = cmp.Or(max(config.PolicyWithin, 0), 30*time.Second)
	if config.Clock == nil {
		c.config.Clock = time.Now
	}
	if config.Log == nil {
		c.config.Log = zap.NewNop()
	}
	return c, nil
}

func (c *CA) readKind() error {
	given := 0
	for _, k := range []struct {
		given bool
		kind  int
	}{
		{c.config.Kerberos != nil, byKerberos}, {c.config.NTLM != nil, byKerberos},
		{c.config.SSPI != nil, byKerberos},
		{c.config.User != nil, byUser}, {c.config.Certificate != nil, byCertificate},
	} {
		if k.given {
			given, c.kind = given+1, k.kind
		}
	}
	if given != 1 {
		return errors.New("name exactly one of user, kerberos, ntlm, sspi and certificate to sign in with")
	}
	if u := c.config.User; u != nil && (u.Name == "" || u.Password == "" || !isText(u.Name) || !isText(u.Password.Reveal())) {
		return errors.New("user name or password is missing or has control characters")
	}
	return nil
}

// checkAddresses also makes the transports, which find mistakes in the
// credentials.
func (c *CA) checkAddresses() error {
	switch {
	case c.config.Policy == "" && len(c.config.Enrollment) == 0:
		return errors.New("neither the policy service's address nor an enrolment service's is configured")
	case c.config.Policy == "" && len(c.config.Issuers) == 0:
		return errors.New("without a policy service the certificates of the CA and its issuers must be configured")
	}
	for _, address := range append([]string{c.config.Policy}, c.config.Enrollment...) {
		if address == "" {
			continue
		}
		if err := checkAddress(address); err != nil {
			return err
		}
		if _, err := c.transport(address); err != nil {
			return err
		}
	}
	return nil
}

// checkAddress takes https alone: passwords and certificates go over TLS.
func checkAddress(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Fragment != "" {
		return errors.New("an enrolment web service's address must look like https://host/path/service.svc/CES, without user and fragment")
	}
	return nil
}

// isText says that XML and the CA's attribute lines can carry a text: no
// control characters.
func isText(s string) bool {
	return strings.ToValidUTF8(s, "") == s && !strings.ContainsFunc(s, func(r rune) bool {
		return r < 0x20 || r >= 0x7f && r < 0xa0 || r == 0xfffe || r == 0xffff
	})
}

// transport returns the one that signs in to an address's host.
func (c *CA) transport(address string) (*negotiate.Transport, error) {
	const most = 32
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	host := strings.ToLower(u.Host)
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.hosts[host]; t != nil {
		return t, nil
	}
	if len(c.hosts) >= most {
		return nil, fmt.Errorf("the policy named more than %d hosts since the start", most)
	}
	t, err := negotiate.NewTransport(negotiate.TransportConfig{
		Host: u.Host, Roots: c.config.Roots, Kerberos: c.config.Kerberos, NTLM: c.config.NTLM, SSPI: c.config.SSPI,
		Certificate: c.config.Certificate, Connections: c.config.Connections, Dial: c.config.Dial, Now: c.config.Clock,
	})
	if err != nil {
		return nil, err
	}
	c.hosts[host] = t
	return t, nil
}

// Mechanism names how we sign in, for the log.
func (c *CA) Mechanism() string {
	switch {
	case c.config.Kerberos != nil:
		return "Kerberos"
	case c.config.NTLM != nil:
		return "NTLM"
	case c.config.SSPI != nil:
		return c.config.SSPI.Name()
	case c.config.User != nil:
		return "UsernameToken"
	}
	return "client certificate"
}

// Close closes connections; requests under way end first.
func (c *CA) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []error
	for _, t := range c.hosts {
		all = append(all, t.Close())
	}
	return errors.Join(all...)
}

// isDone says that there is no time left for another attempt.
func isDone(ctx context.Context) bool { return ctx.Err() != nil }
