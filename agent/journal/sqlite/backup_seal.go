package sqlite

import (
	"errors"
	"fmt"
	"time"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// label is what a copy says about itself, in a table that only copies have.
type label struct {
	at time.Time
	by string
}

// alone is how a file is opened that nobody else knows of. It ends as one file
// without a log beside it, which can be read from a medium that takes no writes.
var alone = []string{
	`PRAGMA locking_mode = EXCLUSIVE`,
	`PRAGMA synchronous = OFF`,
	`PRAGMA trusted_schema = OFF`,
	`PRAGMA journal_mode = MEMORY`,
}

// forgetting makes a copy one that no witness knows: the names of its openings
// are new, and it knows that there was a witness. So it is taken for restored
// wherever it is started, whether there is a witness or not.
var forgetting = []string{
	`UPDATE openings SET name = randomblob(16)`,
	`INSERT INTO openings (name, at, witnessed, restored)
		SELECT randomblob(16), coalesce(max(at), 0), 1, 0 FROM openings`,
}

// seal makes a finished copy one to keep: checked, without the witness's
// promise, labelled, one file.
func seal(path string, l label) (info Info, err error) {
	c, err := openConn(path, "")
	if err != nil {
		return Info{}, err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	if err := c.exec(alone...); err != nil {
		return Info{}, err
	}
	if err := sound(c); err != nil {
		return Info{}, err
	}
	if err := c.exec(`BEGIN IMMEDIATE`); err != nil {
		return Info{}, err
	}
	if err := c.exec(forgetting...); err != nil {
		return Info{}, err
	}
	if info, err = describeFile(c); err != nil {
		return Info{}, err
	}
	if err := writeLabel(c, l, info); err != nil {
		return Info{}, err
	}
	if err := c.exec(`COMMIT`); err != nil {
		return Info{}, err
	}
	return inspect(c)
}

func writeLabel(c *conn, l label, info Info) error {
	err := c.exec(`DROP TABLE IF EXISTS backup_label`,
		`CREATE TABLE backup_label (made_at INTEGER NOT NULL, made_by TEXT NOT NULL, entries INTEGER NOT NULL, certificates INTEGER NOT NULL)`)
	if err != nil {
		return err
	}
	s, err := c.prepare(`INSERT INTO backup_label (made_at, made_by, entries, certificates) VALUES (?, ?, ?, ?)`)
	if err != nil {
		return err
	}
	defer sqlite3.Xsqlite3_finalize(c.tls, s.handle)
	c.used = 0
	return s.time(l.at).text(l.by).int(info.Entries).int(info.Certificates).exec()
}

// sound has SQLite read every page and compare what they say of each other.
func sound(c *conn) error {
	s, err := c.prepare(`PRAGMA quick_check(1)`)
	if err != nil {
		return err
	}
	defer sqlite3.Xsqlite3_finalize(c.tls, s.handle)
	row, err := s.step()
	if err != nil {
		return err
	}
	if said := s.colText(); !row || said != "ok" {
		return fmt.Errorf("the file is damaged: %.200s", said)
	}
	return nil
}

// memory is n bytes that SQLite gave.
func memory(p uintptr, n int) []byte { return libc.GoBytes(p, n) }
