package intune

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/certconnector/certconnector/internal/proxy"
)

// newHTTPClient returns the client for all calls: TLS 1.2 or later, HTTP/1.1,
// and no redirects, which could carry a token to another host.
func (c *Client) newHTTPClient() *http.Client {
	cfg := c.config
	dial := proxy.Dial(cfg.Dial)
	if dial == nil {
		dial = (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	}
	return &http.Client{
		Transport: &http.Transport{
			DialContext: cfg.Proxy.Through(dial),
			TLSClientConfig: &tls.Config{
				MinVersion: tls.VersionTLS12, RootCAs: cfg.RootCAs, VerifyConnection: c.inspect,
			},
			TLSHandshakeTimeout: 10 * time.Second,
			MaxIdleConns:        64,
			MaxIdleConnsPerHost: 32,
			IdleConnTimeout:     90 * time.Second,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// networkError tells a host that cannot be reached from an answer that did
// not come, and both from a proxy in the way.
func networkError(call, host string, err error) error {
	if errors.Is(err, errTooLong) {
		return &ProtocolError{Call: call, Detail: err.Error()}
	}
	e := &NetworkError{Call: call, Host: host, Err: err}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		e.Connect = true
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		e.Connect = true
	}
	// The certificate in a proxy's error is the proxy's own: nobody opens TLS.
	if refused, ok := errors.AsType[*proxy.Error](err); ok {
		e.Err = refused
	} else if opened := inspectionError(host, err); opened != nil {
		e.Connect, e.Err = true, opened
	}
	if errors.Is(err, context.Canceled) {
		e.Connect = false
	}
	return e
}
