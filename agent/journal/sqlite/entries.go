package sqlite

import (
	"context"
	"slices"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
)

// read runs a look-up of one entry. It goes through the writer, which owns the
// only connection, and changes nothing.
func (j *Journal) read(ctx context.Context, find func(*conn) (row, error)) (journal.Entry, error) {
	var r row
	err := j.do(ctx, lazy, func(c *conn) (bool, error) {
		var err error
		r, err = find(c)
		return false, err
	})
	if err != nil {
		return journal.Entry{}, err
	}
	return r.Entry, nil
}

// Newest implements journal.Entries.
func (j *Journal) Newest(ctx context.Context, endpoint, transactionID string, signerKey [32]byte) (journal.Entry, error) {
	return j.read(ctx, func(c *conn) (row, error) {
		s, err := c.use(newestByRequest)
		if err != nil {
			return row{}, err
		}
		return single(s.int(requestKey(endpoint, transactionID, &signerKey)).text(endpoint).text(transactionID).blob(signerKey[:]))
	})
}

// Issued implements journal.Entries.
func (j *Journal) Issued(ctx context.Context, ca, serial string) (journal.Entry, error) {
	return j.read(ctx, func(c *conn) (row, error) {
		s, err := c.use(newestBySerial)
		if err != nil {
			return row{}, err
		}
		return single(s.text(serial).text(ca))
	})
}

// Entry implements journal.Entries.
func (j *Journal) Entry(ctx context.Context, id int64) (journal.Entry, error) {
	return j.read(ctx, func(c *conn) (row, error) { return load(c, id) })
}

// Advance implements journal.Entries.
func (j *Journal) Advance(ctx context.Context, o *journal.Owned, st journal.Step) (journal.Entry, error) {
	m := durable
	if st.Lazy {
		m = own
	}
	right := *o
	var e journal.Entry
	err := j.do(ctx, m, func(c *conn) (bool, error) {
		r, err := load(c, right.Entry)
		if err == journal.ErrNotFound {
			return false, journal.ErrLost
		}
		if err != nil {
			return false, err
		}
		if r.token != right.Token || !slices.Contains(st.To.From(), r.State) {
			return false, journal.ErrLost
		}
		e, err = step(c, r.Entry, &st)
		return true, err
	})
	if err != nil {
		return journal.Entry{}, err
	}
	return e, nil
}

// step writes a step that is allowed.
func step(c *conn, e journal.Entry, st *journal.Step) (journal.Entry, error) {
	apply(&e, st)
	for _, kind := range st.Owe {
		if kind == journal.OweSuccess && e.State.Final() {
			continue // a final state has nothing left to tell of a success
		}
		at := st.OweAt
		if at.IsZero() {
			at = st.Now
		}
		if err := owe(c, &e, kind, at, st.Now); err != nil {
			return e, err
		}
	}
	if !st.GiveUp.IsZero() && len(st.Owe) == 0 && !e.State.Final() {
		if err := extend(c, &e); err != nil {
			return e, err
		}
	}
	if !e.State.Final() {
		return e, store(c, &e, goesOn(e.State), st.Certificate, false)
	}
	wipe, err := settleFinal(c, e.ID)
	if err != nil {
		return e, err
	}
	if wipe {
		e.SealedCSR = nil
	}
	return e, store(c, &e, false, st.Certificate, wipe)
}

// goesOn reports whether whoever takes an entry to a state goes on working on
// it: something is being asked right now. In the other states the entry rests
// until NextAt, and a device that asks for it may have it taken up before.
func goesOn(s journal.State) bool {
	return s == journal.Submitted || s == journal.Issued
}

// apply puts a step's fields into an entry.
func apply(e *journal.Entry, st *journal.Step) {
	e.State, e.UpdatedAt = st.To, plain(st.Now)
	if !st.NextAt.IsZero() {
		e.NextAt = plain(st.NextAt)
	}
	if st.To.Final() {
		e.NextAt = time.Time{}
	}
	if !st.GiveUp.IsZero() {
		e.GiveUp = plain(st.GiveUp)
	}
	if st.Attempts != 0 {
		e.Attempts = st.Attempts
	}
	if !st.SubmittedAt.IsZero() {
		e.SubmittedAt = plain(st.SubmittedAt)
	}
	e.Resubmitted = e.Resubmitted || st.Resubmitted
	if st.CARequestID != "" {
		e.CARequestID = st.CARequestID
	}
	if st.Certificate != nil {
		e.Certificate = slices.Clone(st.Certificate)
	}
	if st.Serial != "" {
		e.Serial = st.Serial
	}
	if st.Failure != nil {
		f := *st.Failure
		e.Failure = &f
	}
}
