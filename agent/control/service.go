// Package control is the local control socket behind the commands: lists of
// requests, decisions about parked ones, revocation, status. It is HTTP with
// JSON over a unix socket that only root and the service's own account may
// use; it looks at nothing itself, the agent implements what it serves.
package control

import (
	"context"
	"time"

	"github.com/certconnector/certconnector/ca"
)

// Service is everything that the socket serves. Implementations are safe for
// concurrent use.
type Service interface {
	Lister
	Decider
	Revoker
	Reporter
}

// Lister lists enrolments, newest first.
type Lister interface {
	Requests(ctx context.Context, f Filter) ([]Request, error)
}

// Decider decides about a request that the CA parked for a person. An ID that
// is not known is journal.ErrNotFound or ca.ErrNotFound, a request that is not
// parked or a CA that does not let us decide is ca.ErrForbidden.
type Decider interface {
	Approve(ctx context.Context, id string) error
	Deny(ctx context.Context, id, why string) error
}

// Revoker revokes a certificate at a CA by its configured name. The serial
// number is hexadecimal, any case. Revoking twice is a success.
type Revoker interface {
	Revoke(ctx context.Context, caName, serial string, reason ca.Reason) error
}

// Reporter tells how the service is.
type Reporter interface {
	Status(ctx context.Context) (Status, error)
}

// Filter selects requests for a list.
type Filter struct {
	States   []string // names of journal.State; empty: all
	Endpoint string   // "": all
	Limit    int      // 0: 100
}

// Request is one enrolment as an operator sees it. Its texts may come from a
// device: escape them before they reach a terminal.
type Request struct {
	ID            string    `json:"id"`
	State         string    `json:"state"`
	Endpoint      string    `json:"endpoint"`
	TransactionID string    `json:"transaction_id"`
	Subject       string    `json:"subject"`
	CA            string    `json:"ca"`
	Template      string    `json:"template,omitempty"`
	CARequestID   string    `json:"ca_request_id,omitempty"`
	Serial        string    `json:"serial,omitempty"`
	Reason        string    `json:"reason,omitempty"` // of a request that failed
	CreatedAt     time.Time `json:"created_at"`
	UpdatedAt     time.Time `json:"updated_at"`
}

// Status is how the service is.
type Status struct {
	Version   string    `json:"version"`
	StartedAt time.Time `json:"started_at"`
	Ready     bool      `json:"ready"`
	Problems  []string  `json:"problems,omitempty"` // why it is not ready
	Warnings  []string  `json:"warnings,omitempty"` // what the configuration permits although it is unsafe
}
