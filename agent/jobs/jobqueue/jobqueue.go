// Package jobqueue asks a job queue for certificates to issue and hands over
// the results. The interface is our own, not Microsoft's format: no public
// interface for Intune's issuance jobs exists. It is described in
// docs/issuance-jobs.md and docs/openapi/jobs.yaml, and it is JSON over
// mutual TLS.
//
// The client keeps nothing and repeats nothing: what was downloaded is
// recorded, and tried again, by who calls.
package jobqueue

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/internal/mtls"
)

// Config says whom to ask, and as whom.
type Config struct {
	// URL is the base address, as https://queue.corp.example/jobs. Only https.
	URL string

	// Certificate returns the client certificate with its key for a new
	// connection, so that a renewed one is used at once. Connections that are
	// open keep theirs; see Reconnect.
	Certificate func() (*tls.Certificate, error)

	RootCAs *x509.CertPool // vouch for the queue; nil: the system's
	Pins    [][32]byte     // SHA-256 of its certificate; empty: any that the roots vouch for

	// Dial opens connections below TLS, as through a proxy; nil: TCP. The
	// environment is not looked at.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	ConnectTimeout time.Duration // for TCP and for TLS, each; 0: 10 s
	Timeout        time.Duration // for a whole exchange; 0: 60 s

	UserAgent string           // "": certconnector
	Clock     func() time.Time // nil: time.Now
	Log       *zap.Logger      // nil: nothing is logged
}

// Client asks one job queue. It is safe for concurrent use.
type Client struct{ mtls *mtls.Client }

// New returns a client. It connects to nobody.
func New(config Config) (*Client, error) {
	c, err := mtls.New(mtls.Config{
		Peer: peer, Example: "https://queue.corp.example/jobs",
		URL: config.URL, Certificate: config.Certificate, RootCAs: config.RootCAs, Pins: config.Pins,
		Dial: config.Dial, ConnectTimeout: config.ConnectTimeout, Timeout: config.Timeout,
		MostAnswer: mostAnswer, MostRetryAfter: mostRetryAfter,
		UserAgent: config.UserAgent, Clock: config.Clock, Log: config.Log,
	})
	if err != nil {
		return nil, err
	}
	return &Client{c}, nil
}

// Reconnect closes connections that are not in use, so that the next question
// is asked with the client certificate as it is now.
func (c *Client) Reconnect() { c.mtls.Reconnect() }
