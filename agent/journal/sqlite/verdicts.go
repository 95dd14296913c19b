package sqlite

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/certconnector/certconnector/policymodule"
)

// Verdicts are kept in two tables: verdicts has a row for each transaction
// that was vouched for, grants one for each challenge, with whom it was
// granted to and the certificate it led to. So what binds a challenge is found
// in one look, however many transactions a device tries with it.

// verdictKeep is how long a verdict is kept after its last change. A front end
// whose line was down may report that late.
const verdictKeep = 30 * 24 * time.Hour

// verdictRow is a verdict and its row number.
type verdictRow struct {
	policymodule.Verdict
	id int64
}

// grant is a row of grants.
type grant struct {
	id             int64
	caller, tenant string
	csrKey, names  [32]byte
	issued         bool // a certificate was reported
	thumbprint     [32]byte
}

// GrantVerdict implements policymodule.Verdicts. What is recorded under v's
// key stays as it is: the answer has its first time and its outcome. A key
// that is recorded for another challenge, CSR key or names is ErrVerdictSpent.
// A verdict without a ChallengeID binds nothing beyond its key.
func (j *Journal) GrantVerdict(ctx context.Context, v policymodule.Verdict) (policymodule.Verdict, error) {
	v.At, v.Outcome, v.Thumbprint, v.OutcomeAt = plain(v.At), "", [32]byte{}, time.Time{}
	err := j.do(ctx, durable, func(c *conn) (bool, error) {
		old, found, err := findVerdict(c, v.VerdictKey)
		if err != nil {
			return false, err
		}
		if found {
			if old.ChallengeID != v.ChallengeID || old.CSRKey != v.CSRKey || old.NameDigest != v.NameDigest {
				return false, policymodule.ErrVerdictSpent
			}
			v = old.Verdict
			return false, nil
		}
		if v.ChallengeID != "" {
			if wrote, err := bind(c, &v); err != nil {
				return wrote, err
			}
		}
		if err := addVerdict(c, &v); err != nil {
			return true, err
		}
		return true, sweepOldVerdicts(c, v.At)
	})
	if err != nil {
		return policymodule.Verdict{}, err
	}
	return v, nil
}

// bind grants a challenge to a verdict's request, or finds that it was granted
// to the same one before. Once it has led to a certificate it is granted to
// nobody: what was granted before is found under its own key.
func bind(c *conn, v *policymodule.Verdict) (wrote bool, err error) {
	g, found, err := findGrant(c, v.ChallengeID)
	if err != nil {
		return false, err
	}
	if found {
		if g.issued || g.caller != v.Caller || g.tenant != v.Tenant || g.csrKey != v.CSRKey || g.names != v.NameDigest {
			return false, policymodule.ErrVerdictSpent
		}
		return true, touch(c, g.id, v.At, nil)
	}
	// An endpoint of our own may have spent it.
	s, err := c.use(entryByChallenge)
	if err != nil {
		return false, err
	}
	spent, err := s.int(challengeKey(v.ChallengeID)).text(v.ChallengeID).step()
	s.reset()
	if err != nil || spent {
		return false, cmp.Or(err, policymodule.ErrVerdictSpent)
	}
	if s, err = c.use(insertGrant); err != nil {
		return false, err
	}
	c.grants = true
	s.int(challengeKey(v.ChallengeID)).text(v.ChallengeID).text(v.Caller).text(v.Tenant)
	return true, s.blob(v.CSRKey[:]).blob(v.NameDigest[:]).time(v.At).exec()
}

func addVerdict(c *conn, v *policymodule.Verdict) error {
	s, err := c.use(insertVerdict)
	if err != nil {
		return err
	}
	s.int(verdictKey(&v.VerdictKey)).text(v.Caller).text(v.Tenant).text(v.TransactionID).blob(v.CSRDigest[:])
	return s.text(v.ChallengeID).blob(v.CSRKey[:]).blob(v.NameDigest[:]).time(v.At).exec()
}

// touch keeps a grant as long as its newest verdict, and records the
// certificate, if there is one.
func touch(c *conn, id int64, at time.Time, thumbprint []byte) error {
	s, err := c.use(touchGrant)
	if err != nil {
		return err
	}
	return s.time(at).blob(thumbprint).int(id).exec()
}

func sweepOldVerdicts(c *conn, now time.Time) error {
	for _, id := range []statement{sweepVerdicts, sweepGrants} {
		s, err := c.use(id)
		if err != nil {
			return err
		}
		if err := s.time(now.Add(-verdictKeep)).int(sweepAtMost).exec(); err != nil {
			return err
		}
	}
	return nil
}

// FindVerdict implements policymodule.Verdicts.
func (j *Journal) FindVerdict(ctx context.Context, k policymodule.VerdictKey) (policymodule.Verdict, error) {
	var r verdictRow
	err := j.do(ctx, lazy, func(c *conn) (bool, error) {
		var (
			found bool
			err   error
		)
		r, found, err = findVerdict(c, k)
		if err == nil && !found {
			err = policymodule.ErrNoVerdict
		}
		return false, err
	})
	if err != nil {
		return policymodule.Verdict{}, err
	}
	return r.Verdict, nil
}

func findVerdict(c *conn, k policymodule.VerdictKey) (r verdictRow, found bool, err error) {
	s, err := c.use(verdictByKey)
	if err != nil {
		return r, false, err
	}
	found, err = s.int(verdictKey(&k)).text(k.Caller).text(k.Tenant).text(k.TransactionID).blob(k.CSRDigest[:]).step()
	if err != nil || !found {
		return r, false, err
	}
	defer s.reset()
	r.id, r.VerdictKey = s.colInt(), k
	r.ChallengeID, r.CSRKey, r.NameDigest, r.At = s.colText(), s.colDigest(), s.colDigest(), s.colTime()
	r.Outcome, r.Thumbprint, r.OutcomeAt = s.colText(), s.colDigest(), s.colTime()
	return r, true, nil
}

// granted reports whether a challenge was granted to a front end: then no
// endpoint of our own may spend it.
func granted(c *conn, challengeID string, err *error) bool {
	_, found, failed := findGrant(c, challengeID)
	*err = failed
	return found
}

func findGrant(c *conn, challengeID string) (g grant, found bool, err error) {
	s, err := c.use(grantByChallenge)
	if err != nil {
		return g, false, err
	}
	found, err = s.int(challengeKey(challengeID)).text(challengeID).step()
	if err != nil || !found {
		return g, false, err
	}
	defer s.reset()
	g = grant{id: s.colInt(), caller: s.colText(), tenant: s.colText(), csrKey: s.colDigest(), names: s.colDigest()}
	b := s.raw()
	g.issued = b != nil
	copy(g.thumbprint[:], b)
	return g, true, nil
}

// SettleVerdict implements policymodule.Verdicts. Once a challenge has led to a
// certificate, a failure on another of its transactions is ErrOutcomeDiffers
// too: a success is never followed by a failure.
func (j *Journal) SettleVerdict(ctx context.Context, k policymodule.VerdictKey, outcome string, thumbprint [32]byte, at time.Time) error {
	if outcome != policymodule.OutcomeIssued && outcome != policymodule.OutcomeFailed {
		return fmt.Errorf("outcome %q of a verdict: want %q or %q", outcome, policymodule.OutcomeIssued, policymodule.OutcomeFailed)
	}
	return j.do(ctx, durable, func(c *conn) (bool, error) {
		r, found, err := findVerdict(c, k)
		if err != nil {
			return false, err
		}
		if !found {
			return false, policymodule.ErrNoVerdict
		}
		if r.Outcome != "" {
			if r.Outcome != outcome || r.Thumbprint != thumbprint {
				return false, policymodule.ErrOutcomeDiffers
			}
			return false, nil
		}
		wrote, err := settleGrant(c, r.ChallengeID, outcome, thumbprint, at)
		if err != nil {
			return wrote, err
		}
		s, err := c.use(settleVerdict)
		if err != nil {
			return wrote, err
		}
		return true, s.text(outcome).blob(thumbprint[:]).time(at).int(r.id).exec()
	})
}

// settleGrant records an outcome of a challenge, if there is one.
func settleGrant(c *conn, challengeID, outcome string, thumbprint [32]byte, at time.Time) (wrote bool, err error) {
	if challengeID == "" {
		return false, nil
	}
	g, found, err := findGrant(c, challengeID)
	if err != nil || !found {
		return false, err
	}
	issued := outcome == policymodule.OutcomeIssued
	if g.issued && (!issued || g.thumbprint != thumbprint) {
		return false, policymodule.ErrOutcomeDiffers
	}
	if !issued {
		return true, touch(c, g.id, at, nil)
	}
	return true, touch(c, g.id, at, thumbprint[:])
}
