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
	Challenger
	Tracer
	Worker
	Custodian
	Reconciler
	Backuper
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

// Challenger makes a challenge, with every right that the endpoint's own rules
// leave. An endpoint that is not known is journal.ErrNotFound; one that makes
// none, or a wish beyond its rules, is ca.ErrForbidden.
type Challenger interface {
	NewChallenge(ctx context.Context, w Wish) (Challenge, error)
}

// Tracer tells what became of the requests of a transaction, newest first.
type Tracer interface {
	Trace(ctx context.Context, transactionID string) ([]TraceEvent, error)
}

// Wish is what a challenge shall be good for. One-time passwords carry no
// claims: at their endpoints only Endpoint and Lifetime may be set.
type Wish struct {
	Endpoint   string        `json:"endpoint"`
	Subject    string        `json:"subject,omitempty"`   // RFC 4514
	SANs       []string      `json:"san,omitempty"`       // as "dns:phone7.corp.example"
	KeyUsage   []string      `json:"key_usage,omitempty"` // as digitalSignature
	EKU        []string      `json:"eku,omitempty"`       // as clientAuth
	KeyType    string        `json:"key_type,omitempty"`
	MinKeyBits int           `json:"min_key_bits,omitempty"`
	Hash       string        `json:"hash,omitempty"`
	Template   string        `json:"template,omitempty"`
	Validity   time.Duration `json:"validity,omitempty"` // nanoseconds
	Lifetime   time.Duration `json:"lifetime,omitempty"` // nanoseconds
}

// Challenge is a new challenge. It is told here and kept nowhere.
type Challenge struct {
	Challenge string    `json:"challenge"`
	ID        string    `json:"id"`
	Expires   time.Time `json:"expires"`
}

// TraceEvent is one decision about a request. Its texts may come from a
// device: escape them before they reach a terminal.
type TraceEvent struct {
	At            time.Time `json:"at"`
	ID            string    `json:"id,omitempty"` // of a request that was recorded
	Endpoint      string    `json:"endpoint"`
	TransactionID string    `json:"transaction_id"`
	Source        string    `json:"source,omitempty"`
	Subject       string    `json:"subject"`
	State         string    `json:"state"` // the request's state, or "refused" of one that was not recorded
	Rule          string    `json:"rule,omitempty"`
	FailInfo      string    `json:"fail_info,omitempty"`
	Detail        string    `json:"detail,omitempty"`
	Serial        string    `json:"serial,omitempty"`
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
	Reload    *Reload   `json:"reload,omitempty"`   // how the configuration was read again the last time; absent: not since the start
	Queues    []Queue   `json:"queues"`             // who waits for the RA's keys and for CAs
	Owed      []Owed    `json:"owed"`               // what the outbox has to deliver
}

// Queue is a bounded resource and who waits for it.
type Queue struct {
	Name    string            `json:"name"` // "RA keys", or "CA" and its name
	Slots   int               `json:"slots"`
	InUse   int               `json:"in_use"`
	Waiting int               `json:"waiting"`        // devices and answers to them
	Jobs    int               `json:"jobs"`           // background work that waits behind them
	Oldest  time.Duration     `json:"oldest"`         // nanoseconds that the first has waited
	Shed    map[string]uint64 `json:"shed,omitempty"` // sent away since the start, by reason
}

// Owed is what is owed of one kind.
type Owed struct {
	Kind   string    `json:"kind"`
	N      int       `json:"n"`
	Oldest time.Time `json:"oldest,omitzero"`
}
