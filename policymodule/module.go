// Package policymodule answers one question: may this request have a
// certificate? A Module is what Microsoft's NDES calls a policy module; the
// order of calls is that of INDESPolicy: Verify before the CA is asked,
// Notify when the outcome is known.
package policymodule

import (
	"context"
	"errors"
	"time"

	"crypto/x509"

	"github.com/certconnector/certconnector/internal/pkcs10"
)

// Module vouches for requests. Implementations are safe for concurrent use.
type Module interface {
	// Verify decides about a request. An error means "could not ask": nothing
	// is stored and the device is told to come again. A refusal is a Decision.
	Verify(ctx context.Context, req Request) (Decision, error)

	// Notify tells the party that vouched what became of the request. nil: taken.
	// An error that wraps ErrNotifyRefused: it never will be. Any other error:
	// try later. It may be called again for one transaction.
	Notify(ctx context.Context, o Outcome) error
}

// Challenger makes challenges, as INDESPolicy::GenerateChallenge does; a
// module whose challenges come from elsewhere is none.
type Challenger interface {
	// GenerateChallenge makes one challenge for a principal that has been
	// authenticated. ErrNoRight when it has no right at the module's endpoint or
	// wishes for more than that, ErrLedgerFull when too many are outstanding,
	// ErrTooFast when it asks too often.
	GenerateChallenge(ctx context.Context, by Principal, wish ChallengeWish) (MadeChallenge, error)
}

// ErrNotifyRefused says that a notification will never be accepted.
var ErrNotifyRefused = errors.New("notification refused for good")

// Request is what a module is asked about.
type Request struct {
	Endpoint      string // name of the SCEP endpoint
	TransactionID string
	CSR           *pkcs10.Request
	Template      string            // chosen by the CSR's key usage, never by the device
	Renewal       *x509.Certificate // the certificate that signed the request, when it is one of ours and no challenge came; else nil
}

// Decision is a module's answer.
type Decision struct {
	Granted bool

	// Of a refusal: which rule, what the device is told, and words for the log.
	Rule     Reason
	FailInfo FailInfo
	Detail   string

	// ChallengeID identifies the challenge that was spent, "" when there is
	// none to spend (a static challenge, a renewal). It is a keyed digest,
	// never the challenge.
	ChallengeID string

	// ChallengeMade is when the challenge was made, zero when the module
	// cannot tell, as with Intune's. A journal that was restored from a backup
	// does not know what was spent since: it refuses older ones.
	ChallengeMade time.Time

	// Notify says that the outcome is owed to this module: a certificate is
	// withheld until Notify has taken it.
	Notify bool

	// MaxValidity caps the certificate's life time; 0: no cap.
	MaxValidity time.Duration

	// VouchedNames says that the module compared subject and subjectAltName
	// with what it expects, so that even a SID in a SAN URI may pass.
	VouchedNames bool
}

// FailInfo is the failInfo of RFC 8894, section 3.2.1.4.
type FailInfo int

// The values of RFC 8894, section 3.2.1.4.
const (
	BadAlg          FailInfo = 0
	BadMessageCheck FailInfo = 1
	BadRequest      FailInfo = 2
	BadTime         FailInfo = 3
	BadCertID       FailInfo = 4
)

// Reason is the name of the rule that refused: constant, bounded, fit for a
// log field, a metric's label and a page of the docs.
type Reason string

// Refuse returns a refusal.
func Refuse(rule Reason, info FailInfo, detail string) Decision {
	return Decision{Rule: rule, FailInfo: info, Detail: detail}
}

// Outcome is what became of a request that a module had granted.
type Outcome struct {
	Endpoint      string
	TransactionID string
	CSR           []byte // the device's CSR, DER

	// Of a success.
	Certificate *x509.Certificate
	IssuingCA   string // the CA's short, stable name

	// Of a failure; Certificate is nil.
	HResult     int32
	Description string
}
