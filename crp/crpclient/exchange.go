package crpclient

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"go.uber.org/zap"
)

// ruleNoVerdict is the one 403 that is about a request and not about us.
const ruleNoVerdict = "notify_without_verdict"

const (
	mostAnswer     = 64 << 10
	mostRetryAfter = 10 * time.Minute
)

// StatusError is an answer of the registration point that is neither a verdict
// nor a receipt.
type StatusError struct {
	Status int
	Rule   string        // which rule was broken there, "" when it named none
	Wait   time.Duration // its Retry-After, at most ten minutes; 0: it did not say
}

// RetryAfter is how long the registration point asked to be left alone.
func (e *StatusError) RetryAfter() time.Duration { return e.Wait }

// Error says what happened and where to look.
func (e *StatusError) Error() string {
	s := fmt.Sprintf("registration point answered %d", e.Status)
	if e.Rule != "" {
		s += " (" + e.Rule + ")"
	}
	return s + "; " + e.hint()
}

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

// rules are names, not prose: they become field values and labels.
var rules = regexp.MustCompile(`^[a-z0-9_]{1,64}$`)

// post sends a question and returns status and body of an answer of status
// 2xx. Any other is a *StatusError.
func (c *Client) post(ctx context.Context, path string, question any) (int, []byte, error) {
	body, err := json.Marshal(question)
	if err != nil {
		return 0, nil, fmt.Errorf("writing the question: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, c.config.Timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, fmt.Errorf("registration point: %w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, application/problem+json")
	r.Header.Set("User-Agent", c.config.UserAgent)
	r.Header["Idempotency-Key"] = nil // not sent; net/http may repeat what met a closed connection
	began := c.config.Clock()
	answer, err := c.http.Do(r)
	if err != nil {
		return 0, nil, fmt.Errorf("asking the registration point: %w; is it up, and do both sides trust the other's certificate?", err)
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(io.LimitReader(answer.Body, mostAnswer+1))
	c.config.Log.Debug("registration point asked", zap.String("path", path), zap.Int("http_status", answer.StatusCode),
		zap.Duration("duration", c.config.Clock().Sub(began)))
	if answer.StatusCode/100 != 2 {
		refused := c.statusError(answer, content)
		if refused.Status == http.StatusForbidden && refused.Rule != ruleNoVerdict {
			c.refused.Store(refused)
		} else if refused.Rule != "" { // a registration point, and it knows us
			c.refused.Store(nil)
		}
		return 0, nil, refused
	}
	c.refused.Store(nil)
	switch {
	case err != nil:
		return 0, nil, fmt.Errorf("reading the registration point's answer: %w", err)
	case len(content) > mostAnswer:
		return 0, nil, fmt.Errorf("the registration point's answer is longer than %d octets; is url the address of a certconnector?", mostAnswer)
	case len(content) > 0 && mediaType(answer) != "application/json":
		return 0, nil, fmt.Errorf("the registration point's answer is not JSON; is url the address of a certconnector?")
	}
	return answer.StatusCode, content, nil
}

func mediaType(answer *http.Response) string {
	t, _, err := mime.ParseMediaType(answer.Header.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return t
}

func (c *Client) statusError(answer *http.Response, content []byte) *StatusError {
	e := &StatusError{Status: answer.StatusCode, Wait: c.retryAfter(answer.Header.Get("Retry-After"))}
	var problem struct {
		Rule string `json:"rule"`
	}
	if mediaType(answer) == "application/problem+json" && json.Unmarshal(content, &problem) == nil && rules.MatchString(problem.Rule) {
		e.Rule = problem.Rule
	}
	return e
}

// retryAfter reads seconds or a date (RFC 9110, section 10.2.3).
func (c *Client) retryAfter(value string) time.Duration {
	var wait time.Duration
	if n, err := strconv.ParseUint(value, 10, 31); err == nil {
		wait = time.Duration(n) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		wait = at.Sub(c.config.Clock())
	}
	return min(max(wait, 0), mostRetryAfter)
}
