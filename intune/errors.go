package intune

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/certconnector/certconnector/internal/proxy"
)

// ErrArgument says that a call was refused before any traffic: something that
// must be given is missing.
var ErrArgument = errors.New("bad argument")

// AuthError says that Entra ID gave no token.
type AuthError struct {
	AADSTS        int    // Entra ID's error number, 0 when it gave none
	OAuth         string // the OAuth error: invalid_client, …
	Description   string // Entra ID's words, shortened
	Status        int    // HTTP status
	CorrelationID string // what Microsoft's support asks for
	Retryable     bool   // the cause is expected to pass by itself
	After         time.Duration
}

// Error says what failed and what an operator can do about it.
func (e *AuthError) Error() string {
	s := fmt.Sprintf("no token from Entra ID: HTTP %d %s", e.Status, e.OAuth)
	switch {
	case e.Status == 0:
		s = "no token from Entra ID: " + e.OAuth
	case e.AADSTS != 0:
		s = fmt.Sprintf("no token from Entra ID: AADSTS%d (%s)", e.AADSTS, e.OAuth)
	}
	return withHint(s, e.Description, e.Hint())
}

// RetryAfter is how long Entra ID asked to be left alone, 0 when it did not say.
func (e *AuthError) RetryAfter() time.Duration { return e.After }

// Hint returns what an operator can do, or "".
func (e *AuthError) Hint() string { return authHints[e.AADSTS] }

// HTTPError says that Graph or Intune answered with a status that is no
// success.
type HTTPError struct {
	Call       string // discovery, validateRequest, …
	Host       string
	Status     int
	Code       string // error.code of the body, "" when there is none
	Message    string // error.message of the body, shortened
	ActivityID string // the client-request-id of the call, what Microsoft's support asks for
	RequestID  string // the request-id of the answer, "" when there is none
	After      time.Duration
}

// Error says what failed and what an operator can do about it.
func (e *HTTPError) Error() string {
	s := fmt.Sprintf("%s at %s: HTTP %d", e.Call, e.Host, e.Status)
	if e.Code != "" {
		s += " " + e.Code
	}
	ids := "activity " + e.ActivityID
	if e.RequestID != "" {
		ids += ", request " + e.RequestID
	}
	return withHint(s+" ("+ids+")", e.Message, e.Hint())
}

// RetryAfter is how long the service asked to be left alone, 0 when it did
// not say.
func (e *HTTPError) RetryAfter() time.Duration { return e.After }

// Hint returns what an operator can do, or "".
func (e *HTTPError) Hint() string {
	if e.Call == callDiscovery {
		return discoveryHints[e.Status]
	}
	if permission, ok := graphPermissions[e.Call]; ok {
		return graphHint(e.Call, permission, e.Status)
	}
	return serviceHints[e.Status]
}

// ProtocolError says that an answer could not be understood.
type ProtocolError struct {
	Call       string
	Detail     string
	ActivityID string
}

// Error says which answer and what is wrong with it.
func (e *ProtocolError) Error() string {
	return fmt.Sprintf("%s: answer not understood: %s (activity %s)", e.Call, e.Detail, e.ActivityID)
}

// NetworkError says that no whole answer came.
type NetworkError struct {
	Call    string
	Host    string
	Connect bool  // the host could not be found or reached, or showed a certificate that nobody vouches for: surely nothing was sent
	Err     error // a *proxy.Error where a proxy is in the way, an *InspectionError where the certificate is
}

// Error says which call failed and why.
func (e *NetworkError) Error() string {
	return fmt.Sprintf("%s at %s: no answer: %v", e.Call, e.Host, e.Err)
}

// Unwrap returns the network's own error.
func (e *NetworkError) Unwrap() error { return e.Err }

// ServiceNotFoundError says that the tenant's list of services does not have
// the one that is needed, or only at hosts that are not allowed.
type ServiceNotFoundError struct {
	Service string
	Refused []string // hosts that the allow-list keeps out
}

// Error says what is missing and what an operator can do about it.
func (e *ServiceNotFoundError) Error() string {
	if len(e.Refused) > 0 {
		return fmt.Sprintf("service %s is at %s: not in the list of service hosts; add it if it is Microsoft's",
			e.Service, strings.Join(e.Refused, ", "))
	}
	return fmt.Sprintf("service %s is not in the tenant's list: check the Intune licence, the MDM authority and the permission scep_challenge_provider", e.Service)
}

// ScepError is a final answer other than Success.
type ScepError struct {
	Code          Code   // Unknown when RawCode is none of the documented ones
	RawCode       string // as it came, shortened
	Description   string // Intune's words, shortened
	TransactionID string
	ActivityID    string
}

// Error gives the code and Intune's words.
func (e *ScepError) Error() string {
	s := "Intune answered " + e.RawCode
	return withHint(s+" (activity "+e.ActivityID+")", e.Description, "")
}

// Retryable tells whether the same call may succeed later without anyone
// doing anything about it.
func Retryable(err error) bool {
	if e, ok := errors.AsType[*AuthError](err); ok {
		return e.Retryable
	}
	if e, ok := errors.AsType[*HTTPError](err); ok {
		return e.Status == http.StatusRequestTimeout || e.Status == http.StatusTooManyRequests || e.Status >= 500
	}
	if _, ok := errors.AsType[*ProtocolError](err); ok {
		return true
	}
	if e, ok := errors.AsType[*proxy.Error](err); ok && e.WantsPerson() {
		return false
	}
	_, ok := errors.AsType[*NetworkError](err)
	return ok
}

// Final tells whether the service has decided: the same call will be answered
// the same way for ever. What is neither Final nor Retryable waits for an
// operator (a permission, a secret, a licence).
func Final(err error) bool {
	if _, ok := errors.AsType[*ScepError](err); ok {
		return true
	}
	e, ok := errors.AsType[*HTTPError](err)
	return ok && e.Status == http.StatusBadRequest && e.Call != callDiscovery
}

// RetryAfter returns how long the cloud asked to be left alone, at most ten
// minutes; 0 when it did not say.
func RetryAfter(err error) time.Duration {
	var asks interface{ RetryAfter() time.Duration }
	if errors.As(err, &asks) {
		return asks.RetryAfter()
	}
	return 0
}

// withHint appends the cloud's words and a way out to an error's text.
func withHint(s, words, hint string) string {
	if words != "" {
		s += ": " + words
	}
	if hint != "" {
		s += "; " + hint
	}
	return s
}

// authHints are ways out of Entra ID's errors.
var authHints = map[int]string{
	7000215: "the client secret is wrong: configure its value, not its ID",
	7000222: "the client secret has expired: make a new one in the app registration",
	700027:  "the certificate is not known: upload it to the app registration",
	700024:  "the sign-in is outside its valid time: check this host's clock",
	700016:  "the application is not in this tenant: check client ID and tenant ID",
	90002:   "the tenant does not exist: check tenant ID and cloud",
	500011:  "the tenant does not know the resource: check the cloud and that Intune was ever set up",
	7000218: "the sign-in carried no credential: configure a certificate",
	7000112: "the application is disabled in the tenant: enable it under Enterprise applications",
	900023:  "the tenant is neither a GUID nor a domain name of a tenant: check tenant ID",
	53003:   "a Conditional Access policy of the tenant forbids the sign-in: exempt the application (workload identities)",
	50196:   "too many sign-ins: something asks for tokens in a loop; wait a few minutes",
}

// discoveryHints are ways out of Graph's answers, by status.
var discoveryHints = map[int]string{
	http.StatusForbidden:    "grant Application.Read.All (application permission of Microsoft Graph) with admin consent",
	http.StatusUnauthorized: "Graph does not take this token: check that sign-in and Graph belong to one cloud",
	http.StatusNotFound:     "the tenant has no Intune service principal: check that it has Intune",
}

// serviceHints are ways out of Intune's answers, by status.
var serviceHints = map[int]string{
	http.StatusUnauthorized: "grant scep_challenge_provider (application permission of the Intune API) with admin consent",
	http.StatusForbidden:    "grant scep_challenge_provider (application permission of the Intune API) with admin consent",
	http.StatusBadRequest:   "the service does not understand this call: check the configured api-version",
}
