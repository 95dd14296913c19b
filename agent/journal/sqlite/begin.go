package sqlite

import (
	"bytes"
	"context"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
)

// Begin implements journal.Entries.
func (j *Journal) Begin(ctx context.Context, in journal.Intent) (journal.Entry, *journal.Owned, error) {
	var (
		e     journal.Entry
		owned *journal.Owned
	)
	m := durable
	if in.Lazy {
		m = own
	}
	err := j.do(ctx, m, func(c *conn) (bool, error) {
		id, spent, err := same(c, &in)
		if err != nil {
			return false, err
		}
		if id != 0 {
			r, err := load(c, id)
			e = r.Entry
			return false, err
		}
		if spent {
			return false, journal.ErrChallengeSpent
		}
		r, err := insert(c, &in)
		e, owned = r.Entry, &journal.Owned{Entry: r.ID, Token: r.token}
		if err == nil && c.ledger && in.ChallengeID != "" {
			err = spend(c, in.ChallengeID)
		}
		return true, err
	})
	if err != nil {
		return journal.Entry{}, nil, err
	}
	return e, owned, nil
}

// Same implements journal.Entries.
func (j *Journal) Same(ctx context.Context, in journal.Intent) (journal.Entry, error) {
	return j.read(ctx, func(c *conn) (row, error) {
		id, _, err := same(c, &in)
		if err != nil {
			return row{}, err
		}
		if id == 0 {
			return row{}, journal.ErrNotFound
		}
		return load(c, id)
	})
}

// same looks for an entry that is the same request as in, the newest first. It
// also tells whether the challenge belongs to some other entry.
func same(c *conn, in *journal.Intent) (id int64, spent bool, err error) {
	since := nanos(in.Since)
	s, err := c.use(entriesByRequest)
	if err != nil {
		return 0, false, err
	}
	s.int(requestKey(in.Endpoint, in.TransactionID, &in.SignerKey)).text(in.Endpoint).text(in.TransactionID).blob(in.SignerKey[:])
	for {
		found, err := s.step()
		if err != nil {
			return 0, false, err
		}
		if !found {
			break
		}
		id, at := s.colInt(), s.colInt()
		if at < since {
			continue
		}
		repeated := bytes.Equal(s.raw(), in.SignerID[:])
		repeated = bytes.Equal(s.raw(), in.CSRDigest[:]) && repeated
		resigned := bytes.Equal(s.raw(), in.CSRKey[:])
		resigned = bytes.Equal(s.raw(), in.Names[:]) && resigned
		resigned = s.colText() == in.ChallengeID && resigned
		if repeated || resigned {
			s.reset()
			return id, false, nil
		}
	}
	if in.ChallengeID == "" {
		return 0, false, nil
	}
	return sameChallenge(c, in, since)
}

// sameChallenge looks for the entry that spent in's challenge: the same
// request under any transaction ID when endpoint, key and names are equal.
func sameChallenge(c *conn, in *journal.Intent, since int64) (id int64, spent bool, err error) {
	s, err := c.use(entryByChallenge)
	if err != nil {
		return 0, false, err
	}
	found, err := s.int(challengeKey(in.ChallengeID)).text(in.ChallengeID).step()
	if err != nil {
		return 0, false, err
	}
	if !found {
		return 0, c.grants && granted(c, in.ChallengeID, &err), err
	}
	defer s.reset()
	id, at := s.colInt(), s.colInt()
	equal := s.colText() == in.Endpoint
	equal = bytes.Equal(s.raw(), in.CSRKey[:]) && equal
	equal = bytes.Equal(s.raw(), in.Names[:]) && equal
	if equal && at >= since {
		return id, false, nil
	}
	return 0, true, nil
}

// insert writes the row of a new request, and what a refusal owes.
func insert(c *conn, in *journal.Intent) (row, error) {
	r := row{token: c.freshToken()}
	e := &r.Entry
	*e = journal.Entry{Intent: *in, State: journal.Verified, NextAt: in.Now.Add(in.Lease), UpdatedAt: in.Now}
	if in.Submit {
		e.State, e.SubmittedAt = journal.Submitted, plain(in.Now)
	}
	e.Since, e.Lease, e.Refused, e.Lazy, e.Submit = time.Time{}, 0, nil, false, false
	e.Now, e.GiveUp, e.UpdatedAt, e.NextAt = plain(e.Now), plain(e.GiveUp), plain(e.UpdatedAt), plain(e.NextAt)
	if in.Refused != nil {
		f := *in.Refused
		e.State, e.NextAt, e.Failure = journal.Failed, time.Time{}, &f
		if !in.Notify {
			e.SealedCSR = nil
		}
	}
	s, err := c.use(insertEntry)
	if err != nil {
		return r, err
	}
	s.int(requestKey(e.Endpoint, e.TransactionID, &e.SignerKey))
	if e.ChallengeID == "" {
		s.null()
	} else {
		s.int(challengeKey(e.ChallengeID))
	}
	s.int(int64(e.State)).int(r.token).bool(!e.State.Final())
	bindNextAt(s, e.NextAt)
	s.time(e.Now).time(e.UpdatedAt)
	s.text(e.Endpoint).text(e.Tenant).text(e.TransactionID)
	s.blob(e.SignerKey[:]).blob(e.SignerID[:]).blob(e.CSRDigest[:]).blob(e.CSRKey[:]).blob(e.Names[:])
	s.text(e.ChallengeID).text(e.CA).text(e.Template).text(e.Subject)
	s.int(int64(e.MaxValidity)).bool(e.Notify).time(e.GiveUp)
	s.time(e.SubmittedAt)
	bindFailure(s, e.Failure)
	if err := s.blob(e.SealedCSR).exec(); err != nil {
		return r, err
	}
	e.ID = c.lastID()
	if in.Refused != nil && in.Notify {
		err = owe(c, e, journal.OweFailure, in.Now, in.Now)
	}
	return r, err
}

// plain is a time as it is read back.
func plain(t time.Time) time.Time { return moment(nanos(t)) }
