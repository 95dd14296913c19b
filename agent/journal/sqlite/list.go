package sqlite

import (
	"context"
	"slices"
	"strings"

	"github.com/certconnector/certconnector/agent/journal"

	sqlite3 "modernc.org/sqlite/lib"
)

const (
	// listLimit is the length of a list whose query has no limit.
	listLimit = 100
	// listWindow is how many rows are looked at in one go: enrolments wait
	// that long at most while somebody looks for something rare.
	listWindow = 4000
)

// List implements journal.Entries. It reads windows of rows from the newest
// back until the limit is reached; between windows others have their turn, so
// a list is not a picture of one moment.
func (j *Journal) List(ctx context.Context, q journal.Query) ([]journal.Entry, error) {
	q.States = slices.Clone(q.States)
	if q.Limit <= 0 {
		q.Limit = listLimit
	}
	oldest, newest, err := j.listRange(ctx, q.States)
	if err != nil {
		return nil, err
	}
	if q.Before > 0 {
		newest = min(newest, q.Before-1)
	}
	var list []journal.Entry
	for to := newest; to >= oldest && to > 0 && len(list) < q.Limit; to -= listWindow {
		err := j.do(ctx, lazy, func(c *conn) (bool, error) {
			found, err := listBetween(c, &q, max(to-listWindow+1, oldest), to, q.Limit-len(list))
			list = append(list, found...)
			return false, err
		})
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}

// listRange is between which IDs entries of the given states can be. Those
// that are open are few and have an index.
func (j *Journal) listRange(ctx context.Context, states []journal.State) (oldest, newest int64, err error) {
	id := rangeOfEntries
	if len(states) > 0 && !slices.ContainsFunc(states, journal.State.Final) {
		id = rangeOfOpenEntries
	}
	return j.idsBetween(ctx, id)
}

// idsBetween asks a statement for the lowest and the highest ID.
func (j *Journal) idsBetween(ctx context.Context, id statement) (oldest, newest int64, err error) {
	var from, to int64
	err = j.do(ctx, lazy, func(c *conn) (bool, error) {
		s, err := c.use(id)
		if err != nil {
			return false, err
		}
		if _, err = s.step(); err != nil {
			return false, err
		}
		from, to = s.colInt(), s.colInt()
		s.reset()
		return false, nil
	})
	if err != nil {
		return 0, 0, err
	}
	return from, to, nil
}

// listBetween reads the entries of one window, newest first.
func listBetween(c *conn, q *journal.Query, from, to int64, limit int) ([]journal.Entry, error) {
	sql := `SELECT ` + entryColumns + ` FROM entries e WHERE e.id BETWEEN ? AND ?`
	if q.Endpoint != "" {
		sql += ` AND e.endpoint = ?`
	}
	if q.Tenant != "" {
		sql += ` AND e.tenant = ?`
	}
	if len(q.States) > 0 {
		sql += ` AND e.state IN (?` + strings.Repeat(`, ?`, len(q.States)-1) + `)`
	}
	s, err := c.prepare(sql + ` ORDER BY e.id DESC LIMIT ?`)
	if err != nil {
		return nil, err
	}
	defer sqlite3.Xsqlite3_finalize(c.tls, s.handle)
	c.used = 0
	s.int(from).int(to)
	if q.Endpoint != "" {
		s.text(q.Endpoint)
	}
	if q.Tenant != "" {
		s.text(q.Tenant)
	}
	for _, state := range q.States {
		s.int(int64(state))
	}
	s.int(int64(limit))
	var list []journal.Entry
	for {
		found, err := s.step()
		if err != nil || !found {
			return list, err
		}
		list = append(list, scanEntry(s).Entry)
	}
}
