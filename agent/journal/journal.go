// Package journal is the durable record of every enrolment: what was
// intended, what was done, and what is owed to whom. Every step is recorded
// here before it is taken, so that a restart finds what a power failure
// interrupted.
package journal

import (
	"context"
	"errors"
	"io"
	"time"
)

var (
	// ErrNotFound says that no entry or debt matches.
	ErrNotFound = errors.New("no such journal entry")
	// ErrChallengeSpent says that the challenge belongs to another request.
	ErrChallengeSpent = errors.New("challenge was used for another request")
	// ErrLost says that the work was taken over by another owner, or that the
	// entry is in a state that the step does not start from. Whoever gets it
	// must stop working on the entry.
	ErrLost = errors.New("journal entry is no longer ours to change")
)

// Journal is the whole record; the parts of the agent ask for the small
// interfaces it is made of. There are no callbacks and no transaction handles:
// each call is one atomic transaction, durable on return unless its argument
// is Lazy. Implementations are safe for concurrent use.
type Journal interface {
	Entries
	Work
	Debts
	Jobs
	io.Closer
}

// Entries records enrolments.
type Entries interface {
	// Begin records an intent. In one transaction it looks for an entry that
	// is the same request (see Intent), spends the challenge, and inserts the
	// row. owned is nil when the entry was there before: then nothing was
	// changed. ErrChallengeSpent when another request has the challenge.
	Begin(ctx context.Context, in Intent) (e Entry, owned *Owned, err error)

	// Same returns the entry that Begin would find, or ErrNotFound.
	Same(ctx context.Context, in Intent) (Entry, error)

	// Newest returns the newest entry of endpoint, transaction ID and key of
	// the message's signer, for CertPoll.
	Newest(ctx context.Context, endpoint, transactionID string, signerKey [32]byte) (Entry, error)

	// Issued returns the entry of a certificate by the CA's name and the serial
	// number as it is recorded, for renewals.
	Issued(ctx context.Context, ca, serial string) (Entry, error)

	// Entry returns one entry.
	Entry(ctx context.Context, id int64) (Entry, error)

	// List returns entries, newest first.
	List(ctx context.Context, q Query) ([]Entry, error)

	// Advance takes an entry that the caller owns to another state. ErrLost
	// when its state is not one of s.To.From(), or when it is owned no more.
	// Nothing leaves a final state. A step into a final state drops the
	// entry's success notification, if that was still owed.
	Advance(ctx context.Context, o *Owned, s Step) (Entry, error)
}

// Work hands out entries that no device is waiting for.
type Work interface {
	// Claim takes up to limit open entries whose NextAt has come and owns them
	// until now+lease. An entry that another live owner holds is not due.
	Claim(ctx context.Context, now time.Time, lease time.Duration, limit int) ([]Claimed, error)

	// ClaimEntry takes one open entry if it is due or nobody holds it, else ErrLost.
	ClaimEntry(ctx context.Context, id int64, now time.Time, lease time.Duration) (Claimed, error)
}

// Debts are reports and revocations that are owed until they are taken. They
// stand in lanes, one for each kind and neighbour, so that a neighbour that
// does not answer holds up nobody else's.
type Debts interface {
	// DebtLanes lists the lanes that have something to claim. It looks for
	// debts whose time has come, a bounded number of them a call, those that
	// became due last first.
	DebtLanes(ctx context.Context, now time.Time) ([]Lane, error)

	// ClaimDebts takes debts of one lane that an earlier DebtLanes found due,
	// the most urgent first (success notifications newest first, the other
	// kinds oldest first), and keeps them from others until the lease ends.
	ClaimDebts(ctx context.Context, c DebtClaim) ([]Debt, error)

	// ClaimDebtsOf takes an entry's debts of one kind at once, held or not due
	// as they may be, unless another claim holds them: the inline attempt.
	ClaimDebtsOf(ctx context.Context, entry int64, kind DebtKind, now time.Time, lease time.Duration) ([]Debt, error)

	// SettleDebt removes a debt and moves its entry, in one transaction. A
	// success notification that was taken releases the certificate; one that
	// was refused for good, or given up, fails or abandons the entry and owes
	// its revocation. The outcome of a debt that was settled before is ErrLost.
	SettleDebt(ctx context.Context, d Debt, how Settlement) (Entry, error)

	// PostponeDebt records a failed attempt and when to try next. The first
	// failed success notification turns an issued entry into a withheld one.
	// It may reach the disk with the next durable write: a process that is
	// killed before forgets an attempt, and nothing else.
	PostponeDebt(ctx context.Context, d Debt, nextAt time.Time, why string) (Entry, error)

	// GiveUpDebts ends debts that nobody waits for any more, many in one
	// transaction, and returns them with their entries as they are then.
	GiveUpDebts(ctx context.Context, g GiveUp) ([]Debt, error)

	// DebtStats counts what is owed, by kind, in the order of kinds; a kind of
	// which nothing is owed is left out.
	DebtStats(ctx context.Context) ([]DebtStat, error)

	// OwedDebts lists debts, newest first, those with IDs below before (0:
	// from the newest), without claiming them.
	OwedDebts(ctx context.Context, before int64, limit int) ([]Debt, error)
}

// Intent is a request that may become a certificate.
//
// Two requests are the same when endpoint, transaction ID, signer key, signer
// ID and CSR digest are equal, or, for a device that signs a fresh CSR on
// every try, when the key, the names and the challenge are equal (scep-ndes
// M2: with a ChallengeID any transaction ID, without one the same). Endpoint
// and CSR key are always compared, and without a ChallengeID the signer key
// too. Entries that are older than Since do not count, but a challenge stays
// spent. Since, Lease, Refused and Lazy belong to the call and are not recorded.
type Intent struct {
	Endpoint      string
	Tenant        string // "" where no tenant vouches
	TransactionID string
	SignerKey     [32]byte // digest of the key that signed the message
	SignerID      [32]byte // digest of that key if it is the CSR's, else of the signer certificate
	CSRDigest     [32]byte
	CSRKey        [32]byte // digest of the CSR's key
	Names         [32]byte // digest of subject and subjectAltName
	ChallengeID   string   // "" when none is spent
	Since         time.Time

	CA          string
	Template    string
	Subject     string // for people: lists, logs
	SealedCSR   []byte // wiped when the entry is final and no notification is owed
	MaxValidity time.Duration
	Notify      bool // the outcome is owed to the policy module

	Now     time.Time
	Lease   time.Duration // how long the caller owns the entry
	GiveUp  time.Time     // when nobody waits any more: the entry's deadline
	Refused *Failure      // recorded as failed at once, its notification owed when Notify
	Lazy    bool          // the row may reach the disk with the next durable write
	Submit  bool          // recorded as submitted at once: the caller asks the CA next
}

// State is how far an entry has come.
type State int

// verified → submitted → issued → released; and parked, unknown, withheld,
// abandoned, failed. The last three of this list are final.
const (
	Verified  State = iota + 1 // vouched for, the CA not asked yet
	Submitted                  // the CA is being asked
	Parked                     // the CA keeps it for a person, under CARequestID
	Unknown                    // the CA may have issued: Find first
	Issued                     // certificate recorded, notification owed
	Withheld                   // notification not accepted yet
	Released                   // the device may have the certificate
	Abandoned                  // nobody waited: revocation owed
	Failed                     // refused, denied, or revoked before it left
)

var stateNames = [...]string{"", "verified", "submitted", "parked", "unknown", "issued", "withheld", "released", "abandoned", "failed"}

// String returns the state's name.
func (s State) String() string {
	if s < Verified || s > Failed {
		return "invalid"
	}
	return stateNames[s]
}

// Final reports whether nothing leaves the state.
func (s State) Final() bool { return s >= Released }

// From lists the states that may go to s.
func (s State) From() []State {
	switch s {
	case Verified:
		return []State{Submitted, Unknown}
	case Submitted: // again by whoever finds it after a crash
		return []State{Verified, Submitted, Unknown}
	case Parked:
		return []State{Submitted, Unknown, Parked}
	case Unknown:
		return []State{Submitted, Unknown}
	case Issued:
		return []State{Submitted, Unknown, Parked}
	case Withheld:
		return []State{Issued, Withheld}
	case Released:
		return []State{Submitted, Unknown, Parked, Issued, Withheld}
	case Abandoned:
		return []State{Issued, Withheld}
	case Failed:
		return []State{Verified, Submitted, Parked, Unknown, Issued, Withheld}
	}
	return nil
}

// Entry is one enrolment as recorded.
type Entry struct {
	ID int64
	Intent
	State       State
	NextAt      time.Time // when work on it is due; zero in a final state
	Attempts    int       // submissions and collections that failed so far
	SubmittedAt time.Time // of the first submission whose outcome is open
	Resubmitted bool      // one resubmission to a CA that cannot be searched was made
	CARequestID string
	Certificate []byte // DER, from issued on
	Serial      string // upper-case hex, as the cloud is told
	Failure     *Failure
	UpdatedAt   time.Time
}

// Failure is why an entry ended without a certificate for the device.
type Failure struct {
	Rule     string // name of the rule, or what stands in its place
	FailInfo int    // RFC 8894, section 3.2.1.4
	HResult  int32  // for the failure notification
	Text     string // for people, without secrets
}

// What stands in the place of a rule in a Failure when no rule refused: the
// request ended later.
const (
	RuleCADenied       = "ca_denied"
	RuleCAUnavailable  = "ca_unavailable"
	RuleOutcomeUnknown = "outcome_unknown"
	RuleParked         = "parked"
	RuleIssued         = "issued_certificate" // it was not what was asked for
	RuleNotifyRefused  = "notify_refused"
	RuleWithheld       = "withheld_too_long"
)

// Owned is the right to change an entry, until its lease ends.
type Owned struct {
	Entry int64
	Token int64 // changes with every claim: an older owner's steps are ErrLost
}

// Claimed is an entry and the right to change it.
type Claimed struct {
	Entry Entry
	Owned *Owned
}

// Step is one change of an entry. Fields that are zero leave what is recorded
// as it is. A step to submitted or issued keeps the entry in its owner's hands
// until NextAt; a step to any other state lets go of it, so that ClaimEntry
// may take it before NextAt. The owner's token stays good until somebody does.
type Step struct {
	To          State
	Now         time.Time
	NextAt      time.Time // when work is due again: the end of the lease while the caller goes on
	GiveUp      time.Time // a new deadline of the entry
	Attempts    int
	SubmittedAt time.Time
	Resubmitted bool
	CARequestID string
	Certificate []byte
	Serial      string
	Failure     *Failure
	Owe         []DebtKind // recorded in the same transaction
	OweAt       time.Time  // when they are due for the outbox; an inline attempt may come before
	Lazy        bool       // may reach the disk with the next durable write
}

// Query selects entries for a list.
type Query struct {
	States   []State // empty: all
	Endpoint string
	Tenant   string
	Before   int64 // entries with smaller IDs only; 0: from the newest
	Limit    int   // 0: 100
}

// DebtKind is what is owed.
type DebtKind int

// The kinds of debt.
const (
	OweSuccess    DebtKind = iota + 1 // tell the module: issued
	OweFailure                        // tell the module: failed
	OweRevocation                     // revoke the certificate at the CA
)

var debtNames = [...]string{"", "success notification", "failure notification", "revocation"}

// String returns the kind's name.
func (k DebtKind) String() string {
	if k < OweSuccess || k > OweRevocation {
		return "invalid"
	}
	return debtNames[k]
}

// Lane is where the debts of one kind to one neighbour stand in line.
type Lane struct {
	Kind      DebtKind
	Neighbour string // endpoint of a notification, CA of a revocation
}

// DebtClaim says what to take from a lane.
type DebtClaim struct {
	Lane
	Since time.Time // success notifications owed since then only; zero: all
	Now   time.Time
	Lease time.Duration
	Limit int
}

// GiveUp says which debts nobody waits for: success notifications of entries
// whose GiveUp has come, which abandons the entries and owes revocations, and
// failure notifications owed since before FailuresBefore. Revocations are
// never given up. What a live claim holds is left to its holder.
type GiveUp struct {
	Now            time.Time
	FailuresBefore time.Time
	Limit          int
	Failure        Failure // why, of abandoned entries
}

// DebtStat is how much of one kind is owed.
type DebtStat struct {
	Kind   DebtKind
	N      int
	Oldest time.Time // since when the oldest of them is owed
}

// Debt is something owed for an entry. Whoever claimed it may settle or
// postpone it.
type Debt struct {
	ID       int64
	Kind     DebtKind
	Entry    Entry
	Attempts int
	Since    time.Time
	Token    int64  // changes with every claim
	Why      string // of the last failed attempt
}

// Lane returns where the debt stands in line.
func (d *Debt) Lane() Lane {
	if d.Kind == OweRevocation {
		return Lane{d.Kind, d.Entry.CA}
	}
	return Lane{d.Kind, d.Entry.Endpoint}
}

// Settlement is how a debt ended.
type Settlement struct {
	Outcome DebtOutcome
	Now     time.Time
	Failure *Failure // of a success notification that was refused or given up

	// Lazy says that it may reach the disk with the next durable write, for
	// what may be told again after a kill. A success notification never is lazy:
	// the certificate leaves on its word.
	Lazy bool
}

// DebtOutcome says how a debt ended.
type DebtOutcome int

// A debt ends taken, refused for good, or given up because nobody waits for
// it any more.
const (
	Taken DebtOutcome = iota + 1
	RefusedForGood
	GivenUp
)
