// Package mtls asks a service over mutual TLS: JSON there, and back JSON or a
// problem document (RFC 9457) that names the rule which was broken. A client
// knows whom it asks by roots and pins, and is known there by its certificate.
//
// The client keeps nothing and repeats nothing; see Config.Repeatable.
package mtls

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
	Peer    string // whom errors and log lines name, as "job queue"
	Example string // an address as URL should be, for errors

	// URL is the base address; a path in it stands before those that are asked
	// for. Only https.
	URL string

	// Certificate returns the client certificate with its key for a new
	// connection, so that a renewed one is used at once. Connections that are
	// open keep theirs; see Reconnect.
	Certificate func() (*tls.Certificate, error)

	RootCAs *x509.CertPool // vouch for the peer; nil: the system's
	Pins    [][32]byte     // SHA-256 of its certificate; empty: any that the roots vouch for

	// Dial opens connections below TLS, as through a proxy; nil: TCP. The
	// environment is not looked at.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	ConnectTimeout time.Duration // for TCP and for TLS, each; 0: 10 s
	Timeout        time.Duration // for a whole exchange; 0: 60 s
	Idle           int           // connections kept for the next question; 0: 2
	IdleFor        time.Duration // how long each is kept; 0: 30 s

	MostAnswer     int64         // octets of an answer; 0: 64 KiB
	MostRetryAfter time.Duration // what is believed of a Retry-After; 0: 10 min

	// Repeatable says that a question may be asked twice: one that met a
	// connection which the peer was closing is sent again on another.
	Repeatable bool

	UserAgent string           // "": certconnector
	Clock     func() time.Time // nil: time.Now
	Log       *zap.Logger      // nil: nothing is logged
}

// Client asks one peer. It is safe for concurrent use.
type Client struct {
	config Config
	base   string
	http   *http.Client
}

// New returns a client. It connects to nobody.
func New(config Config) (*Client, error) {
	base, err := url.Parse(config.URL)
	switch {
	case err != nil || base.Scheme != "https" || base.Host == "": // the error may quote a password
		return nil, fmt.Errorf("%s: url must be an address such as %s; it is asked over mutual TLS only", config.Peer, config.Example)
	case base.User != nil || base.RawQuery != "" || base.Fragment != "":
		return nil, fmt.Errorf("%s: url has a user, a query or a fragment; write the address alone", config.Peer)
	case config.Certificate == nil:
		return nil, fmt.Errorf("%s: there is no client certificate; it is what identifies us there", config.Peer)
	}
	config.setDefaults()
	c := &Client{config: config, base: strings.TrimRight(base.String(), "/")}
	c.http = &http.Client{
		Transport:     c.transport(),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

func (c *Config) setDefaults() {
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	if c.UserAgent == "" {
		c.UserAgent = "certconnector"
	}
	positive(&c.ConnectTimeout, 10*time.Second)
	positive(&c.Timeout, time.Minute)
	positive(&c.Idle, 2)
	positive(&c.IdleFor, 30*time.Second)
	positive(&c.MostAnswer, 64<<10)
	positive(&c.MostRetryAfter, 10*time.Minute)
	if c.Dial == nil {
		c.Dial = (&net.Dialer{Timeout: c.ConnectTimeout}).DialContext
	}
}

func positive[T int | int64 | time.Duration](value *T, otherwise T) {
	if *value <= 0 {
		*value = otherwise
	}
}

func (c *Client) transport() *http.Transport {
	return &http.Transport{
		DialContext: c.config.Dial,
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
		MaxIdleConnsPerHost:    c.config.Idle,
		IdleConnTimeout:        c.config.IdleFor,
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
		return fmt.Errorf("the certificate of the %s is none of those that are pinned; its SHA-256 is %X", c.config.Peer, pin)
	}
	return nil
}

// Base is the address that is asked, without a slash at its end.
func (c *Client) Base() string { return c.base }

// Reconnect closes connections that are not in use, so that the next question
// is asked with the client certificate as it is now.
func (c *Client) Reconnect() { c.http.CloseIdleConnections() }
