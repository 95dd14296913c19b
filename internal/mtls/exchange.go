package mtls

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/internal/proxy"
)

// The media types of answers.
const (
	jsonType    = "application/json"
	problemType = "application/problem+json"
)

// ErrNotReached is wrapped by errors about a question that surely did not
// reach the peer.
var ErrNotReached = errors.New("not reached")

// Refusal is an answer that is no 2xx.
type Refusal struct {
	Peer   string
	Status int
	Rule   string        // which rule was broken there, "" when it named none
	Wait   time.Duration // its Retry-After, at most MostRetryAfter; 0: it did not say
}

// RetryAfter is how long the peer asked to be left alone.
func (e *Refusal) RetryAfter() time.Duration { return e.Wait }

// Error says what was answered; what to do about it the caller knows.
func (e *Refusal) Error() string {
	s := fmt.Sprintf("%s answered %d", e.Peer, e.Status)
	if e.Rule != "" {
		s += " (" + e.Rule + ")"
	}
	return s
}

var rules = regexp.MustCompile(`^[a-z0-9_]{1,64}$`)

// IsRule reports whether what a peer calls a rule is a name and not prose:
// rules become field values and labels.
func IsRule(name string) bool { return rules.MatchString(name) }

// Answer is an answer of status 2xx.
type Answer struct {
	Status  int
	Content []byte // of type application/json, or empty
}

// Post sends a question as JSON to a path below the base address. An answer
// that is no 2xx is a *Refusal.
func (c *Client) Post(ctx context.Context, path string, question any) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, c.config.Timeout)
	defer cancel()
	r, err := c.request(ctx, path, question)
	if err != nil {
		return Answer{}, err
	}
	began := c.config.Clock()
	answer, err := c.http.Do(r)
	if err != nil {
		if refused, ok := errors.AsType[*proxy.Error](err); ok { // names its own way out
			return Answer{}, fmt.Errorf("the %s was %w: %w", c.config.Peer, ErrNotReached, refused)
		}
		if opened, ok := errors.AsType[*net.OpError](err); ok && opened.Op == "dial" {
			return Answer{}, fmt.Errorf("the %s was %w: %w; is it up?", c.config.Peer, ErrNotReached, err)
		}
		return Answer{}, fmt.Errorf("asking the %s: %w; do both sides trust the other's certificate?", c.config.Peer, err)
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(io.LimitReader(answer.Body, c.config.MostAnswer+1))
	c.config.Log.Debug(c.config.Peer+" asked", zap.String("path", path), zap.Int("http_status", answer.StatusCode),
		zap.Duration("duration", c.config.Clock().Sub(began)))
	switch {
	case answer.StatusCode/100 != 2:
		return Answer{}, c.refusal(answer, content)
	case err != nil:
		return Answer{}, fmt.Errorf("reading the answer of the %s: %w", c.config.Peer, err)
	case int64(len(content)) > c.config.MostAnswer:
		return Answer{}, fmt.Errorf("the answer of the %s is longer than %d octets; is url the address of one?", c.config.Peer, c.config.MostAnswer)
	case len(content) > 0 && mediaType(answer) != jsonType:
		return Answer{}, fmt.Errorf("the answer of the %s is not JSON; is url the address of one?", c.config.Peer)
	}
	return Answer{answer.StatusCode, content}, nil
}

func (c *Client) request(ctx context.Context, path string, question any) (*http.Request, error) {
	body, err := json.Marshal(question)
	if err != nil {
		return nil, fmt.Errorf("writing the question: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.config.Peer, err)
	}
	r.Header.Set("Content-Type", jsonType)
	r.Header.Set("Accept", jsonType+", "+problemType)
	r.Header.Set("User-Agent", c.config.UserAgent)
	if c.config.Repeatable {
		r.Header["Idempotency-Key"] = nil // not sent; net/http then repeats what met a closed connection
	}
	return r, nil
}

func mediaType(answer *http.Response) string {
	t, _, err := mime.ParseMediaType(answer.Header.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return t
}

func (c *Client) refusal(answer *http.Response, content []byte) *Refusal {
	e := &Refusal{Peer: c.config.Peer, Status: answer.StatusCode, Wait: c.retryAfter(answer.Header.Get("Retry-After"))}
	var problem struct {
		Rule string `json:"rule"`
	}
	if mediaType(answer) == problemType && json.Unmarshal(content, &problem) == nil && IsRule(problem.Rule) {
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
	return min(max(wait, 0), c.config.MostRetryAfter)
}
