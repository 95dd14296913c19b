package control

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"go.uber.org/zap"
)

// Worker shows and steers the work that a cloud or a queue hands us.
type Worker interface {
	// Jobs lists jobs, newest first.
	Jobs(ctx context.Context, f JobFilter) ([]Job, error)
	// Sources tells how every source of jobs stands.
	Sources(ctx context.Context) ([]Source, error)
	// ResumeSource ends the pause of a source; journal.ErrNotFound of one that
	// is not known.
	ResumeSource(ctx context.Context, source string) error
	// ImportIssued records certificates that another system issued for a
	// tenant, by CA and hexadecimal serial number, so that the tenant may have
	// them revoked here. It returns how many were new.
	ImportIssued(ctx context.Context, i Import) (int, error)
}

// JobFilter selects jobs for a list.
type JobFilter struct {
	Source string   // "": all
	States []string // names of journal.JobState; empty: all
	Limit  int      // 0: 100
}

// Job is a job as an operator sees it. Its texts come from a cloud or a queue:
// escape them before they reach a terminal.
type Job struct {
	ID         string    `json:"id"`
	Kind       string    `json:"kind"`
	Source     string    `json:"source"`
	State      string    `json:"state"`
	Summary    string    `json:"summary"`
	CA         string    `json:"ca,omitempty"`
	Serial     string    `json:"serial,omitempty"`
	Result     string    `json:"result,omitempty"` // succeeded, failed, unanswered or refused; empty: none yet
	Code       int       `json:"code,omitempty"`
	Reason     string    `json:"reason,omitempty"` // of a failure, or why it is not done yet
	Attempts   int       `json:"attempts,omitempty"`
	NextAt     time.Time `json:"next_at,omitzero"`
	AcceptedAt time.Time `json:"accepted_at"`
	UpdatedAt  time.Time `json:"updated_at"`
}

// Source is how a source of jobs stands.
type Source struct {
	Name       string    `json:"name"`
	Leader     string    `json:"leader,omitempty"` // the instance that asks it
	Until      time.Time `json:"until,omitzero"`
	LastPoll   time.Time `json:"last_poll,omitzero"`
	PausedAt   time.Time `json:"paused_at,omitzero"`
	PausedWhy  string    `json:"paused_why,omitempty"`
	Open       int       `json:"open"`
	OldestOpen time.Time `json:"oldest_open,omitzero"`
	Owed       int       `json:"owed"`
	OldestOwed time.Time `json:"oldest_owed,omitzero"`
}

// Import names certificates that another system issued.
type Import struct {
	Tenant  string   `json:"tenant"`
	CA      string   `json:"ca"`
	Serials []string `json:"serials"`
}

func (s *server) jobs(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	limit, ok := readLimit(w, q)
	if !ok {
		return
	}
	f := JobFilter{States: q["state"], Source: q.Get("source"), Limit: limit}
	list, err := s.svc.Jobs(r.Context(), f)
	answer(w, append([]Job{}, list...), err)
}

func (s *server) sources(w http.ResponseWriter, r *http.Request) {
	list, err := s.svc.Sources(r.Context())
	answer(w, append([]Source{}, list...), err)
}

// resumption is the body of a resume request.
type resumption struct {
	Source string `json:"source"`
}

func (s *server) resume(w http.ResponseWriter, r *http.Request) {
	var b resumption
	if !read(w, r, &b) {
		return
	}
	err := s.svc.ResumeSource(r.Context(), b.Source)
	s.audit(r, "source of jobs resumed", err, zap.String("source", b.Source))
	answer(w, struct{}{}, err)
}

// imported answers an import.
type imported struct {
	Added int `json:"added"`
}

func (s *server) importIssued(w http.ResponseWriter, r *http.Request) {
	var i Import
	if !read(w, r, &i) {
		return
	}
	for _, serial := range i.Serials {
		if !hexadecimal(serial) {
			answer(w, nil, &Error{Code: CodeInvalid, Text: "a serial number is not hexadecimal"})
			return
		}
	}
	n, err := s.svc.ImportIssued(r.Context(), i)
	s.audit(r, "certificates of another system imported", err, zap.String("tenant", i.Tenant), zap.String("ca", i.CA),
		zap.Int("named", len(i.Serials)), zap.Int("added", n))
	answer(w, imported{n}, err)
}

// Jobs lists jobs.
func (c *Client) Jobs(ctx context.Context, f JobFilter) ([]Job, error) {
	q := url.Values{"state": f.States}
	if f.Source != "" {
		q.Set("source", f.Source)
	}
	if f.Limit > 0 {
		q.Set("limit", strconv.Itoa(f.Limit))
	}
	var list []Job
	err := c.do(ctx, http.MethodGet, "/v1/jobs?"+q.Encode(), nil, &list)
	return list, err
}

// Sources asks how the sources of jobs stand.
func (c *Client) Sources(ctx context.Context) ([]Source, error) {
	var list []Source
	err := c.do(ctx, http.MethodGet, "/v1/sources", nil, &list)
	return list, err
}

// ResumeSource ends a pause.
func (c *Client) ResumeSource(ctx context.Context, source string) error {
	return c.do(ctx, http.MethodPost, "/v1/sources/resume", resumption{source}, nil)
}

// ImportIssued records certificates of another system, at most 1,000 at once.
func (c *Client) ImportIssued(ctx context.Context, i Import) (int, error) {
	var done imported
	err := c.do(ctx, http.MethodPost, "/v1/issued", i, &done)
	return done.Added, err
}
