package webauth

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/certconnector/certconnector/internal/forwarded"
)

// Authenticator tells who asks by whatever a listener takes: certificates,
// passwords, or both.
type Authenticator struct {
	Passwords    *Passwords    // nil: no passwords
	Certificates *Certificates // nil: no certificates
	Realm        string        // what a browser shows when it asks for a password; "": certconnector
}

// Identify returns the caller's configured name, or a *Refusal. A certificate
// that was shown decides, even where a password came along: that a caller has
// a wrong certificate is never hidden behind a right password. What a trusted
// proxy handed on is judged as if it had been shown here (see internal/forwarded).
func (a *Authenticator) Identify(r *http.Request) (name string, err error) {
	shown := len(forwarded.ClientCertificates(r)) > 0
	switch {
	case a.Certificates != nil && (shown || a.Passwords == nil):
		return a.Certificates.IdentifyRequest(r)
	case a.Passwords != nil:
		return a.Passwords.Identify(r)
	}
	return "", errors.New("neither certificates nor passwords are configured")
}

// Refuse answers a request that Identify refused with err. Credentials that
// are missing or wrong are 401 and ask for HTTP Basic; a source that failed
// too often is told 429 and Retry-After; certificates, and passwords that
// would come without TLS, are 403, so that no client is invited to send its
// password in the clear. The body is a problem (RFC 9457) that names the rule
// and no more. Any other error is 500.
func (a *Authenticator) Refuse(w http.ResponseWriter, _ *http.Request, err error) {
	refusal, ok := errors.AsType[*Refusal](err)
	if !ok {
		problem(w, http.StatusInternalServerError, "")
		return
	}
	status := http.StatusForbidden
	switch refusal.Rule {
	case RuleNoCredentials, RuleWrongCredentials:
		status = http.StatusUnauthorized
		w.Header().Set("WWW-Authenticate", `Basic realm=`+quote(a.Realm)+`, charset="UTF-8"`)
	case RuleLimited:
		status = http.StatusTooManyRequests
		w.Header().Set("Retry-After", retryAfter(refusal.RetryAfter))
	}
	problem(w, status, refusal.Rule)
}

// retryAfter is a number of seconds, at least one (RFC 9110, section 10.2.3).
func retryAfter(wait time.Duration) string {
	return strconv.Itoa(int(math.Ceil(max(wait, time.Second).Seconds())))
}

// quote makes a quoted-string of RFC 9110, section 5.6.4.
func quote(realm string) string {
	if realm == "" {
		realm = "certconnector"
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range []byte(realm) {
		switch {
		case c < ' ' || c == 0x7f:
			continue
		case c == '"' || c == '\\':
			b.WriteByte('\\')
		}
		b.WriteByte(c)
	}
	b.WriteByte('"')
	return b.String()
}

// problem answers with problem details.
func problem(w http.ResponseWriter, status int, rule string) {
	body, err := json.Marshal(struct {
		Title  string `json:"title"`
		Status int    `json:"status"`
		Rule   string `json:"rule,omitempty"`
	}{http.StatusText(status), status, rule})
	if err != nil { // texts and a number always encode
		body = []byte("{}")
	}
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(body) // the caller may have gone
}
