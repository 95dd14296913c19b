package sqlite

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/certconnector/certconnector/policymodule"
)

// The ledger counts before each challenge that is made, and there may be
// 100,000 outstanding: too many to read each time while enrolments wait. So
// the table outstanding holds, for each endpoint and for each principal at an
// endpoint, how many unspent challenges expire in each slot of time. A count
// is a sum over the slots to come, an hour of which is about fifty rows, and
// over the challenges themselves in the slot that is going on. Begin takes a
// challenge off its counts in the transaction that spends it.

const (
	// slotBits makes a slot 2^36 nanoseconds long, about 69 seconds.
	slotBits = 36
	// challengeKeep is how long an expired challenge is remembered, so that a
	// device that comes late is told so.
	challengeKeep = 24 * time.Hour
	// sweepAtMost bounds how many old rows one call drops of a table, so that
	// none is slow after a quiet month. Each call adds one row at most.
	sweepAtMost = 256
)

// scope is what a quota counts: a digest of an endpoint's name, or of an
// endpoint's and a principal's.
type scope [32]byte

func endpointScope(endpoint string) scope {
	return sha256.Sum256(append(field(nil, endpoint), 'e'))
}

func principalScope(endpoint, principal string) scope {
	return sha256.Sum256(append(field(field(nil, endpoint), principal), 'p'))
}

func slot(t time.Time) int64 { return nanos(t) >> slotBits }

// AddChallenge implements policymodule.Ledger. A challenge that is recorded
// already, with equal fields, is a success: the first call's answer may have
// been lost.
func (j *Journal) AddChallenge(ctx context.Context, ch policymodule.Challenge, q policymodule.Quota) error {
	return j.do(ctx, durable, func(c *conn) (bool, error) {
		old, found, err := findChallenge(c, ch.Endpoint, ch.ID)
		if err != nil {
			return false, err
		}
		if found {
			if old.Principal != ch.Principal || nanos(old.Made) != nanos(ch.Made) || nanos(old.Expires) != nanos(ch.Expires) {
				return false, fmt.Errorf("endpoint %q: another challenge is recorded under this ID; make a new challenge", ch.Endpoint)
			}
			return false, nil
		}
		full, err := ledgerFull(c, &ch, q)
		if err != nil {
			return false, err
		}
		if full {
			return false, policymodule.ErrLedgerFull
		}
		if err := addChallenge(c, &ch); err != nil {
			return true, err
		}
		return true, sweepLedger(c, ch.Made)
	})
}

// ledgerFull tells whether one of the quotas is used up at the time that the
// challenge was made.
func ledgerFull(c *conn, ch *policymodule.Challenge, q policymodule.Quota) (bool, error) {
	if q.Endpoint > 0 {
		n, err := outstandingOfEndpoint(c, ch.Endpoint, ch.Made)
		if err != nil || n >= q.Endpoint {
			return err == nil, err
		}
	}
	if q.Principal > 0 {
		n, err := outstandingOfPrincipal(c, ch.Endpoint, ch.Principal, ch.Made)
		if err != nil || n >= q.Principal {
			return err == nil, err
		}
	}
	return false, nil
}

func outstandingOfEndpoint(c *conn, endpoint string, now time.Time) (int, error) {
	later, err := outstandingLater(c, endpointScope(endpoint), now)
	if err != nil {
		return 0, err
	}
	s, err := c.use(countOfEndpoint)
	if err != nil {
		return 0, err
	}
	soon, err := returned(s.time(now).int((slot(now) + 1) << slotBits).text(endpoint))
	return int(later + soon), err
}

func outstandingOfPrincipal(c *conn, endpoint, principal string, now time.Time) (int, error) {
	later, err := outstandingLater(c, principalScope(endpoint, principal), now)
	if err != nil {
		return 0, err
	}
	s, err := c.use(countOfPrincipal)
	if err != nil {
		return 0, err
	}
	soon, err := returned(s.time(now).int((slot(now) + 1) << slotBits).text(endpoint).text(principal))
	return int(later + soon), err
}

// outstandingLater counts what expires after the slot that now lies in.
func outstandingLater(c *conn, of scope, now time.Time) (int64, error) {
	s, err := c.use(countOutstanding)
	if err != nil {
		return 0, err
	}
	return returned(s.blob(of[:]).int(slot(now)))
}

// addChallenge writes a challenge and counts it, unless an entry has spent it
// already.
func addChallenge(c *conn, ch *policymodule.Challenge) error {
	c.ledger = true
	s, err := c.use(entryByChallenge)
	if err != nil {
		return err
	}
	spent, err := s.int(challengeKey(ch.ID)).text(ch.ID).step()
	s.reset()
	if err != nil {
		return err
	}
	if s, err = c.use(insertChallenge); err != nil {
		return err
	}
	s.int(challengeKey(ch.ID)).text(ch.ID).text(ch.Endpoint).text(ch.Principal).time(ch.Made).time(ch.Expires)
	if err := s.bool(!spent).exec(); err != nil || spent {
		return err
	}
	return count(c, addOutstanding, ch.Endpoint, ch.Principal, slot(ch.Expires))
}

// spend takes a challenge that a new entry has off the counts. A challenge
// that was not made here changes nothing.
func spend(c *conn, id string) error {
	s, err := c.use(spendChallenge)
	if err != nil {
		return err
	}
	s.int(challengeKey(id)).text(id)
	var list []policymodule.Challenge // more than one only if endpoints share an ID
	for {
		found, err := s.step()
		if err != nil {
			return err
		}
		if !found {
			break
		}
		list = append(list, policymodule.Challenge{Endpoint: s.colText(), Principal: s.colText(), Expires: s.colTime()})
	}
	for _, ch := range list {
		if err := count(c, takeOutstanding, ch.Endpoint, ch.Principal, slot(ch.Expires)); err != nil {
			return err
		}
	}
	return nil
}

// count changes both counts that a challenge is part of.
func count(c *conn, change statement, endpoint, principal string, at int64) error {
	for _, of := range []scope{endpointScope(endpoint), principalScope(endpoint, principal)} {
		s, err := c.use(change)
		if err != nil {
			return err
		}
		if err := s.blob(of[:]).int(at).exec(); err != nil {
			return err
		}
	}
	return nil
}

// sweepLedger drops challenges that are remembered for no more use, and the
// counts of slots in which all are.
func sweepLedger(c *conn, now time.Time) error {
	s, err := c.use(sweepChallenges)
	if err != nil {
		return err
	}
	before := now.Add(-challengeKeep)
	if err := s.time(before).int(sweepAtMost).exec(); err != nil {
		return err
	}
	if s, err = c.use(sweepOutstanding); err != nil {
		return err
	}
	return s.int(slot(before)).exec()
}

// FindChallenge implements policymodule.Ledger.
func (j *Journal) FindChallenge(ctx context.Context, endpoint, id string) (policymodule.Challenge, error) {
	var ch policymodule.Challenge
	err := j.do(ctx, lazy, func(c *conn) (bool, error) {
		var (
			found bool
			err   error
		)
		ch, found, err = findChallenge(c, endpoint, id)
		if err == nil && !found {
			err = policymodule.ErrUnknownChallenge
		}
		return false, err
	})
	if err != nil {
		return policymodule.Challenge{}, err
	}
	return ch, nil
}

func findChallenge(c *conn, endpoint, id string) (policymodule.Challenge, bool, error) {
	s, err := c.use(challengeByID)
	if err != nil {
		return policymodule.Challenge{}, false, err
	}
	found, err := s.int(challengeKey(id)).text(id).text(endpoint).step()
	if err != nil || !found {
		return policymodule.Challenge{}, false, err
	}
	defer s.reset()
	return policymodule.Challenge{ID: id, Endpoint: s.colText(), Principal: s.colText(), Made: s.colTime(), Expires: s.colTime()}, true, nil
}

// Outstanding implements policymodule.Ledger.
func (j *Journal) Outstanding(ctx context.Context, endpoint string, now time.Time) (int, error) {
	var n int
	err := j.do(ctx, lazy, func(c *conn) (bool, error) {
		var err error
		n, err = outstandingOfEndpoint(c, endpoint, now)
		return false, err
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}
