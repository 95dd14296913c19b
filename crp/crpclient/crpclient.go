// Package crpclient asks a registration point on another machine: a policy
// module for a connector that has the CA but no credential for the cloud. It
// speaks the body of crp/crphttp over mutual TLS. What was decided is
// remembered at the registration point; here nothing is.
package crpclient

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/internal/mtls"
	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/policymodule"
)

// Config says whom to ask, and as whom.
type Config struct {
	// URL is the base address, as https://crp.corp.example:8443; a path in it
	// stands before the service's own. Only https.
	URL    string
	Tenant string // whom the registration point shall ask; "": its default for us

	// Certificate returns the client certificate with its key for a new
	// connection, so that it can be replaced while the client is used.
	Certificate func() (*tls.Certificate, error)

	RootCAs *x509.CertPool // vouch for the registration point; nil: the system's
	Pins    [][32]byte     // SHA-256 of its certificate; empty: any that the roots vouch for

	Sealer *secret.Sealer // digests challenges

	// Dial opens connections below TLS, as through a proxy; nil: TCP. The
	// environment is not looked at.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	ConnectTimeout time.Duration // for TCP and for TLS, each; 0: 5 s
	Timeout        time.Duration // for a whole exchange; 0: 40 s

	UserAgent string           // "": certconnector
	Clock     func() time.Time // nil: time.Now
	Log       *zap.Logger      // nil: nothing is logged
}

// The paths at the registration point.
const (
	verifyPath = "/CertificateRegistrationSvc/Certificate/VerifyRequest"
	notifyPath = "/CertificateRegistrationSvc/Certificate/Notify"
)

// Client asks one registration point. It is safe for concurrent use.
type Client struct {
	config Config
	scope  string // in which a challenge counts once
	mtls   *mtls.Client

	refused atomic.Pointer[StatusError] // why we were not recognised the last time; nil: we were
}

var _ policymodule.Module = (*Client)(nil)

// New returns a client. It connects to nobody; see Check.
func New(config Config) (*Client, error) {
	if config.Sealer == nil {
		return nil, errors.New("registration point: there is no sealer to digest challenges with")
	}
	c, err := mtls.New(mtls.Config{
		Peer: "registration point", Example: "https://crp.corp.example:8443",
		URL: config.URL, Certificate: config.Certificate, RootCAs: config.RootCAs, Pins: config.Pins, Dial: config.Dial,
		ConnectTimeout: cmp.Or(config.ConnectTimeout, 5*time.Second), Timeout: cmp.Or(config.Timeout, 40*time.Second),
		Idle: 16, IdleFor: 90 * time.Second,
		Repeatable: true, // what was decided is remembered there
		UserAgent:  config.UserAgent, Clock: config.Clock, Log: config.Log,
	})
	if err != nil {
		return nil, err
	}
	return &Client{config: config, mtls: c, scope: "registration point\x00" + c.Base() + "\x00" + config.Tenant}, nil
}

// Close closes connections that are not in use.
func (c *Client) Close() { c.mtls.Reconnect() }

// Ready says why the registration point does not listen to us: the last time
// our certificate or our tenant was refused. nil: nothing is known against it.
func (c *Client) Ready() error {
	if e := c.refused.Load(); e != nil {
		return e
	}
	return nil
}

// Check asks whether the registration point would listen to us: that the name
// resolves, that TLS succeeds both ways, and that our certificate names a
// front end it knows. Nobody is asked about a request.
func (c *Client) Check(ctx context.Context) error {
	_, _, err := c.post(ctx, verifyPath, struct{}{})
	if e, ok := errors.AsType[*StatusError](err); ok && e.Status == http.StatusBadRequest && e.Rule == "body_malformed" {
		return nil // an empty question is refused only after we were recognised
	}
	if err == nil {
		return errors.New("registration point: an empty question was answered as if it were one; is this address a certconnector's?")
	}
	return err
}
