package policymodule

import (
	"context"
	"encoding/asn1"
	"errors"
	"time"

	"github.com/certconnector/certconnector/internal/secret"
)

// Rights are what challenges of one principal may be used for at one
// endpoint, beside the endpoint's own rules: that somebody is known does not
// say that he may have every name.
type Rights struct {
	Names        Names
	ExtKeyUsages []asn1.ObjectIdentifier // what may be asked for; empty: whatever the endpoint allows

	MaxOutstanding int // challenges made, not spent and not expired; 0: the endpoint's limit
	PerMinute      int // challenges a minute; 0: 60
}

// Principal is somebody who may have challenges made: an MDM server, or an
// operator at the local control socket.
type Principal struct {
	Name   string
	Rights map[string]Rights // by endpoint; no entry: no right
}

// ChallengeWish is what a challenge shall be good for. A module whose
// challenges carry no claims, as NDES' passwords, refuses any wish but
// Lifetime.
type ChallengeWish struct {
	Subject      string   // RFC 4514, as "CN=phone 7,O=Corp"
	SANs         []string // as "dns:phone7.corp.example", "email:", "upn:", "uri:", "ip:"
	KeyUsage     []string // names of RFC 5280, as digitalSignature; empty: any
	ExtKeyUsages []asn1.ObjectIdentifier
	KeyType      string        // "rsa"; "": any that the endpoint takes
	MinKeyBits   int           // 0: what the endpoint wants
	Hash         string        // least hash of the CSR's signature, as sha256; "": what the endpoint wants
	Template     string        // the template that the request must lead to; "": any
	Validity     time.Duration // cap on the certificate's life; 0: the template's
	Lifetime     time.Duration // of the challenge; 0: the endpoint's
}

// MadeChallenge is a new challenge. It is told once and kept nowhere.
type MadeChallenge struct {
	Challenge secret.Text
	ID        string // public name of the challenge for logs; never a part of it
	Expires   time.Time
}

// Challenge is what is remembered of a challenge that this program made. The
// challenge itself is nowhere: ID is its keyed digest, and the same as the
// Decision's ChallengeID.
type Challenge struct {
	ID        string
	Endpoint  string
	Principal string
	Made      time.Time
	Expires   time.Time
}

// Quota says how many challenges may be outstanding: made, not expired and
// not spent by a request. 0 is no limit.
type Quota struct {
	Endpoint  int // of one endpoint, all principals together
	Principal int // of the principal at the endpoint
}

var (
	// ErrLedgerFull says that a quota is used up. Nobody's challenge is ever
	// dropped to make room.
	ErrLedgerFull = errors.New("too many challenges are outstanding")
	// ErrNoRight says that the principal may not have such a challenge.
	ErrNoRight = errors.New("the principal has no right to such a challenge")
	// ErrBadWish says that a wish cannot be read, as one for a subject that is no
	// name.
	ErrBadWish = errors.New("the wish cannot be read")
	// ErrTooFast says that a principal asks for more challenges a minute than
	// it may.
	ErrTooFast = errors.New("challenges are asked for too fast")
	// ErrUnknownChallenge says that a challenge was not made here, or so long
	// ago that nothing is remembered of it.
	ErrUnknownChallenge = errors.New("no such challenge")
)

// Ledger remembers challenges across restarts. A challenge counts as spent
// when the journal has an intent with its ID. Implementations are safe for
// concurrent use.
type Ledger interface {
	// AddChallenge records a challenge durably before anybody is told of it,
	// or returns ErrLedgerFull. Whether there is room is decided in the same
	// transaction, at the time c.Made. Challenges that expired more than 24 h
	// before are dropped on the way.
	AddChallenge(ctx context.Context, c Challenge, q Quota) error

	// FindChallenge returns a challenge, expired and spent ones included, or
	// ErrUnknownChallenge.
	FindChallenge(ctx context.Context, endpoint, id string) (Challenge, error)

	// Outstanding counts challenges of an endpoint that are neither expired at
	// now nor spent.
	Outstanding(ctx context.Context, endpoint string, now time.Time) (int, error)
}
