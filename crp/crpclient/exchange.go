package crpclient

import (
	"context"
	"errors"
	"net/http"

	"github.com/certconnector/certconnector/internal/mtls"
)

// ruleNoVerdict is the one 403 that is about a request and not about us.
const ruleNoVerdict = "notify_without_verdict"

// StatusError is an answer of the registration point that is neither a verdict
// nor a receipt. Its Wait is ten minutes at most.
type StatusError struct{ mtls.Refusal }

// Error says what happened and where to look.
func (e *StatusError) Error() string { return e.Refusal.Error() + "; " + e.hint() }

func (e *StatusError) hint() string {
	switch e.Status {
	case http.StatusForbidden:
		if e.Rule == ruleNoVerdict {
			return "it has no record of having granted this request: was its state restored from a backup?"
		}
		return "see its log and its registration_point.front_ends: it does not serve this certificate, or not for this tenant"
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType:
		return "are both sides of the same version?"
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return "is url the address of a certconnector with the face crp?"
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		return "it will be asked again"
	}
	return "see its log"
}

// post sends a question and returns status and body of an answer of status
// 2xx. Any other is a *StatusError.
func (c *Client) post(ctx context.Context, path string, question any) (int, []byte, error) {
	answer, err := c.mtls.Post(ctx, path, question)
	if refusal, ok := errors.AsType[*mtls.Refusal](err); ok {
		refused := &StatusError{*refusal}
		if refused.Status == http.StatusForbidden && refused.Rule != ruleNoVerdict {
			c.refused.Store(refused)
		} else if refused.Rule != "" { // a registration point, and it knows us
			c.refused.Store(nil)
		}
		return 0, nil, refused
	}
	if err == nil {
		c.refused.Store(nil)
	}
	return answer.Status, answer.Content, err
}
