package sqlite

import (
	"errors"
	"fmt"

	sqlite3 "modernc.org/sqlite/lib"
)

// errDead heads every answer of a journal that stopped working.
var errDead = errors.New("the journal stopped, because what is on its disk is in doubt; find the cause, then restart the service")

// doubtful reports whether an error leaves unknown what is on disk.
func doubtful(err error) bool {
	var e *sqliteError
	if !errors.As(err, &e) {
		return true
	}
	switch e.primary() {
	case sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_CONSTRAINT:
		return false
	}
	return true
}

// describe puts the path and a way out to a failure of SQLite.
func describe(path string, err error) error {
	var e *sqliteError
	if !errors.As(err, &e) {
		return err
	}
	switch e.primary() {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return fmt.Errorf("journal %q is in use by %s: stop that one, or give this one a journal of its own: %w", path, owner(path), err)
	case sqlite3.SQLITE_FULL:
		return fmt.Errorf("no space for the journal %q: free some or move it to a larger disk; nothing was recorded: %w", path, err)
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return fmt.Errorf("journal %q is damaged: keep the file and the one ending in -wal, check the disk, restore a copy: %w", path, err)
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_AUTH:
		return fmt.Errorf("journal %q cannot be opened for writing: the service's account needs the right to write it and its folder: %w", path, err)
	case sqlite3.SQLITE_IOERR:
		return fmt.Errorf("reading or writing the journal %q failed: check the disk and the system's log: %w", path, err)
	}
	return fmt.Errorf("journal %q: %w", path, err)
}
