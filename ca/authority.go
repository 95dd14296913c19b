// Package ca says what a certificate authority does for the connector. A
// bridge must issue and show its chain; what else it can do it declares by
// implementing the optional interfaces Revoker, Collector, Finder, Checker
// and Publisher, which callers find by a type assertion.
package ca

import (
	"context"
	"crypto/x509"
	"math/big"
	"time"

	"github.com/certconnector/certconnector/internal/pkcs10"
)

// Authority issues certificates. Implementations are safe for concurrent use.
type Authority interface {
	// Issue submits a request and waits for the certificate.
	//
	// Its errors, by errors.Is and errors.As: ErrUnavailable (surely not
	// submitted, try again freely), ErrOutcomeUnknown (may have been issued:
	// Find first), *Pending (parked at the CA under a request ID) and *Denied
	// (final). Any other error is treated as ErrOutcomeUnknown.
	Issue(ctx context.Context, req Request) (*Issued, error)

	// Chain returns the issuing CA's certificate first, then its issuers up to
	// and including the root.
	Chain(ctx context.Context) ([]*x509.Certificate, error)
}

// Request asks a CA for one certificate. The names and the key come from the
// device's CSR; everything else is the connector's decision.
type Request struct {
	CSR         *pkcs10.Request
	Template    string        // certificate template or profile; "" is the CA's default
	Validity    time.Duration // wished life time; 0 leaves it to the template, which caps it in any case
	MaxValidity time.Duration // cap set by the policy decision; 0: none
}

// Issued is a certificate and how the CA knows it.
type Issued struct {
	Certificate *x509.Certificate
	RequestID   string // the CA's request ID, where it has one
}

// Revoker revokes certificates. Revoking one that is revoked already is a
// success; an unknown serial number is ErrNotFound; a missing officer right is
// ErrForbidden; ErrUnavailable and ErrOutcomeUnknown mean try again.
type Revoker interface {
	Revoke(ctx context.Context, serial *big.Int, reason Reason) error
}

// Collector fetches the outcome of a parked request. Its errors are those of
// Issue; *Pending means still parked, ErrNotFound an unknown request ID.
type Collector interface {
	Collect(ctx context.Context, requestID string) (*Issued, error)
}

// Finder answers "did this CA issue for that CSR?" after an unknown outcome.
// ErrNotFound means surely not; *Pending means parked under a request ID.
type Finder interface {
	Find(ctx context.Context, q Query) (*Issued, error)
}

// Query describes a submission whose outcome is unknown.
type Query struct {
	CSRDigest [32]byte // SHA-256 of the CSR's DER
	KeyDigest [32]byte // SHA-256 of its SubjectPublicKeyInfo
	// NameDigest is pkcs10.Request.NameDigest: of subject and subjectAltName. Zero
	// where the caller does not say. It tells two requests with one key apart
	// where the CA does not show requests.
	NameDigest [32]byte
	// Sent is when the request was submitted, by our clock. Zero: not known. A
	// request may still be on its way for a while: until then a bridge does not
	// say ErrNotFound.
	Sent     time.Time
	From, To time.Time
}

// Checker tells the status of a certificate that this CA issued: ErrNotFound
// when the CA does not know the serial number.
type Checker interface {
	Check(ctx context.Context, serial *big.Int) (Status, error)
}

// Status is what a Checker answers. Certificate is nil where the CA keeps no
// copy.
type Status struct {
	Revoked     bool
	Reason      Reason
	RevokedAt   time.Time
	Certificate *x509.Certificate
}

// Publisher returns the current certificate revocation list, DER.
type Publisher interface {
	CRL(ctx context.Context) ([]byte, error)
}

// Approver decides parked requests; only a CA of our own lets us.
type Approver interface {
	Approve(ctx context.Context, requestID string) error
	Deny(ctx context.Context, requestID, why string) error
}
