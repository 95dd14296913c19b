// Package loopback keeps the laboratory to itself: whatever it sends goes to
// this machine and nowhere else, because it makes load, faults and bad
// requests that are nobody else's business.
package loopback

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"
)

// Check refuses addresses that are not HTTP on the loopback interface.
func Check(address string) error {
	u, err := url.Parse(address)
	if err != nil {
		return fmt.Errorf("the address cannot be read: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("%q is not an http or https address", address)
	}
	host := u.Hostname()
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	return fmt.Errorf("%q is not on the loopback interface; the laboratory stays on this machine (127.0.0.1, ::1 or localhost)", address)
}

// Transport connects to loopback addresses only, whatever a name resolves to,
// and through no proxy. It keeps at most connections of them.
func Transport(tlsConfig *tls.Config, connections int) *http.Transport {
	dialer := &net.Dialer{
		Timeout: 5 * time.Second,
		ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
			host, _, err := net.SplitHostPort(address)
			if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
				return fmt.Errorf("%s is not on the loopback interface", address)
			}
			return nil
		},
	}
	return &http.Transport{
		DialContext: dialer.DialContext, TLSClientConfig: tlsConfig, DisableCompression: true,
		MaxIdleConns: connections, MaxIdleConnsPerHost: connections, MaxConnsPerHost: connections,
		IdleConnTimeout: time.Minute,
	}
}
