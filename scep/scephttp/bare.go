package scephttp

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/certconnector/certconnector/internal/eventid"
	"github.com/certconnector/certconnector/scep"
)

// bare answers a request without operation: what a person sees who opens the
// URL, and what monitoring and Microsoft's validation script judge by its
// status alone.
func (x *exchange) bare() {
	if x.r.Method == http.MethodPost {
		x.text(http.StatusBadRequest, "no operation")
		return
	}
	if err := x.endpoint.certificatesReady(); err != nil {
		x.ndes = eventid.OwnCertificate
		x.notReady(err)
		return
	}
	if x.endpoint.Ready != nil {
		if err := x.endpoint.Ready(); err != nil {
			x.notReady(err)
			return
		}
	}
	if x.endpoint.BareGET == Forbidden {
		x.html(http.StatusForbidden, forbiddenPage)
		return
	}
	x.html(http.StatusOK, servicePage(x.endpoint.AdminPath))
}

// certificatesReady says what is wrong with the RA's certificates, or returns
// nil.
func (e *Endpoint) certificatesReady() error {
	ra := e.RA()
	if ra == nil {
		return errors.New("RA keys are not ready")
	}
	now := e.Clock()
	for _, pair := range []struct {
		what string
		scep.KeyPair
	}{{"signing", ra.Signing}, {"encryption", ra.Encryption}} {
		if c := pair.Certificate; c != nil && now.After(c.NotAfter) {
			return fmt.Errorf("RA: the %s certificate expired on %s", pair.what, c.NotAfter.UTC().Format(time.DateOnly))
		}
	}
	return nil
}

// notReady answers 503. Only somebody on this machine is told what failed;
// strangers have no use for it, and the log has it anyway.
func (x *exchange) notReady(err error) {
	line := "service unavailable"
	if x.fromHere() {
		line += ": " + printable(err.Error())
	}
	x.unavailableWith(line, err.Error(), x.endpoint.RetryAfter)
}

// fromHere reports whether the caller is on this machine, and not a proxy on
// it that speaks for somebody else.
func (x *exchange) fromHere() bool {
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Real-Ip", "Via"} {
		if x.r.Header.Get(name) != "" {
			return false
		}
	}
	return peer(x.r).IsLoopback() && x.source.IsLoopback()
}
