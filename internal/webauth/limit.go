package webauth

import (
	"net/http"
	"net/netip"
)

// How many wrong passwords a source may send, and how many sources that did
// lately are remembered.
const (
	failuresPerMinute = 10
	maxSources        = 4096
)

// peer is the device's address: the connection's other end, or whom a trusted
// proxy speaks for.
func peer(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}
