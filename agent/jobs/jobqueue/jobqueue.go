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
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
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

	// Proxy returns the proxy for a request, nil for none; nil: never one. The
	// environment is not looked at.
	Proxy func(*http.Request) (*url.URL, error)

	// Dial opens connections below TLS; nil: TCP. For tests, and for tunnels.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	ConnectTimeout time.Duration // for TCP and for TLS, each; 0: 10 s
	Timeout        time.Duration // for a whole exchange; 0: 60 s

	UserAgent string           // "": certconnector
	Clock     func() time.Time // nil: time.Now
	Log       *zap.Logger      // nil: nothing is logged
}

// Client asks one job queue. It is safe for concurrent use.
type Client struct {
	config Config
	base   string
	http   *http.Client
}

// New returns a client. It connects to nobody.
func New(config Config) (*Client, error) {
	base, err := url.Parse(config.URL)
	switch {
	case err != nil || base.Scheme != "https" || base.Host == "":
		return nil, errors.New("job queue: url must be an address such as https://queue.corp.example/jobs; jobs go over mutual TLS only")
	case base.User != nil || base.RawQuery != "" || base.Fragment != "":
		return nil, errors.New("job queue: url has a user, a query or a fragment; write the address alone")
	case config.Certificate == nil:
		return nil, errors.New("job queue: there is no client certificate; it is what identifies us there")
	}
	if config.Clock == nil {
		config.Clock = time.Now
	}
	if config.Log == nil {
		config.Log = zap.NewNop()
	}
	if config.ConnectTimeout <= 0 {
		config.ConnectTimeout = 10 * time.Second
	}
	if config.Timeout <= 0 {
		config.Timeout = time.Minute
	}
	if config.UserAgent == "" {
		config.UserAgent = "certconnector"
	}
	c := &Client{config: config, base: strings.TrimRight(base.String(), "/")}
	c.http = &http.Client{
		Transport:     c.transport(),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

func (c *Client) transport() *http.Transport {
	dial := c.config.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: c.config.ConnectTimeout}).DialContext
	}
	return &http.Transport{
		Proxy:       c.config.Proxy,
		DialContext: dial,
		TLSClientConfig: &tls.Config{
			MinVersion: tls.VersionTLS12,
			RootCAs:    c.config.RootCAs,
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				certificate, err := c.config.Certificate()
				if err == nil && certificate == nil {
					err = errors.New("there is no client certificate to show")
				}
				return certificate, err
			},
			VerifyConnection: c.pinned,
		},
		ForceAttemptHTTP2:      true,
		TLSHandshakeTimeout:    c.config.ConnectTimeout,
		MaxIdleConnsPerHost:    2,
		IdleConnTimeout:        30 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true,
	}
}

// pinned comes after the chain and the name have been verified.
func (c *Client) pinned(state tls.ConnectionState) error {
	if len(c.config.Pins) == 0 {
		return nil
	}
	pin := sha256.Sum256(state.PeerCertificates[0].Raw)
	if !slices.Contains(c.config.Pins, pin) {
		return fmt.Errorf("the job queue's certificate is none of those that are pinned; its SHA-256 is %X", pin)
	}
	return nil
}

// Reconnect closes connections that are not in use, so that the next question
// is asked with the client certificate as it is now.
func (c *Client) Reconnect() { c.http.CloseIdleConnections() }
