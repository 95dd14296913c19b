package sqlite

import (
	"time"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// stmt is a prepared statement. Parameters are bound and columns are read from
// left to right, so that a call site lists them in the order of the SQL. An
// error while binding is kept and returned by the next step.
type stmt struct {
	c      *conn
	handle uintptr
	bound  int32
	col    int32
	err    error
}

func (s *stmt) check(rc int32) *stmt {
	if rc != sqlite3.SQLITE_OK && s.err == nil {
		s.err = s.c.failure(rc)
	}
	return s
}

func (s *stmt) int(v int64) *stmt {
	s.bound++
	return s.check(sqlite3.Xsqlite3_bind_int64(s.c.tls, s.handle, s.bound, v))
}

func (s *stmt) bool(v bool) *stmt {
	if v {
		return s.int(1)
	}
	return s.int(0)
}

// time binds nanoseconds since 1970; the zero time is 0.
func (s *stmt) time(t time.Time) *stmt { return s.int(nanos(t)) }

func (s *stmt) null() *stmt {
	s.bound++
	return s.check(sqlite3.Xsqlite3_bind_null(s.c.tls, s.handle, s.bound))
}

func (s *stmt) text(v string) *stmt {
	s.bound++
	p, del, free := s.place(len(v))
	copy(libc.GoBytes(p, len(v)), v)
	s.check(sqlite3.Xsqlite3_bind_text(s.c.tls, s.handle, s.bound, p, int32(len(v)), del))
	if free {
		sqlite3.Xsqlite3_free(s.c.tls, p)
	}
	return s
}

// blob binds bytes; none are NULL.
func (s *stmt) blob(v []byte) *stmt {
	if len(v) == 0 {
		return s.null()
	}
	s.bound++
	p, del, free := s.place(len(v))
	copy(libc.GoBytes(p, len(v)), v)
	s.check(sqlite3.Xsqlite3_bind_blob(s.c.tls, s.handle, s.bound, p, int32(len(v)), del))
	if free {
		sqlite3.Xsqlite3_free(s.c.tls, p)
	}
	return s
}

// place finds memory that SQLite may read until the statement is used again:
// in the arena, or, for a value too long for that, memory to be copied from
// and freed.
func (s *stmt) place(n int) (p, destructor uintptr, free bool) {
	if s.c.used+n <= arenaSize-8 {
		p = s.c.arena + uintptr(s.c.used)
		s.c.used += n
		return p, 0, false
	}
	p = sqlite3.Xsqlite3_malloc(s.c.tls, int32(n))
	if p == 0 {
		s.err = &sqliteError{sqlite3.SQLITE_NOMEM, "out of memory"}
		return s.c.arena, sqliteTransient, false
	}
	return p, sqliteTransient, true
}

// step reports whether there is a row. After the last one, and after an error,
// the statement is reset.
func (s *stmt) step() (bool, error) {
	if s.err != nil {
		s.reset()
		return false, s.err
	}
	s.col = 0
	switch rc := sqlite3.Xsqlite3_step(s.c.tls, s.handle); rc {
	case sqlite3.SQLITE_ROW:
		return true, nil
	case sqlite3.SQLITE_DONE:
		s.reset()
		return false, nil
	default:
		s.err = s.c.failure(rc)
		s.reset()
		return false, s.err
	}
}

// exec runs a statement whose rows, if any, do not matter.
func (s *stmt) exec() error {
	for {
		row, err := s.step()
		if err != nil || !row {
			return err
		}
	}
}

// reset ends the reading of rows early.
func (s *stmt) reset() { sqlite3.Xsqlite3_reset(s.c.tls, s.handle) }

func (s *stmt) colNull() bool {
	return sqlite3.Xsqlite3_column_type(s.c.tls, s.handle, s.col) == sqlite3.SQLITE_NULL
}

func (s *stmt) colInt() int64 {
	v := sqlite3.Xsqlite3_column_int64(s.c.tls, s.handle, s.col)
	s.col++
	return v
}

func (s *stmt) colTime() time.Time { return moment(s.colInt()) }

func (s *stmt) colText() string {
	p := sqlite3.Xsqlite3_column_text(s.c.tls, s.handle, s.col)
	n := sqlite3.Xsqlite3_column_bytes(s.c.tls, s.handle, s.col)
	s.col++
	if p == 0 || n == 0 {
		return ""
	}
	return string(libc.GoBytes(p, int(n)))
}

// raw is the column's own memory, valid until the next step.
func (s *stmt) raw() []byte {
	p := sqlite3.Xsqlite3_column_blob(s.c.tls, s.handle, s.col)
	n := sqlite3.Xsqlite3_column_bytes(s.c.tls, s.handle, s.col)
	s.col++
	if p == 0 || n == 0 {
		return nil
	}
	return libc.GoBytes(p, int(n))
}

func (s *stmt) colBlob() []byte {
	if b := s.raw(); b != nil {
		return append([]byte(nil), b...)
	}
	return nil
}

func (s *stmt) colDigest() (d [32]byte) {
	copy(d[:], s.raw())
	return d
}

func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func moment(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}
