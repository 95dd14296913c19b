// Package jobqueuetest simulates the queue at the other end of package
// jobqueue: with memory, leases and a cool-down, with faults on demand, and
// with a record of everything that a client should not have done. It shares no
// code with the client. The interface is our own, not Microsoft's format.
package jobqueuetest

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Options are what New needs.
type Options struct {
	Clock    func() time.Time // nil: time.Now
	Lease    time.Duration    // how long a downloaded job is not offered again; 0: 10 min
	CoolDown time.Duration    // how long after a download the next one is answered 429; 0: none

	// StateFile keeps the queue across kills: one JSON line an event, synced
	// before it is answered. "": memory only.
	StateFile string
}

// Queue is the simulated queue: an http.Handler for TLS connections. It is
// safe for concurrent use.
type Queue struct {
	options Options
	file    *stateFile

	mu           sync.Mutex
	order        []string // contexts, in the order of arrival
	jobs         map[string]*job
	allowed      map[[32]byte]bool
	lastDownload time.Time
	faults       Faults
	counts       Counts
	contradicts  []Contradiction
}

type job struct {
	content  json.RawMessage
	leased   time.Time // offered again from then on
	result   *Result
	offered  int
	refusing bool
}

// Result is a result as it was uploaded.
type Result struct {
	Context      string `json:"context"`
	Succeeded    bool   `json:"succeeded"`
	ErrorCode    string `json:"errorCode"`
	ErrorMessage string `json:"errorMessage"`
	Sealed       []byte `json:"sealed,omitempty"`
	Imported     string `json:"imported,omitempty"`
	Times        int    `json:"times"` // how often it was uploaded
}

// Contradiction is a second result of a context that says something else than
// the first. It was refused.
type Contradiction struct {
	Context       string
	First, Second Result
}

// Counts says what was asked of the queue.
type Counts struct {
	Downloads int // that were answered with a list
	Early     int // within the cool-down
	Offered   int // jobs in those lists
	Uploads   int // that were answered with true
	Forbidden int // from certificates that are not allowed
	Malformed int // bodies that the interface does not allow
}

// New returns a queue, as its StateFile left it.
func New(options Options) (*Queue, error) {
	if options.Clock == nil {
		options.Clock = time.Now
	}
	if options.Lease <= 0 {
		options.Lease = 10 * time.Minute
	}
	q := &Queue{options: options, jobs: map[string]*job{}, allowed: map[[32]byte]bool{}}
	if options.StateFile == "" {
		return q, nil
	}
	var err error
	if q.file, err = openState(options.StateFile, q.replay); err != nil {
		return nil, fmt.Errorf("opening the queue's state: %w", err)
	}
	return q, nil
}

// Close closes the StateFile.
func (q *Queue) Close() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.file.close()
}

// TLSConfig returns a server's configuration that asks for a client
// certificate. Which ones are served, Allow says.
func TLSConfig(server tls.Certificate) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{server}, MinVersion: tls.VersionTLS12, ClientAuth: tls.RequireAnyClientCert}
}

// Allow serves a client certificate from now on.
func (q *Queue) Allow(cert *x509.Certificate) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.allowed[sha256.Sum256(cert.Raw)] = true
}

// Forbid serves it no more.
func (q *Queue) Forbid(cert *x509.Certificate) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.allowed, sha256.Sum256(cert.Raw))
}

// Job is a job as an honest system adds it.
type Job struct {
	RequestContext  string   `json:"requestContext"`
	Kind            string   `json:"kind"`
	Subject         string   `json:"subject,omitempty"`
	SANs            []string `json:"sans,omitempty"`
	KeyUsage        []string `json:"keyUsage,omitempty"`
	EKUs            []string `json:"ekus,omitempty"`
	Key             *KeyType `json:"key,omitempty"`
	ValiditySeconds int64    `json:"validitySeconds,omitempty"`
	CAConfiguration string   `json:"caConfiguration,omitempty"`
	Recipient       string   `json:"recipient,omitempty"`
}

// KeyType is the member key of a job.
type KeyType struct {
	Type string `json:"type"`
}

// Add queues jobs. Kind "" is "pfx".
func (q *Queue) Add(jobs ...Job) error {
	for _, j := range jobs {
		if j.Kind == "" {
			j.Kind = "pfx"
		}
		raw, err := json.Marshal(j)
		if err != nil {
			return fmt.Errorf("writing a job: %w", err)
		}
		if err := q.AddRaw(j.RequestContext, raw); err != nil {
			return err
		}
	}
	return nil
}

// AddRaw queues whatever JSON there is under a context, right or wrong. A
// context that is known gets the new content and is offered again.
func (q *Queue) AddRaw(context string, element json.RawMessage) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.note(event{Kind: added, Context: context, Job: element})
}

// Forget makes the queue lose the result of a context, as after a restored
// backup: the job is offered again.
func (q *Queue) Forget(context string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.note(event{Kind: forgotten, Context: context})
}

// Offer ends all leases now.
func (q *Queue) Offer() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, j := range q.jobs {
		j.leased = time.Time{}
	}
}

// Refuse makes the queue refuse any result of a context for good (409).
func (q *Queue) Refuse(context string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if j := q.jobs[context]; j != nil {
		j.refusing = true
	}
}

// Results returns the results that were taken, by context.
func (q *Queue) Results() map[string]Result {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := make(map[string]Result)
	for context, j := range q.jobs {
		if j.result != nil {
			all[context] = *j.result
		}
	}
	return all
}

// Waiting returns the contexts without a final result, in their order.
func (q *Queue) Waiting() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	var waiting []string
	for _, context := range q.order {
		if r := q.jobs[context].result; r == nil || retryable(r.ErrorCode) {
			waiting = append(waiting, context)
		}
	}
	return waiting
}

// Contradictions returns what was refused because it contradicted a result
// that had been taken. There should be none, ever.
func (q *Queue) Contradictions() []Contradiction {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.contradicts)
}

// Counts returns what was asked so far.
func (q *Queue) Counts() Counts {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.counts
}

// offer leases and returns up to limit jobs.
func (q *Queue) offer(limit int) ([]json.RawMessage, error) {
	now := q.options.Clock()
	list := []json.RawMessage{}
	var leased []string
	for _, context := range q.order {
		j := q.jobs[context]
		if len(list) == limit {
			break
		}
		if j.leased.After(now) || j.result != nil && !retryable(j.result.ErrorCode) {
			continue
		}
		list, leased = append(list, j.content), append(leased, context)
	}
	if err := q.note(event{Kind: offered, Contexts: leased, At: now, Until: now.Add(q.options.Lease)}); err != nil {
		return nil, err
	}
	return list, nil
}

// take records results: all of them, or none when one contradicts.
func (q *Queue) take(results []Result) (rule string, err error) {
	for _, r := range results {
		j := q.jobs[r.Context]
		switch {
		case j == nil:
			return "unknown_context", nil
		case j.refusing:
			return "result_refused", nil
		case j.result != nil && !retryable(j.result.ErrorCode) && !same(*j.result, r):
			q.contradicts = append(q.contradicts, Contradiction{r.Context, *j.result, r})
			return "result_differs", nil
		}
	}
	for _, r := range results {
		if err := q.note(event{Kind: resulted, Context: r.Context, Result: &r}); err != nil {
			return "", err
		}
	}
	return "", nil
}

// same compares what counts: words for people may change.
func same(a, b Result) bool {
	return a.Succeeded == b.Succeeded && a.ErrorCode == b.ErrorCode && a.Imported == b.Imported && bytes.Equal(a.Sealed, b.Sealed)
}

// retryable says after which codes a job is offered again.
func retryable(code string) bool {
	switch code {
	case "RetryableServiceException", "ServiceUnavailableException", "ServiceTooBusyException", "AuthenticationException":
		return true
	}
	return false
}
