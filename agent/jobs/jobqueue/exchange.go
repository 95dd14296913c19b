package jobqueue

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/certconnector/certconnector/internal/mtls"
)

// The paths at the queue, below its base address.
const (
	downloadPath = "/CertificateJobs/download"
	uploadPath   = "/CertificateJobs/uploadResults"
)

// MaxUpload is the most results that one upload carries.
const MaxUpload = 500

const peer = "job queue"

const (
	mostAnswer     = 8 << 20 // 500 jobs of 16 KiB
	mostRetryAfter = 24 * time.Hour
)

var (
	// ErrNotReached is wrapped by errors about a question that surely did not
	// reach the queue.
	ErrNotReached = mtls.ErrNotReached
	// ErrNotTaken says that the queue understood an upload and did not record it.
	ErrNotTaken = errors.New("the job queue did not take the results")
)

// StatusError is an answer that is no 200. Its Wait is a day at most.
type StatusError struct{ mtls.Refusal }

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
	s := e.Refusal.Error()
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
	answer, err := c.mtls.Post(ctx, path, question)
	if refused, ok := errors.AsType[*mtls.Refusal](err); ok {
		return nil, &StatusError{*refused}
	}
	if err == nil && answer.Status != http.StatusOK {
		err = &StatusError{mtls.Refusal{Peer: peer, Status: answer.Status}}
	}
	return answer.Content, err
}
