// Package forwarded tells whose request a reverse proxy hands on. A header says
// what whoever wrote it likes, so it is read only where the connection comes
// from a proxy that the configuration trusts, and only the one header that this
// proxy is known to write: a header that it passes on unread is the device's.
package forwarded

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
)

// The headers that may name the device.
const (
	XForwardedFor = "X-Forwarded-For"
	Forwarded     = "Forwarded" // RFC 7239
)

// Config says which proxies speak for devices, and how.
type Config struct {
	Trusted []netip.Prefix // where they are; see ParseNetworks
	Header  string         // which header names the device; "": XForwardedFor

	// CertificateHeader names the header in which they hand on the client
	// certificate of the connection to them, as URL-encoded PEM ($ssl_client_escaped_cert
	// of nginx). "": none is believed. See Config.Handler.
	CertificateHeader string

	Log *zap.Logger // nil: none
}

// The shortest prefixes that may be trusted: the largest private network, and
// what a site is given at most.
const (
	leastIPv4 = 8
	leastIPv6 = 32
)

// ParseNetworks reads addresses and networks in CIDR notation. Networks that
// hold half the world are refused: whoever may set the header can be anybody.
func ParseNetworks(list []string) ([]netip.Prefix, error) {
	var networks []netip.Prefix
	var errs []error
	for _, s := range list {
		network, err := parseNetwork(s)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		networks = append(networks, network)
	}
	return networks, errors.Join(errs...)
}

func parseNetwork(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" && !a.IsUnspecified() {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	network, err := netip.ParsePrefix(s)
	switch {
	case err != nil || network.Addr().Is4In6():
		return network, fmt.Errorf("%q is no address or network, want one as 10.1.2.3 or 10.1.2.0/24", s)
	case network.Bits() < leastIPv4, network.Addr().Is6() && network.Bits() < leastIPv6:
		return network, fmt.Errorf("%q trusts nearly everybody: whoever connects could pass for any device; name the proxy's own address", s)
	case network != network.Masked():
		return network, fmt.Errorf("%q has bits beyond its prefix; did you mean %s, or the one address %s?", s, network.Masked(), network.Addr())
	}
	return network, nil
}

type (
	peerKey        struct{}
	certificateKey struct{}
)

// Peer is the other end of the connection that a request came by: the proxy,
// where RemoteAddr is the device that it speaks for.
func Peer(r *http.Request) netip.Addr {
	if a, ok := r.Context().Value(peerKey{}).(netip.Addr); ok {
		return a
	}
	return address(r.RemoteAddr)
}

// ClientCertificates are the certificates that the client showed: to the proxy
// that is trusted to hand them on, else on the connection itself. Whether they
// are any good is for the caller to verify.
func ClientCertificates(r *http.Request) []*x509.Certificate {
	if handed, ok := r.Context().Value(certificateKey{}).([]*x509.Certificate); ok {
		return handed
	}
	if r.TLS == nil {
		return nil
	}
	return r.TLS.PeerCertificates
}

// address reads the address of RemoteAddr.
func address(remote string) netip.Addr {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

// Handler hands requests on with the device's address as RemoteAddr, so that
// limits and logs see the device. A request from elsewhere than a trusted proxy
// keeps its connection's address whatever its headers say, and loses the header
// with a certificate.
//
// Where a certificate header is configured, the certificate of a connection from
// a trusted proxy is the proxy's own and identifies no caller; that in the
// header counts, and a header that holds no certificate is answered with 400.
func (c Config) Handler(next http.Handler) http.Handler {
	if len(c.Trusted) == 0 {
		return next
	}
	if c.Header == "" {
		c.Header = XForwardedFor
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	var silent, unusable seldom
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer := address(r.RemoteAddr)
		if !c.trusts(peer) {
			if c.CertificateHeader != "" {
				r.Header.Del(c.CertificateHeader)
			}
			next.ServeHTTP(w, r)
			return
		}
		ctx := context.WithValue(r.Context(), peerKey{}, peer)
		if c.CertificateHeader != "" {
			shown, err := certificates(r.Header.Values(c.CertificateHeader))
			if err != nil {
				if unusable.now() {
					c.Log.Warn("proxy handed on no usable client certificate", zap.Stringer("proxy", peer),
						zap.String("header", c.CertificateHeader), zap.Error(err))
				}
				http.Error(w, "the header with the client certificate cannot be read", http.StatusBadRequest)
				return
			}
			r.Header.Del(c.CertificateHeader)
			ctx = context.WithValue(ctx, certificateKey{}, shown)
		}
		device, ok := c.device(r.Header.Values(c.Header))
		if !ok && silent.now() {
			c.Log.Warn("proxy does not say for whom it asks: all behind it count as one", zap.Stringer("proxy", peer), zap.String("header", c.Header))
		}
		r = r.WithContext(ctx)
		if ok {
			r.RemoteAddr = device.String()
		}
		next.ServeHTTP(w, r)
	})
}

// trusts reports whether an address is one of the proxies'.
func (c Config) trusts(a netip.Addr) bool {
	if !a.IsValid() {
		return false
	}
	for _, n := range c.Trusted {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

// device is the last hop that is none of the proxies: each of them appends whom
// it speaks to, so that what stands to the right of it was written by proxies,
// and it itself is as sure as they are. What stands to the left is hearsay. A hop
// that cannot be read ends the search, and so does the beginning of the list:
// then it is the hop before.
func (c Config) device(headers []string) (device netip.AddrPort, ok bool) {
	hops := hopsOf(c.Header)
	for i := len(headers) - 1; i >= 0; i-- {
		for text := range hops(headers[i]) {
			hop, err := parseHop(text)
			if err != nil {
				return device, ok
			}
			device, ok = hop, true
			if !c.trusts(hop.Addr()) {
				return device, true
			}
		}
	}
	return device, ok
}

// parseHop reads an address with or without a port, IPv6 with or without
// brackets.
func parseHop(text string) (netip.AddrPort, error) {
	text = strings.TrimSpace(text)
	if len(text) > 64 {
		return netip.AddrPort{}, errors.New("no address is that long")
	}
	if ap, err := netip.ParseAddrPort(text); err == nil {
		return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port()), nil
	}
	if strings.HasPrefix(text, "[") && strings.HasSuffix(text, "]") {
		text = text[1 : len(text)-1]
	}
	a, err := netip.ParseAddr(text)
	return netip.AddrPortFrom(a.Unmap().WithZone(""), 0), err
}

// seldom lets one of many lines a minute through.
type seldom struct {
	mu   sync.Mutex
	last time.Time
}

func (s *seldom) now() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); now.Sub(s.last) > time.Minute {
		s.last = now
		return true
	}
	return false
}
