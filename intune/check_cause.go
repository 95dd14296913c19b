package intune

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/certconnector/certconnector/internal/proxy"
)

// Differences of clocks: Entra ID takes assertions that are off by five
// minutes at most.
const (
	skewWarning = time.Minute
	skewFailure = 5 * time.Minute
	endsSoon    = 30 * 24 * time.Hour // a certificate
)

// dates remembers by how much our clock differs from that of whoever answered
// last.
type dates struct {
	base  http.RoundTripper
	clock func() time.Time

	mu    sync.Mutex
	known bool
	skew  time.Duration // theirs minus ours
	host  string
}

// RoundTrip implements http.RoundTripper.
func (d *dates) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := d.base.RoundTrip(req)
	if err != nil {
		return resp, err
	}
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		d.mu.Lock()
		d.known, d.skew, d.host = true, date.Sub(d.clock()), req.URL.Host
		d.mu.Unlock()
	}
	return resp, nil
}

// CloseIdleConnections closes those of the transport below.
func (d *dates) CloseIdleConnections() {
	if t, ok := d.base.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// difference says how the clocks differ, or "".
func (d *dates) difference() (skew time.Duration, text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.known {
		return 0, ""
	}
	side := "behind"
	if d.skew < 0 {
		side = "ahead of"
	}
	return d.skew.Abs(), fmt.Sprintf("this host's clock is %s %s that of %s", d.skew.Abs().Round(time.Second), side, d.host)
}

const setClock = "set this host's clock, by NTP: Entra ID takes a difference of five minutes at most"

// checkClock compares the clocks, unless that was said already.
func (d *diagnosis) checkClock() {
	skew, text := d.dates.difference()
	switch {
	case text == "" || d.has(CheckClock):
	case skew >= skewFailure:
		d.add(fail(CheckClock, setClock, "%s", text))
	case skew >= skewWarning:
		d.add(Finding{ID: CheckClock, Level: Warning, Fix: setClock, Text: text})
	default:
		d.add(fine(CheckClock, "the clocks agree"))
	}
}

// checkCredential looks at the dates of certificates before anybody is asked.
func (d *diagnosis) checkCredential() {
	cfg := d.client.config
	if cfg.Credential.Certificates == nil {
		return
	}
	now := cfg.Clock()
	var last *x509.Certificate
	for _, c := range cfg.Credential.Certificates() {
		if last == nil || c.Certificate.NotAfter.After(last.NotAfter) {
			last = c.Certificate
		}
	}
	const renew = `make and upload another: docs/entra.md, or let the service do so with "credential: {managed: {}}"`
	switch ends := last.NotAfter.UTC().Format(time.DateOnly); {
	case now.After(last.NotAfter):
		d.add(fail(CheckCredential, renew, "the certificate %s expired on %s", thumbprintOf(last.Raw), ends))
	case now.Before(last.NotBefore):
		d.add(fail(CheckClock, setClock, "the certificate %s is not valid before %s: was it made while the clock was ahead?",
			thumbprintOf(last.Raw), last.NotBefore.UTC().Format(time.RFC3339)))
	case last.NotAfter.Sub(now) < endsSoon:
		d.add(Finding{ID: CheckCredential, Level: Warning, Fix: renew, Text: "the certificate " + thumbprintOf(last.Raw) + " ends on " + ends})
	default:
		d.add(fine(CheckCredential, "the certificate %s is valid until %s", thumbprintOf(last.Raw), ends))
	}
}

// cause says why a call failed.
func (d *diagnosis) cause(err error) Finding {
	if e, ok := errors.AsType[*AuthError](err); ok {
		return d.authCause(e)
	}
	if e, ok := errors.AsType[*NetworkError](err); ok {
		return d.networkCause(e)
	}
	if e, ok := errors.AsType[*HTTPError](err); ok {
		return d.httpCause(e)
	}
	return fail(CheckReach, "look at what answers there: a proxy, a captive portal, or another cloud than the configured one", "%v", err)
}

// authCauses are the findings of Entra ID's errors; the hints are those of the
// log.
var authCauses = map[int]struct {
	id    string
	waits bool
}{
	7000215: {CheckCredential, false},
	7000222: {CheckCredential, false},
	7000218: {CheckCredential, false},
	700016:  {CheckApplication, true}, // a new registration takes its time
	7000112: {CheckApplication, false},
	90002:   {CheckTenant, false},
	900023:  {CheckTenant, false},
	500011:  {CheckLicence, false},
	53003:   {CheckSignIn, false},
}

// authCause says why Entra ID gave no token.
func (d *diagnosis) authCause(e *AuthError) Finding {
	skew, differ := d.dates.difference()
	known, listed := authCauses[e.AADSTS]
	switch {
	case e.Status == 0 && e.AADSTS == 0:
		return fail(CheckConfig, "correct the credential of the tenant", "%v", e)
	case e.AADSTS == 700024, e.AADSTS == 700027 && skew >= skewFailure:
		if differ != "" {
			differ = "; " + differ
		}
		return fail(CheckClock, setClock, "Entra ID finds the sign-in outside its valid time (AADSTS%d)%s", e.AADSTS, differ)
	case e.AADSTS == 700027:
		return d.unknownCertificate()
	case listed:
		f := fail(known.id, e.Hint(), "%s", withHint(fmt.Sprintf("AADSTS%d", e.AADSTS), e.Description, ""))
		f.Waits = known.waits
		return f
	}
	f := fail(CheckSignIn, "look for the code at https://login.microsoftonline.com/error, and in the sign-in log of the tenant (Service principal sign-ins)", "%v", e)
	f.Waits = e.Retryable
	return f
}

func (d *diagnosis) unknownCertificate() Finding {
	var list []string
	if certs := d.client.config.Credential.Certificates; certs != nil {
		for _, c := range certs() {
			list = append(list, thumbprintOf(c.Certificate.Raw))
		}
	}
	f := fail(CheckCredential, "upload the certificate to the app registration "+d.client.config.ClientID+
		" (Certificates & secrets, Certificates) and compare the thumbprint; Entra ID then takes some minutes",
		"Entra ID does not know the certificate %s, or not yet (AADSTS700027)", strings.Join(list, ", "))
	f.Waits = true
	return f
}

// httpCause says why Graph or Intune refused.
func (d *diagnosis) httpCause(e *HTTPError) Finding {
	id, waits := CheckServices, e.Status >= 500 || e.Status == http.StatusTooManyRequests
	_, graph := graphPermissions[e.Call]
	denied := e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden
	switch {
	case graph && denied:
		id = CheckRegistration
	case e.Call == callDiscovery && denied:
		id, waits = CheckGraph, true
	case e.Call == callDiscovery && e.Status == http.StatusNotFound:
		id = CheckLicence
	case denied:
		id, waits = CheckIntune, true
	case e.Status == http.StatusBadRequest:
		id = CheckVerdict
	}
	fix := e.Hint()
	if fix == "" {
		fix = "try again later; give the activity to Microsoft's support if it stays"
	}
	f := fail(id, fix, "%s", withHint(fmt.Sprintf("%s at %s: HTTP %d %s (activity %s)", e.Call, e.Host, e.Status, e.Code, e.ActivityID), e.Message, ""))
	f.Waits = waits
	return f
}

// networkCause says why no answer came, or none that can be trusted.
func (d *diagnosis) networkCause(e *NetworkError) Finding {
	text := fmt.Sprintf("%s (%s): %v", e.Host, e.Call, e.Err)
	const open = "let this host reach the cloud's hosts on port 443 (docs/intune.md, section 2), or name the proxy: tenants[].proxy or HTTPS_PROXY"
	if p, ok := errors.AsType[*proxy.Error](e.Err); ok { // first: a certificate in it is the proxy's own
		return fail(CheckReach, "tenants[].proxy or HTTPS_PROXY: "+p.Hint(), "%s (%s): %s", e.Host, e.Call, p.Cause())
	}
	if v, ok := errors.AsType[*tls.CertificateVerificationError](e.Err); ok {
		return untrusted(e.Host, v)
	}
	f := fail(CheckReach, open, "%s", text)
	dns, unresolved := errors.AsType[*net.DNSError](e.Err)
	switch {
	case unresolved && dns.IsNotFound:
		f.Fix = "the name is not known here: see to DNS, or to urls of the tenant; behind a proxy, name it: tenants[].proxy or HTTPS_PROXY"
	case errors.Is(e.Err, context.DeadlineExceeded):
		f.Waits = true
	}
	return f
}

// untrusted says whose certificate was shown in place of the cloud's.
func untrusted(host string, v *tls.CertificateVerificationError) Finding {
	shown := v.UnverifiedCertificates[0]
	issuer := issuerName(shown.Issuer)
	if _, unknown := errors.AsType[x509.UnknownAuthorityError](v.Err); unknown {
		return fail(CheckReach, "something between here and the cloud opens TLS: have it leave these hosts alone (Microsoft asks for that), or name its root in ca_file of the tenant",
			"%s shows a certificate of %q, which this host does not trust", host, issuer)
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](v.Err); ok && invalid.Reason == x509.Expired {
		return fail(CheckClock, setClock+"; or what opens TLS on the way has an old certificate",
			"the certificate of %s, by %q, is not valid now: %s to %s", host, issuer, shown.NotBefore.UTC().Format(time.RFC3339), shown.NotAfter.UTC().Format(time.RFC3339))
	}
	return fail(CheckReach, "see to urls of the tenant, and to what answers at that address", "%s shows a certificate that is not its own, by %q: %v", host, issuer, v.Err)
}
