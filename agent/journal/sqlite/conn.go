package sqlite

import (
	"errors"
	"fmt"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// conn is one SQLite connection, spoken to without database/sql: the writer
// goroutine is its only user, so there is nothing to pool, and a query through
// database/sql costs an allocation for each column name of each execution.
type conn struct {
	tls   *libc.TLS
	db    uintptr
	cell  *[1]uintptr // where SQLite puts what it hands out; on the heap, which does not move
	arena uintptr     // text and blobs of the statement that is being bound
	used  int
	stmts [lastStatement]*stmt
	token int64 // last one that freshToken gave

	ledger bool // challenges may be recorded, which a new entry may spend
	grants bool // challenges may be granted to front ends, which a new entry must not spend

	copying uintptr // the backup of this file that is under way; 0: none
}

// arenaSize holds the largest usual row; a longer value is copied by SQLite.
const arenaSize = 128 << 10

// sqliteTransient is SQLITE_TRANSIENT: SQLite makes its own copy.
const sqliteTransient = ^uintptr(0)

// sqliteError is a failure of SQLite itself, never of an operation's logic.
type sqliteError struct {
	code int32 // extended result code
	text string
}

// Error names the code and SQLite's words for it.
func (e *sqliteError) Error() string { return fmt.Sprintf("%s (SQLite code %d)", e.text, e.code) }

// primary is the error's class: SQLITE_FULL, SQLITE_IOERR, …
func (e *sqliteError) primary() int32 { return e.code & 0xff }

// openConn opens a file that exists. vfs is "" for the operating system's.
func openConn(path, vfs string) (*conn, error) {
	c := &conn{tls: libc.NewTLS(), cell: new([1]uintptr)}
	if err := c.open(path, vfs); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

func (c *conn) open(path, vfs string) error {
	name, err := libc.CString(path)
	if err != nil {
		return fmt.Errorf("path: %w", err)
	}
	defer libc.Xfree(c.tls, name)
	var driver uintptr
	if vfs != "" {
		if driver, err = libc.CString(vfs); err != nil {
			return fmt.Errorf("name of the file layer: %w", err)
		}
		defer libc.Xfree(c.tls, driver)
	}
	rc := sqlite3.Xsqlite3_open_v2(c.tls, name, uintptr(unsafe.Pointer(c.cell)),
		sqlite3.SQLITE_OPEN_READWRITE|sqlite3.SQLITE_OPEN_NOMUTEX, driver)
	c.db = c.cell[0]
	if rc != sqlite3.SQLITE_OK {
		return c.failure(rc)
	}
	sqlite3.Xsqlite3_extended_result_codes(c.tls, c.db, 1)
	c.arena = sqlite3.Xsqlite3_malloc(c.tls, arenaSize)
	if c.arena == 0 {
		return &sqliteError{sqlite3.SQLITE_NOMEM, "out of memory"}
	}
	return nil
}

// close finalizes what was prepared and closes the file.
func (c *conn) close() error {
	c.endCopy()
	for i, s := range c.stmts {
		if s != nil {
			sqlite3.Xsqlite3_finalize(c.tls, s.handle)
			c.stmts[i] = nil
		}
	}
	var err error
	if c.db != 0 {
		if rc := sqlite3.Xsqlite3_close_v2(c.tls, c.db); rc != sqlite3.SQLITE_OK {
			err = c.failure(rc)
		}
		c.db = 0
	}
	if c.arena != 0 {
		sqlite3.Xsqlite3_free(c.tls, c.arena)
		c.arena = 0
	}
	c.tls.Close()
	return err
}

// keepLogOnClose stops SQLite from moving the write-ahead log into the
// database when the connection closes.
func (c *conn) keepLogOnClose() {
	args := libc.NewVaList(int32(1), uintptr(0))
	defer libc.Xfree(c.tls, args)
	sqlite3.Xsqlite3_db_config(c.tls, c.db, sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, args)
}

// freshToken is the first token of a new row. A row number may be given again
// after a rollback; that no token is keeps an owner from before it away from
// the row that came after. Claims count on from it.
func (c *conn) freshToken() int64 {
	c.token += 1 << 20
	return c.token
}

// nextToken is the token of a claim to a row that has another one. Since none
// is given twice, a claim that was rolled back never fits the one that came
// after it.
func (c *conn) nextToken(last int64) int64 {
	c.token = max(c.token, last) + 1
	return c.token
}

// inTransaction reports whether a transaction is open.
func (c *conn) inTransaction() bool { return sqlite3.Xsqlite3_get_autocommit(c.tls, c.db) == 0 }

// lastID is the row number of the last insertion.
func (c *conn) lastID() int64 { return sqlite3.Xsqlite3_last_insert_rowid(c.tls, c.db) }

// changes counts the rows that the last statement changed.
func (c *conn) changes() int { return int(sqlite3.Xsqlite3_changes(c.tls, c.db)) }

func (c *conn) failure(rc int32) error {
	text := libc.GoString(sqlite3.Xsqlite3_errstr(c.tls, rc))
	if c.db != 0 && sqlite3.Xsqlite3_extended_errcode(c.tls, c.db) == rc {
		text = libc.GoString(sqlite3.Xsqlite3_errmsg(c.tls, c.db))
	}
	return &sqliteError{rc, text}
}

// prepare compiles one statement.
func (c *conn) prepare(sql string) (*stmt, error) {
	text, err := libc.CString(sql)
	if err != nil {
		return nil, fmt.Errorf("statement: %w", err)
	}
	defer libc.Xfree(c.tls, text)
	rc := sqlite3.Xsqlite3_prepare_v3(c.tls, c.db, text, -1, sqlite3.SQLITE_PREPARE_PERSISTENT, uintptr(unsafe.Pointer(c.cell)), 0)
	if rc != sqlite3.SQLITE_OK {
		return nil, c.failure(rc)
	}
	return &stmt{c: c, handle: c.cell[0]}, nil
}

// exec runs statements that are not worth keeping, split by the caller.
func (c *conn) exec(statements ...string) error {
	for _, sql := range statements {
		s, err := c.prepare(sql)
		if err != nil {
			return err
		}
		err = s.exec()
		sqlite3.Xsqlite3_finalize(c.tls, s.handle)
		if err != nil {
			return err
		}
	}
	return nil
}

// number returns the first column of the first row.
func (c *conn) number(sql string) (int64, error) {
	s, err := c.prepare(sql)
	if err != nil {
		return 0, err
	}
	defer sqlite3.Xsqlite3_finalize(c.tls, s.handle)
	row, err := s.step()
	if err != nil || !row {
		return 0, err
	}
	return s.colInt(), nil
}

// use returns a statement of the table, compiled at its first use and ready to
// be bound.
func (c *conn) use(id statement) (*stmt, error) {
	s := c.stmts[id]
	if s == nil {
		var err error
		if s, err = c.prepare(statements[id]); err != nil {
			return nil, err
		}
		c.stmts[id] = s
	}
	s.bound, s.col, s.err = 0, 0, nil
	c.used = 0
	return s, nil
}
