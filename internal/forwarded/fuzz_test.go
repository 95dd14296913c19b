package forwarded_test

import (
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/certconnector/certconnector/internal/forwarded"
)

// FuzzForwarded: whatever a device sent, when a proxy of ours has appended its
// address, it is taken for that address.
func FuzzForwarded(f *testing.F) {
	for _, s := range []string{"", "127.0.0.1", `for="`, `for=10.0.0.1;by=x, for="[::1]:9"`, ",,,", "unknown, _x", "\"\\\"", "[::1", "10.0.0.5,", `a",for=6.6.6.6;x="`, `a";for=6.6.6.6;x="b`, `a\`} {
		f.Add(s)
	}
	trusted := networks(f, "10.0.0.0/24")
	quotes := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	f.Fuzz(func(t *testing.T, forged string) {
		const device = "198.51.100.7"
		for _, row := range []struct{ header, appended string }{
			{forwarded.XForwardedFor, device},
			{forwarded.Forwarded, "for=" + device + ";proto=https"},
			{forwarded.Forwarded, `proto=https;for="` + device + `:4711"`},
			{forwarded.Forwarded, "for=" + device + `;host="` + quotes.Replace(forged) + `"`},
			{forwarded.Forwarded, `host="` + quotes.Replace(forged) + `";for=` + device + ";proto=https"},
		} {
			c := forwarded.Config{Trusted: trusted, Header: row.header}
			r := send(c, "10.0.0.5:4711", http.Header{row.header: {forged + ", " + row.appended}}).request
			if ap, err := netip.ParseAddrPort(r.RemoteAddr); err != nil || ap.Addr().String() != device {
				t.Errorf("%s %q: taken for %q", row.header, forged, r.RemoteAddr)
			}
			r = send(c, "10.0.0.5:4711", http.Header{row.header: {forged}}).request
			if _, err := netip.ParseAddrPort(r.RemoteAddr); err != nil {
				t.Errorf("%s %q: taken for %q", row.header, forged, r.RemoteAddr)
			}
		}
	})
}

// FuzzClientCertificate: nothing in a header with a certificate is a panic, and
// what is no certificate is no client.
func FuzzClientCertificate(f *testing.F) {
	f.Add(escaped(certificate(f, "phone")))
	f.Add("-----BEGIN%20CERTIFICATE-----%0AMAA%3D%0A-----END%20CERTIFICATE-----%0A")
	f.Add("%zz")
	c := forwarded.Config{Trusted: networks(f, "10.0.0.0/24"), CertificateHeader: "X-Client-Cert"}
	f.Fuzz(func(t *testing.T, value string) {
		s := send(c, "10.0.0.5:4711", http.Header{"X-Client-Cert": {value}})
		if s.request == nil && s.status != http.StatusBadRequest {
			t.Errorf("%q: status %d and no request", value, s.status)
		}
		if s.request != nil && len(forwarded.ClientCertificates(s.request)) == 0 {
			if text, err := url.PathUnescape(value); err != nil || strings.TrimSpace(text) != "" {
				t.Errorf("%q: passed on as a client that shows nothing", value)
			}
		}
	})
}
