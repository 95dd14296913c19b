package proxy

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"unicode"
)

// Error says that a proxy opened no tunnel. Nothing was sent to the target.
// It names the proxy's address and never its user or password.
type Error struct {
	Address string   // of the proxy, host:port
	Target  string   // host:port that was asked for
	Status  int      // of its answer, 0 when there was none
	Offers  []string // the authentication schemes it takes, with Status 407
	SignsIn bool     // a user and a password were sent

	What string // without an answer: what it did
	Err  error  // without an answer: why
}

// Error says what the proxy did, and a way out.
func (e *Error) Error() string { return e.Cause() + "; " + e.Hint() }

// Cause is what the proxy did.
func (e *Error) Cause() string {
	who := "the proxy " + e.Address
	switch {
	case e.Status == 0:
		return fmt.Sprintf("%s %s: %v", who, e.What, e.Err)
	case e.Status == http.StatusProxyAuthRequired && e.SignsIn:
		return who + " refused user and password (HTTP 407)"
	case e.Status == http.StatusProxyAuthRequired:
		return who + " wants a user and a password (HTTP 407)"
	case e.Status == http.StatusForbidden:
		return fmt.Sprintf("%s forbids %s (HTTP 403)", who, e.Target)
	case e.Status >= 500:
		return fmt.Sprintf("%s does not reach %s (HTTP %d)", who, e.Target, e.Status)
	}
	return fmt.Sprintf("%s opens no tunnel to %s (HTTP %d)", who, e.Target, e.Status)
}

// Unwrap returns the network's own error, nil when the proxy answered.
func (e *Error) Unwrap() error { return e.Err }

// WantsPerson reports that trying again is of no use, and may lock an account:
// the proxy did not take user and password.
func (e *Error) WantsPerson() bool { return e.Status == http.StatusProxyAuthRequired }

// Hint is the way out, in terms of the configuration.
func (e *Error) Hint() string {
	switch {
	case e.Status == http.StatusProxyAuthRequired && len(e.Offers) > 0 && !slices.ContainsFunc(e.Offers, isBasic):
		return "it takes " + strings.Join(e.Offers, " and ") + ", and only Basic is spoken here: have it let this host through without a sign-in"
	case e.Status == http.StatusProxyAuthRequired && e.SignsIn:
		return "check proxy.user and proxy.password; it is asked again after five minutes at the earliest"
	case e.Status == http.StatusProxyAuthRequired:
		return "set proxy.user and proxy.password"
	case e.Status == http.StatusForbidden:
		return "have it allow CONNECT to this host and port"
	case e.Status >= 500:
		return "look into its log: its name resolution or its own way out"
	case e.Status != 0:
		return "check that proxy.url is the address of an HTTP proxy"
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](e.Err); ok {
		return "name the root of its certificate in proxy.ca_file"
	}
	if e.What == notHTTP {
		return "check proxy.url: the port, and https:// for a proxy that speaks TLS"
	}
	return "check proxy.url, and that the proxy runs"
}

// notHTTP is what something does that is no proxy.
const notHTTP = "gave no answer of HTTP"

func isBasic(scheme string) bool { return strings.EqualFold(scheme, "Basic") }

func (t *tunneller) failed(target, what string, err error) error {
	return &Error{Address: t.address, Target: target, What: what, Err: err}
}

func (t *tunneller) refused(target string, answer *http.Response) error {
	e := &Error{Address: t.address, Target: target, Status: answer.StatusCode, SignsIn: t.config.User != ""}
	if e.Status == http.StatusProxyAuthRequired {
		e.Offers = schemes(answer.Header.Values("Proxy-Authenticate"))
	}
	return e
}

// schemes are the names of authentication schemes, one a header: what else a
// proxy says of itself is nobody's business.
func schemes(headers []string) (names []string) {
	for _, h := range headers[:min(len(headers), 8)] {
		name, _, _ := strings.Cut(strings.TrimSpace(h), " ")
		if name != "" && len(name) <= 32 && !strings.ContainsFunc(name, func(r rune) bool {
			return r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '-'
		}) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}
