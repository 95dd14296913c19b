package control

import (
	"context"
	"errors"
	"net/http"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/ca"
)

// Error is what the service answered instead of doing what it was asked.
type Error struct {
	Code string `json:"code"` // one of the constants below
	Text string `json:"text"`
}

// Error returns the service's words.
func (e *Error) Error() string { return e.Text }

// Refused reports whether the service looked at the request and declined it,
// so that asking again changes nothing.
func (e *Error) Refused() bool {
	return e.Code == CodeNotFound || e.Code == CodeForbidden || e.Code == CodeInvalid
}

// The codes of an Error.
const (
	CodeInvalid     = "invalid"     // the request makes no sense
	CodeNotFound    = "not_found"   // no such request, certificate or CA
	CodeForbidden   = "forbidden"   // its state, or a missing right at the CA, does not allow it
	CodeUnavailable = "unavailable" // try again
	CodeUnknown     = "unknown"     // it may or may not have been done; try again
	CodeInternal    = "internal"    // look at the service's log
)

// translate turns an error of the agent into what the socket answers.
func translate(err error) (int, *Error) {
	if e, ok := errors.AsType[*Error](err); ok {
		return statusOf(e.Code), e
	}
	code := CodeInternal
	switch {
	case errors.Is(err, journal.ErrNotFound), errors.Is(err, ca.ErrNotFound):
		code = CodeNotFound
	case errors.Is(err, ca.ErrForbidden):
		code = CodeForbidden
	case errors.Is(err, journal.ErrLost):
		// Another worker holds the entry at this moment.
		code = CodeUnavailable
	case errors.Is(err, ca.ErrUnavailable):
		code = CodeUnavailable
	case errors.Is(err, ca.ErrOutcomeUnknown), errors.Is(err, context.DeadlineExceeded):
		code = CodeUnknown
	}
	return statusOf(code), &Error{Code: code, Text: err.Error()}
}

func statusOf(code string) int {
	switch code {
	case CodeInvalid:
		return http.StatusBadRequest
	case CodeNotFound:
		return http.StatusNotFound
	case CodeForbidden:
		return http.StatusForbidden
	case CodeUnavailable, CodeUnknown:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}
