package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	sqlite3 "modernc.org/sqlite/lib"

	files "github.com/certconnector/certconnector/internal/durable"
)

// A backup is SQLite's online backup, made by the writer between its commits:
// a portion of pages, then whoever waits, then the next portion. What commits
// meanwhile changes pages that were copied already; SQLite writes those to the
// copy as well, because it is the same connection. So the copy is the journal
// of the moment of its last portion, and nothing begins anew however busy the
// service is.
//
// The copy is made under another name, checked, synced and only then named as
// was asked. Whatever interrupts it leaves that other name at most.

// portion is how many pages are copied in one go: 1 MiB, a few milliseconds.
const portion = 256

// partialSuffix ends the name of a copy that is not finished.
const partialSuffix = ".partial"

// ErrBackupRuns says that a backup is under way already.
var ErrBackupRuns = errors.New("another backup of this journal is under way: wait for its end")

// backups is what making them needs.
type backups struct {
	mu    sync.Mutex // one at a time
	owner string
	step  func(name string) error // of tests
	pages int                     // of tests
}

func (b *backups) between(name string) error {
	if b.step == nil {
		return nil
	}
	return b.step(name)
}

// Backup writes a copy of the journal to a file that is not there yet,
// readable by its owner only, while the journal is in use. The copy holds
// everything that was durable when Backup was called, and what came until it
// ended; it is checked before it gets its name. Whoever starts on it finds that
// it was restored, however little happened since: see RestoredAt.
func (j *Journal) Backup(ctx context.Context, path string) (Info, error) {
	if !j.backups.mu.TryLock() {
		return Info{}, ErrBackupRuns
	}
	defer j.backups.mu.Unlock()
	if err := j.mayWrite(path); err != nil {
		return Info{}, err
	}
	partial := path + partialSuffix
	err := removeDatabase(partial) // of a backup that was killed
	var info Info
	if err == nil {
		info, err = j.backup(ctx, partial, path)
	}
	if err != nil {
		return Info{}, errors.Join(fmt.Errorf("no copy of the journal was made: %w", describeCopy(path, err)), removeDatabase(partial))
	}
	return info, nil
}

// mayWrite refuses names that are taken, or that SQLite or this package would take.
func (j *Journal) mayWrite(path string) error {
	if j.ofOurs(path) {
		return fmt.Errorf("%q is a name that the journal uses itself: choose another one", path)
	}
	_, err := os.Lstat(path)
	if err == nil {
		return fmt.Errorf("%q exists already and is kept: choose another name: %w", path, fs.ErrExist)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("looking for the copy's place: %w", err)
	}
	return nil
}

func (j *Journal) ofOurs(path string) bool {
	path = filepath.Clean(path)
	if path == filepath.Clean(j.path) || j.witness != nil && path == filepath.Clean(j.witness.path) {
		return true
	}
	suffix, found := strings.CutPrefix(path, filepath.Clean(j.path))
	return found && strings.HasPrefix(suffix, "-")
}

func (j *Journal) backup(ctx context.Context, partial, path string) (Info, error) {
	f, err := os.OpenFile(partial, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return Info{}, err
	}
	if err := f.Close(); err != nil {
		return Info{}, err
	}
	if err := j.copyTo(ctx, partial); err != nil {
		return Info{}, err
	}
	if err := j.backups.between("copied"); err != nil {
		return Info{}, err
	}
	info, err := seal(partial, label{at: j.clock(), by: j.backups.owner})
	if err != nil {
		return Info{}, err
	}
	if err := j.backups.between("sealed"); err != nil {
		return Info{}, err
	}
	if err := ctx.Err(); err != nil {
		return Info{}, err
	}
	if err := errors.Join(syncFile(partial), placeNew(partial, path)); err != nil {
		return Info{}, err
	}
	info.Path = path
	return info, nil
}

// copyTo fills an empty file with the journal.
func (j *Journal) copyTo(ctx context.Context, path string) (err error) {
	to, err := openConn(path, "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.close()) }()
	// A copy that is interrupted is worth nothing, and it is synced at its end.
	if err := to.exec(`PRAGMA locking_mode = EXCLUSIVE`, `PRAGMA journal_mode = OFF`, `PRAGMA synchronous = OFF`); err != nil {
		return err
	}
	if j.backups.pages > 0 {
		if err := to.exec(fmt.Sprintf(`PRAGMA max_page_count = %d`, j.backups.pages)); err != nil {
			return err
		}
	}
	err = j.outside(func(c *conn) error { return c.beginCopy(to) })
	for done := false; err == nil && !done; {
		var took time.Duration
		err = j.outside(func(c *conn) (err error) {
			if err := j.Err(); err != nil {
				return err
			}
			began := time.Now()
			done, err = c.copyPages(portion)
			took = time.Since(began)
			return err
		})
		if err == nil {
			err = j.backups.between("portion")
		}
		if err == nil && !done {
			err = j.rest(ctx, took)
		}
	}
	end := j.outside(func(c *conn) error { return c.endCopy() })
	if errors.Is(end, ErrClosed) {
		<-j.stopped // the writer has ended it
	}
	if err == nil { // else it says the same once more
		err = end
	}
	return err
}

// rest leaves the writer to others for as long as it was taken from them.
func (j *Journal) rest(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-j.quit:
		return ErrClosed
	}
}

// outside has the writer run something outside of any transaction, and waits
// for it whatever happens.
func (j *Journal) outside(run func(*conn) error) error {
	return j.do(context.Background(), between, func(c *conn) (bool, error) { return false, run(c) })
}

// beginCopy begins to copy the file of c to that of to, which is empty. The
// connection to belongs to c's user until endCopy.
func (c *conn) beginCopy(to *conn) error {
	main := [...]byte{'m', 'a', 'i', 'n', 0}
	p := sqlite3.Xsqlite3_malloc(c.tls, int32(len(main)))
	if p == 0 {
		return &sqliteError{sqlite3.SQLITE_NOMEM, "out of memory"}
	}
	defer sqlite3.Xsqlite3_free(c.tls, p)
	copy(memory(p, len(main)), main[:])
	if c.copying = sqlite3.Xsqlite3_backup_init(c.tls, to.db, p, c.db, p); c.copying == 0 {
		return to.failure(sqlite3.Xsqlite3_extended_errcode(c.tls, to.db))
	}
	return nil
}

// copyPages copies the next n pages and reports whether they were the last.
func (c *conn) copyPages(n int32) (done bool, err error) {
	if c.copying == 0 {
		return false, ErrClosed
	}
	switch rc := sqlite3.Xsqlite3_backup_step(c.tls, c.copying, n); rc {
	case sqlite3.SQLITE_DONE:
		return true, nil
	case sqlite3.SQLITE_OK:
		return false, nil
	default:
		return false, c.failure(rc)
	}
}

// endCopy ends a copy, finished or not. Without one it does nothing.
func (c *conn) endCopy() error {
	if c.copying == 0 {
		return nil
	}
	rc := sqlite3.Xsqlite3_backup_finish(c.tls, c.copying)
	c.copying = 0
	if rc != sqlite3.SQLITE_OK {
		return c.failure(rc)
	}
	return nil
}

// placeNew gives a finished file its name, unless somebody has taken that
// meanwhile.
func placeNew(from, to string) error {
	switch err := os.Link(from, to); {
	case err == nil:
		if err := os.Remove(from); err != nil {
			return err
		}
	case errors.Is(err, fs.ErrExist):
		return err
	default: // a file system without links
		if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
			return errors.Join(fs.ErrExist, err)
		}
		if err := os.Rename(from, to); err != nil {
			return err
		}
	}
	return files.SyncFolder(filepath.Dir(to))
}

func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// besides are the files that SQLite keeps beside a database.
var besides = []string{"-wal", "-shm", "-journal"}

// removeDatabase removes a file that is nobody's journal, and what is beside it.
func removeDatabase(path string) error {
	err := files.Remove(path)
	for _, suffix := range besides {
		err = errors.Join(err, files.Remove(path+suffix))
	}
	return err
}

// describeCopy puts a way out to a failure of a copy.
func describeCopy(path string, err error) error {
	var e *sqliteError
	if errors.As(err, &e) {
		switch e.primary() {
		case sqlite3.SQLITE_FULL:
			return fmt.Errorf("no space for %q: free some, or choose another disk: %w", path, err)
		case sqlite3.SQLITE_NOTADB:
			return fmt.Errorf("%q is not a journal of this program: %w", path, err)
		case sqlite3.SQLITE_CORRUPT:
			return fmt.Errorf("%q is damaged: %w", path, err)
		}
		return fmt.Errorf("%q: %w", path, err)
	}
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: the service's account needs the right to write there", err)
	}
	return err
}
