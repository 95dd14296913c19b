package cloud

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/certconnector/certconnector/agent/jobs/jobqueuetest"
	"github.com/certconnector/certconnector/cmd/certlab/loopback"
	"github.com/certconnector/certconnector/intune/intunetest"
)

// Remote is a cloud in another process, by its control API. It is safe for
// concurrent use.
type Remote struct {
	base string
	http *http.Client
}

// Dial returns the cloud whose control API is at the given address, as
// http://127.0.0.1:9003/control/. Only loopback addresses are taken.
func Dial(control string) (*Remote, error) {
	if err := loopback.Check(control); err != nil {
		return nil, fmt.Errorf("control API: %w", err)
	}
	return &Remote{
		base: strings.TrimSuffix(control, "/") + "/",
		http: &http.Client{Transport: loopback.Transport(nil, 8), Timeout: 10 * time.Second},
	}, nil
}

// Info says where the cloud is and how to sign in to it.
func (r *Remote) Info(ctx context.Context) (intunetest.Info, error) {
	return call[intunetest.Info](ctx, r, http.MethodGet, "info", nil)
}

// Challenge asks for a challenge and what to put into the request beside it.
func (r *Remote) Challenge(ctx context.Context, ask intunetest.Ask) (intunetest.Challenge, error) {
	return call[intunetest.Challenge](ctx, r, http.MethodPost, "challenges", ask)
}

// Fail puts a fault on an endpoint for a number of calls, or for always.
func (r *Remote) Fail(ctx context.Context, e intunetest.Endpoint, times int, f intunetest.Fault) error {
	_, err := call[any](ctx, r, http.MethodPost, "faults", map[string]any{"endpoint": e, "times": times, "fault": f})
	return err
}

// Heal takes all faults away.
func (r *Remote) Heal(ctx context.Context) error {
	_, err := call[any](ctx, r, http.MethodDelete, "faults", nil)
	return err
}

// Notifications returns the reports that the cloud has taken, oldest first.
func (r *Remote) Notifications(ctx context.Context) ([]intunetest.Notification, error) {
	return call[[]intunetest.Notification](ctx, r, http.MethodGet, "notifications", nil)
}

// Calls returns the journal of all calls, oldest first.
func (r *Remote) Calls(ctx context.Context) ([]intunetest.Call, error) {
	return call[[]intunetest.Call](ctx, r, http.MethodGet, "calls", nil)
}

// Revoke asks for the revocation of a certificate that was reported, by its
// serial number.
func (r *Remote) Revoke(ctx context.Context, serial string) (intunetest.Revocation, error) {
	list, err := call[[]intunetest.Revocation](ctx, r, http.MethodPost, "revocations", map[string]any{"serial": serial})
	if err == nil && len(list) != 1 {
		err = fmt.Errorf("control API: %d revocations were queued for serial %s, want one", len(list), serial)
	}
	if err != nil {
		return intunetest.Revocation{}, err
	}
	return list[0], nil
}

// Revocations returns what the cloud wants revoked and what it was told of it,
// oldest first.
func (r *Remote) Revocations(ctx context.Context) ([]intunetest.Revocation, error) {
	return call[[]intunetest.Revocation](ctx, r, http.MethodGet, "revocations", nil)
}

// Contradictions returns the revocations of which the cloud was told two fates.
func (r *Remote) Contradictions(ctx context.Context) ([]intunetest.Contradiction, error) {
	return call[[]intunetest.Contradiction](ctx, r, http.MethodGet, "contradictions", nil)
}

// Keys returns the certificates of the app registrations, oldest first.
func (r *Remote) Keys(ctx context.Context) ([]intunetest.Key, error) {
	return call[[]intunetest.Key](ctx, r, http.MethodGet, "keys", nil)
}

// RemoteQueue is the queue of issuance jobs of a cloud in another process. It
// is safe for concurrent use.
type RemoteQueue struct{ api *Remote }

// DialQueue returns the queue whose control API is at the given address. Only
// loopback addresses are taken.
func DialQueue(control string) (*RemoteQueue, error) {
	r, err := Dial(control)
	if err != nil {
		return nil, err
	}
	return &RemoteQueue{r}, nil
}

// Add queues jobs.
func (q *RemoteQueue) Add(ctx context.Context, jobs ...jobqueuetest.Job) error {
	_, err := call[any](ctx, q.api, http.MethodPost, "jobs", jobs)
	return err
}

// Results returns what the queue was told, by context.
func (q *RemoteQueue) Results(ctx context.Context) (map[string]jobqueuetest.Result, error) {
	return call[map[string]jobqueuetest.Result](ctx, q.api, http.MethodGet, "results", nil)
}

// Waiting returns the contexts of jobs without a final result.
func (q *RemoteQueue) Waiting(ctx context.Context) ([]string, error) {
	return call[[]string](ctx, q.api, http.MethodGet, "waiting", nil)
}

// Contradictions returns the jobs of which the queue was told two fates.
func (q *RemoteQueue) Contradictions(ctx context.Context) ([]jobqueuetest.Contradiction, error) {
	return call[[]jobqueuetest.Contradiction](ctx, q.api, http.MethodGet, "contradictions", nil)
}

// call sends one order and reads its answer.
func call[T any](ctx context.Context, r *Remote, method, order string, body any) (answer T, err error) {
	var content io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return answer, fmt.Errorf("control API, %s: %w", order, err)
		}
		content = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, r.base+order, content)
	if err != nil {
		return answer, fmt.Errorf("control API, %s: %w", order, err)
	}
	resp, err := r.http.Do(req)
	if err != nil {
		return answer, fmt.Errorf("control API, %s: %w", order, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 256<<20))
	if err != nil {
		return answer, fmt.Errorf("control API, %s: %w", order, err)
	}
	if resp.StatusCode != http.StatusOK {
		return answer, fmt.Errorf("control API, %s: status %d: %.200s", order, resp.StatusCode, b)
	}
	if err := json.Unmarshal(b, &answer); err != nil {
		return answer, fmt.Errorf("control API, %s: %w", order, err)
	}
	return answer, nil
}
