package jobqueue

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
)

// The paths at the queue, below its base address.
const (
	downloadPath = "/CertificateJobs/download"
	uploadPath   = "/CertificateJobs/uploadResults"
)

// MaxUpload is the most results that one upload carries.
const MaxUpload = 500

const (
	mostAnswer     = 8 << 20 // 500 jobs of 16 KiB
	mostRetryAfter = 24 * time.Hour
)

var (
	// ErrNotReached is wrapped by errors about a question that surely did not
	// reach the queue.
	ErrNotReached = errors.New("the job queue was not reached")
	// ErrNotTaken says that the queue understood an upload and did not record it.
	ErrNotTaken = errors.New("the job queue did not take the results")
)

// StatusError is an answer that is no 200.
type StatusError struct {
	Status int
	Rule   string        // which rule was broken there, "" when it named none
	Wait   time.Duration // its Retry-After, at most a day; 0: it did not say
}

// RetryAfter is how long the queue asked to be left alone.
func (e *StatusError) RetryAfter() time.Duration { return e.Wait }

// Gone reports whether the queue says that there is no such interface.
func (e *StatusError) Gone() bool {
	return e.Status == http.StatusNotFound || e.Status == http.StatusGone
}

// Final reports whether sending the same again is of no use: the queue itself,
// not something before it, refused what was sent and named the rule. A refused
// result costs its certificate, so a bare status is not believed.
func (e *StatusError) Final() bool {
	switch e.Status {
	case http.StatusBadRequest, http.StatusConflict, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return e.Rule != ""
	}
	return false
}

// Error says what happened and where to look.
func (e *StatusError) Error() string {
	s := fmt.Sprintf("job queue answered %d", e.Status)
	if e.Rule != "" {
		s += " (" + e.Rule + ")"
	}
	switch {
	case e.Gone():
		return s + "; is url the address of a job queue?"
	case e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden:
		return s + "; it does not serve our client certificate"
	case e.Final():
		return s + "; it will not take this"
	}
	return s + "; it will be asked again"
}

// rules are names, not prose: they become field values and labels.
var rules = regexp.MustCompile(`^[a-z0-9_]{1,64}$`)

// Download asks for at most limit jobs, 1 to 500. None is no error.
func (c *Client) Download(ctx context.Context, limit int) (Batch, error) {
	limit = min(max(limit, 1), mostElements)
	type parameters struct {
		MaxRequests int `json:"maxRequests"`
	}
	content, err := c.post(ctx, downloadPath, struct {
		Parameters parameters `json:"downloadParameters"`
	}{parameters{limit}})
	if err != nil {
		return Batch{}, err
	}
	return readBatch(content, limit)
}

// Upload hands over 1 to 500 results. nil: the queue has all of them. With an
// error it may have none or all: the same results may be sent again.
func (c *Client) Upload(ctx context.Context, results []Result) error {
	if len(results) == 0 || len(results) > MaxUpload {
		return fmt.Errorf("an upload carries 1 to %d results, not %d", MaxUpload, len(results))
	}
	var body struct {
		Results []resultBody `json:"results"`
	}
	for _, r := range results {
		b, err := r.body()
		if err != nil {
			return err
		}
		body.Results = append(body.Results, b)
	}
	content, err := c.post(ctx, uploadPath, body)
	if err != nil {
		return err
	}
	taken, err := readReceipt(content)
	if err == nil && !taken {
		err = ErrNotTaken
	}
	return err
}

// post sends a question and returns the body of an answer of status 200. Any
// other is a *StatusError.
func (c *Client) post(ctx context.Context, path string, question any) ([]byte, error) {
	body, err := json.Marshal(question)
	if err != nil {
		return nil, fmt.Errorf("writing the question: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, c.config.Timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("job queue: %w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, application/problem+json")
	r.Header.Set("User-Agent", c.config.UserAgent)
	began := c.config.Clock()
	answer, err := c.http.Do(r)
	if err != nil {
		if opened, ok := errors.AsType[*net.OpError](err); ok && opened.Op == "dial" {
			return nil, fmt.Errorf("%w: %w; is it up?", ErrNotReached, err)
		}
		return nil, fmt.Errorf("asking the job queue: %w; do both sides trust the other's certificate?", err)
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(io.LimitReader(answer.Body, mostAnswer+1))
	c.config.Log.Debug("job queue asked", zap.String("path", path), zap.Int("http_status", answer.StatusCode),
		zap.Duration("duration", c.config.Clock().Sub(began)))
	switch {
	case answer.StatusCode != http.StatusOK:
		return nil, c.statusError(answer, content)
	case err != nil:
		return nil, fmt.Errorf("reading the job queue's answer: %w", err)
	case len(content) > mostAnswer:
		return nil, fmt.Errorf("the job queue's answer is longer than %d octets", mostAnswer)
	case mediaType(answer) != "application/json":
		return nil, errors.New("the job queue's answer is not JSON; is url the address of a job queue?")
	}
	return content, nil
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
