package policymodule

import (
	"context"
	"errors"
	"time"
)

// VerdictKey names a verdict that was given to a front end over the network:
// it holds for one caller, one transaction and one request, never for a
// transaction alone.
type VerdictKey struct {
	Caller        string // the front end's configured name
	Tenant        string // who was asked
	TransactionID string
	CSRDigest     [32]byte
}

// Verdict is a grant that a registration point gave to a front end.
type Verdict struct {
	VerdictKey
	ChallengeID string // keyed digest of the challenge, "" when none was spent
	CSRKey      [32]byte
	NameDigest  [32]byte // of subject and subjectAltName
	At          time.Time

	// Outcome is what the front end reported: "" until then, OutcomeIssued or
	// OutcomeFailed. Thumbprint is the SHA-256 of the certificate.
	Outcome    string
	Thumbprint [32]byte
	OutcomeAt  time.Time
}

// The outcomes of a verdict.
const (
	OutcomeIssued = "issued"
	OutcomeFailed = "failed"
)

var (
	// ErrVerdictSpent says that the challenge was granted to another caller,
	// for another key or for other names.
	ErrVerdictSpent = errors.New("challenge was granted to another request")
	// ErrNoVerdict says that no such verdict was given.
	ErrNoVerdict = errors.New("no such verdict")
	// ErrOutcomeDiffers says that another outcome was recorded before: a
	// certificate after a failure, or a second certificate.
	ErrOutcomeDiffers = errors.New("another outcome was reported before")
)

// Verdicts remembers grants across restarts of a registration point.
// Implementations are safe for concurrent use; each call is one durable
// transaction.
type Verdicts interface {
	// GrantVerdict records a grant. The same grant again (equal key, or another
	// transaction or CSR of the same caller and tenant with equal challenge, key
	// and names) is recorded beside the first. ErrVerdictSpent when the
	// challenge belongs to any other, has led to a certificate, or was spent at
	// an endpoint of the same journal.
	GrantVerdict(ctx context.Context, v Verdict) (Verdict, error)

	// FindVerdict returns what is recorded under a key, or ErrNoVerdict.
	FindVerdict(ctx context.Context, k VerdictKey) (Verdict, error)

	// SettleVerdict records that the outcome was taken. Settling again with
	// the same outcome changes nothing. ErrOutcomeDiffers with any other,
	// also when another verdict on the same challenge has a certificate.
	SettleVerdict(ctx context.Context, k VerdictKey, outcome string, thumbprint [32]byte, at time.Time) error
}
