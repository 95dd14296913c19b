// Package sqlite keeps the journal, and with it the register of an embedded
// CA, the challenges that were made here and the verdicts given to front ends,
// in one SQLite file: the default where one machine is enough. A file beside
// it, the witness, tells when it was restored from a backup.
//
// One goroutine owns the connection. It takes every operation that waits,
// runs them in one transaction, syncs once and answers all of them (group
// commit). Lazy operations are answered at once and leave the transaction
// open; the next durable one, or the end of lazyFor, takes them along. So a
// power failure, and also a killed process, can take lazy operations, but
// never a lazy one and not what came durably after it.
//
// A caller whose context ends stops waiting; an operation that the writer has
// taken is carried out all the same.
//
// The guarantee rests on the write-ahead log with synchronous=FULL: the log
// is synced before a durable operation is answered. After a sync that failed
// nothing that the operating system says about the file can be trusted (it
// may mark pages clean that never reached the disk), so the journal refuses
// all work until a restart, which copies the log into the database and syncs
// that before it reads a row.
package sqlite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/policymodule"
)

// Journal is a journal.Journal and a ca.Register in one file, together with
// what policy modules remember of challenges that were made here and of
// verdicts that were given to front ends.
type Journal struct {
	path     string
	clock    func() time.Time
	ops      chan *op
	quit     chan struct{}
	stopped  chan struct{}
	once     sync.Once
	closeErr error
	dead     atomic.Pointer[error]
	commits  atomic.Int64 // transactions written, each with one sync
	writes   atomic.Int64 // operations that wrote something

	// turns are of the writer alone: when a source had its last one, by count.
	turns    map[turn]int64
	lastTurn int64

	restoredAt time.Time
	witness    *witness  // nil: none is kept
	last       *progress // what the writer left on disk; nil when that is in doubt

	backups backups
}

var (
	_ journal.Journal = (*Journal)(nil)
	_ ca.Register     = (*Journal)(nil)

	_ policymodule.Ledger   = (*Journal)(nil)
	_ policymodule.Verdicts = (*Journal)(nil)
)

// ErrClosed says that the journal was closed before the operation began.
var ErrClosed = errors.New("journal is closed")

// Options say who opens a journal.
type Options struct {
	// Owner names this process for the error that a second one gets. Default:
	// host name and process ID.
	Owner string
	// Clock is what recovery takes for now. Default: time.Now.
	Clock func() time.Time
	// Witness is the path of a small file by which Open recognises a journal
	// that was restored from a backup: see RestoredAt. It belongs beside the
	// journal, or better on another volume, and into no backup: a snapshot
	// that takes both back together goes unnoticed. An operator declares a
	// restore by hand by deleting it while the service is stopped. Open makes
	// it, readable by its owner only, and fails when it cannot be written.
	// Default "": nothing is recognised or recorded, as for a tool that opens
	// the journal in between.
	Witness string

	fileLayer    string                  // name of a SQLite VFS; "": the operating system's
	lazyFor      time.Duration           // 0: the constant
	witnessEvery time.Duration           // 0: the constant
	witnessStep  func(name string) error // called between the steps of the witness
}

// settings are made on each connection. EXCLUSIVE keeps a second process out
// and the index of the write-ahead log in our memory; a page cache of 4 MiB
// holds the upper levels of the indexes at a million rows; a log of 4,000
// pages (16 MiB) lets pages that change often be copied once for many changes.
var settings = []string{
	`PRAGMA locking_mode = EXCLUSIVE`,
	`PRAGMA journal_mode = WAL`,
	`PRAGMA synchronous = FULL`,
	`PRAGMA wal_autocheckpoint = 4000`,
	`PRAGMA journal_size_limit = 67108864`,
	`PRAGMA cache_size = -4096`,
	`PRAGMA mmap_size = 0`,
	`PRAGMA temp_store = MEMORY`,
	`PRAGMA secure_delete = FAST`,
	`PRAGMA trusted_schema = OFF`,
}

// Create makes an empty journal, readable by its owner only. A file that is
// there already is left alone and is an error.
func Create(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("journal %q exists already and is kept: open it, or move it away first: %w", path, fs.ErrExist)
	}
	if err != nil {
		return fmt.Errorf("creating the journal: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("creating the journal %q: %w", path, err)
	}
	if err := initialize(path); err != nil {
		return errors.Join(fmt.Errorf("creating the journal %q: %w", path, err), os.Remove(path))
	}
	return syncFolder(filepath.Dir(path))
}

func initialize(path string) error {
	c, err := openConn(path, "")
	if err != nil {
		return err
	}
	err = c.exec(append([]string{fmt.Sprintf(`PRAGMA application_id = %d`, applicationID)}, settings...)...)
	if err == nil {
		err = migrate(c, path)
	}
	return errors.Join(err, c.close())
}

// syncFolder makes a new name in a folder survive a power failure. Windows
// has no such operation and needs none.
func syncFolder(path string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("syncing the journal's folder: %w", err)
	}
	err = d.Sync()
	if err = errors.Join(err, d.Close()); err != nil {
		return fmt.Errorf("syncing the journal's folder %q: %w", path, err)
	}
	return nil
}

// Open opens a journal that Create made. What an earlier process held is due
// at once. A path without a journal is an error (fs.ErrNotExist), so that a
// mistyped one never starts an empty journal.
func Open(path string, o Options) (*Journal, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("opening the journal: %w (a new one is made by the init command)", err)
	}
	if o.Owner == "" {
		host, _ := os.Hostname()
		o.Owner = host
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	j := &Journal{path: path, clock: o.Clock, ops: make(chan *op), quit: make(chan struct{}), stopped: make(chan struct{}), turns: map[turn]int64{}}
	j.backups.owner = o.Owner
	c, err := openConn(path, o.fileLayer)
	if err == nil {
		err = prepareJournal(c, path, o)
	}
	if err == nil {
		err = j.recognise(c, o)
	}
	if err != nil {
		if c != nil {
			err = errors.Join(err, c.close())
		}
		return nil, describe(path, err)
	}
	go j.write(&writer{c: c, j: j, lazyFor: cmp.Or(o.lazyFor, lazyFor)})
	if j.witness != nil {
		go j.witness.follow(j, cmp.Or(o.witnessEvery, witnessEvery))
	}
	return j, nil
}

// recognise finds out whether the journal is a restored copy, now or before.
func (j *Journal) recognise(c *conn, o Options) error {
	if o.Witness != "" {
		j.witness = &witness{path: o.Witness, stop: make(chan struct{}), stopped: make(chan struct{}), step: o.witnessStep}
		if err := j.witness.attest(c, o.Clock()); err != nil {
			return err
		}
	}
	var err error
	j.restoredAt, err = restoredAt(c)
	return err
}

func prepareJournal(c *conn, path string, o Options) error {
	if err := c.exec(`PRAGMA locking_mode = EXCLUSIVE`); err != nil {
		return err
	}
	id, err := c.number(`PRAGMA application_id`)
	if err != nil {
		return err
	}
	if id != applicationID {
		return fmt.Errorf("%q is not a journal of this program: name another path, or make a journal with the init command", path)
	}
	if err := c.exec(settings...); err != nil {
		return err
	}
	if err := migrate(c, path); err != nil {
		return err
	}
	// What the log shows may be in the operating system's memory only; see
	// the package comment. TRUNCATE syncs the log and the database.
	if err := c.exec(`PRAGMA wal_checkpoint(TRUNCATE)`, `BEGIN IMMEDIATE`); err != nil {
		return err
	}
	if err := release(c, o.Clock()); err != nil {
		return err
	}
	if err := c.exec(`COMMIT`); err != nil {
		return err
	}
	if c.ledger, err = truth(c, anyChallenge); err != nil {
		return err
	}
	if c.grants, err = truth(c, anyGrant); err != nil {
		return err
	}
	return os.WriteFile(ownerFile(path), fmt.Appendf(nil, "%s, process %d\n", o.Owner, os.Getpid()), 0o600)
}

// release makes everything that is held due: its holders are gone, and their
// tokens with them.
func release(c *conn, now time.Time) error {
	for _, id := range []statement{releaseEntries, releaseDebts, releaseJobs} {
		s, err := c.use(id)
		if err != nil {
			return err
		}
		if err := s.time(now).exec(); err != nil {
			return err
		}
	}
	return nil
}

// ownerFile is where the process that holds the journal leaves its name for
// the one that comes second. It locks nothing; SQLite does.
func ownerFile(path string) string { return path + "-owner" }

func owner(path string) string {
	b, err := os.ReadFile(ownerFile(path))
	if err != nil || len(b) == 0 {
		return "another process"
	}
	return strings.TrimSpace(string(b[:min(len(b), 200)]))
}

// Close finishes what was begun, writes lazy operations to the disk and
// closes the file. Operations that come later are ErrClosed.
func (j *Journal) Close() error {
	j.once.Do(func() {
		if j.witness != nil {
			close(j.witness.stop)
			<-j.witness.stopped
		}
		close(j.quit)
		<-j.stopped
		if j.witness != nil {
			j.closeErr = errors.Join(j.closeErr, j.witness.end(j.last))
		}
	})
	return j.closeErr
}

// Err is nil while the journal works, else why it refuses all work until the
// process restarts.
func (j *Journal) Err() error {
	if p := j.dead.Load(); p != nil {
		return *p
	}
	return nil
}

// do hands an operation to the writer and waits for its answer. When ctx ends
// first, do returns, but an operation that was handed over is carried out all
// the same.
func (j *Journal) do(ctx context.Context, m mode, run func(*conn) (wrote bool, err error)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	o := &op{mode: m, run: run, answer: make(chan error, 1)}
	select {
	case j.ops <- o:
	case <-j.quit:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-o.answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
