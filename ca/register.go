package ca

import (
	"context"
	"math/big"
	"time"
)

// Register is what a CA in this process must never forget: its certificates,
// revocations, parked requests and CRL number. The journal's database keeps
// it, so that one sync covers both.
//
// AddCertificate may return before the row is on disk. The row is on disk
// before any later durable write of the same database, and no certificate
// leaves before one: a certificate whose row a power failure took has never
// left the process. All other writes are durable on return. A read sees what
// was written before it through the same Register, on disk or not.
//
// A failed write that wraps ErrUnavailable surely left nothing behind; after
// any other error the row may be there. A serial number that is taken is
// ErrForbidden.
//
// Implementations are safe for concurrent use. Names that are not known are
// ErrNotFound.
type Register interface {
	AddCertificate(ctx context.Context, ca string, c RegisteredCertificate) error
	Certificate(ctx context.Context, ca string, serial *big.Int) (RegisteredCertificate, error)
	// FindCertificate returns the newest certificate issued since from for the CSR.
	FindCertificate(ctx context.Context, ca string, csrDigest [32]byte, from time.Time) (RegisteredCertificate, error)
	// RevokeCertificate marks a certificate; one that is marked keeps its first reason and time.
	RevokeCertificate(ctx context.Context, ca string, serial *big.Int, reason Reason, at time.Time) error
	// Revoked lists certificates that are revoked and not expired before the given time.
	Revoked(ctx context.Context, ca string, notExpiredAt time.Time) ([]RegisteredCertificate, error)
	// NextCRLNumber returns 1, 2, 3, …, never the same number twice.
	NextCRLNumber(ctx context.Context, ca string) (int64, error)

	// ParkRequest stores a request for a person's decision and returns its ID.
	// One with the same CSR digest that waits or is approved keeps its ID:
	// parked twice is parked once.
	ParkRequest(ctx context.Context, ca string, r ParkedRequest) (string, error)
	Request(ctx context.Context, ca, id string) (ParkedRequest, error)
	// DecideRequest turns a parked request into approved or denied; one that
	// was decided otherwise before is ErrForbidden.
	DecideRequest(ctx context.Context, ca, id string, decision ParkedState, why string) error
	// CompleteRequest links an approved request with its certificate; like
	// AddCertificate, which it includes, it may return before the row is on disk.
	// Only one call succeeds for a request: whoever comes second, or to a
	// request that is not approved, gets ErrForbidden and changes nothing.
	CompleteRequest(ctx context.Context, ca, id string, c RegisteredCertificate) error
}

// RequestFinder is what a Register can do besides, found by a type assertion:
// it finds the newest parked request of a CSR, in any state, parked since
// from. Without it Find does not see parked requests, and the next Issue
// returns their ID.
type RequestFinder interface {
	FindRequest(ctx context.Context, ca string, csrDigest [32]byte, from time.Time) (ParkedRequest, error)
}

// RegisteredCertificate is one row of the register.
type RegisteredCertificate struct {
	Serial    *big.Int
	DER       []byte
	CSRDigest [32]byte
	IssuedAt  time.Time
	NotAfter  time.Time
	Revoked   bool
	Reason    Reason
	RevokedAt time.Time
}

// ParkedState is how far a person's decision has come.
type ParkedState string

// A parked request waits, then is approved or denied; an approved one is
// issued when it is collected.
const (
	Waiting  ParkedState = "waiting"
	Approved ParkedState = "approved"
	Rejected ParkedState = "denied"
	Complete ParkedState = "issued"
)

// ParkedRequest is a request that waits for a person.
type ParkedRequest struct {
	ID          string
	CSR         []byte // DER without challenge would not verify: sealed by the caller
	CSRDigest   [32]byte
	Template    string
	Validity    time.Duration
	MaxValidity time.Duration
	State       ParkedState
	Why         string // reason of a denial
	Serial      *big.Int
	At          time.Time
}
