package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	sqlite3 "modernc.org/sqlite/lib"
)

// Info is what a journal file says about itself.
type Info struct {
	Path         string
	Schema       int       // version of the schema
	Bytes        int64     // size, without a log beside it
	Entries      int64     // enrolments
	Certificates int64     // in the register of embedded CAs
	Jobs         int64     // ever accepted
	Oldest       time.Time // creation of the first enrolment; zero: there is none
	Newest       time.Time // and of the last
	RestoredAt   time.Time // when it was found to be restored; zero: never
	MadeAt       time.Time // of a copy that Backup made; zero: it is none
	MadeBy       string    // who made that, by Options.Owner
}

// Info tells about the journal while it is in use.
func (j *Journal) Info(ctx context.Context) (Info, error) {
	var info Info
	err := j.do(ctx, lazy, func(c *conn) (bool, error) {
		var err error
		info, err = inspect(c)
		return false, err
	})
	info.Path = j.path
	return info, err
}

// Inspect tells about a journal that is not in use, or about a copy of one.
// Its schema may be older or newer than this program's. A copy that Backup made
// is only read; one that was made otherwise takes in the log beside it.
func Inspect(path string) (info Info, err error) {
	st, err := os.Stat(path)
	if err != nil {
		return Info{}, fmt.Errorf("looking at a journal: %w", err)
	}
	if !st.Mode().IsRegular() {
		return Info{}, fmt.Errorf("%q is no file", path)
	}
	c, err := openConn(path, "")
	if err != nil {
		return Info{}, describeUse(path, err)
	}
	defer func() { err = errors.Join(err, c.close()) }()
	if err := isJournal(c, path); err != nil {
		return Info{}, describeUse(path, err)
	}
	if info, err = inspect(c); err != nil {
		return Info{}, describeUse(path, err)
	}
	info.Path = path
	return info, nil
}

// describeUse says of a journal who has it, and of any other failure what to do.
func describeUse(path string, err error) error {
	if busy(err) {
		return describe(path, err)
	}
	return describeCopy(path, err)
}

func busy(err error) bool {
	var e *sqliteError
	return errors.As(err, &e) && (e.primary() == sqlite3.SQLITE_BUSY || e.primary() == sqlite3.SQLITE_LOCKED)
}

// isJournal locks a file and refuses one that is no journal.
func isJournal(c *conn, path string) error {
	if err := c.exec(`PRAGMA locking_mode = EXCLUSIVE`, `PRAGMA trusted_schema = OFF`); err != nil {
		return err
	}
	id, err := c.number(`PRAGMA application_id`)
	if err != nil {
		return err
	}
	if id != applicationID {
		return fmt.Errorf("%q is not a journal of this program", path)
	}
	return nil
}

// inspect reads all of an Info but the path.
func inspect(c *conn) (Info, error) {
	info, err := describeFile(c)
	if err != nil {
		return Info{}, err
	}
	labelled, err := has(c, "backup_label")
	if err != nil || !labelled {
		return info, err
	}
	s, err := c.prepare(`SELECT made_at, made_by FROM backup_label`)
	if err != nil {
		return Info{}, err
	}
	defer sqlite3.Xsqlite3_finalize(c.tls, s.handle)
	if row, err := s.step(); err != nil || !row {
		return info, err
	}
	info.MadeAt, info.MadeBy = s.colTime(), s.colText()
	return info, nil
}

// describeFile reads what does not come from a label. Rows of these tables are
// never deleted, and numbered from 1.
func describeFile(c *conn) (Info, error) {
	var info Info
	var err error
	number := func(sql string) int64 {
		var n int64
		if err == nil {
			n, err = c.number(sql)
		}
		return n
	}
	info.Schema = int(number(`PRAGMA user_version`))
	info.Bytes = number(`PRAGMA page_count`) * number(`PRAGMA page_size`)
	info.Entries = number(`SELECT max(id) FROM entries`)
	info.Oldest = moment(number(`SELECT created_at FROM entries ORDER BY id LIMIT 1`))
	info.Newest = moment(number(`SELECT created_at FROM entries ORDER BY id DESC LIMIT 1`))
	info.Certificates = number(`SELECT max(id) FROM certificates`)
	for table, read := range map[string]func(){
		"jobs":     func() { info.Jobs = number(`SELECT max(id) FROM jobs`) },
		"openings": func() { info.RestoredAt = moment(number(`SELECT max(at) FROM openings WHERE restored = 1`)) },
	} {
		there, failed := has(c, table)
		if err = errors.Join(err, failed); there {
			read()
		}
	}
	return info, err
}

// has reports whether a table is in the file: older ones have fewer.
func has(c *conn, table string) (bool, error) {
	n, err := c.number(`SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = '` + table + `'`)
	return n > 0, err
}
