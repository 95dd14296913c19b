package sqlite

import (
	"errors"
	"os"
	"runtime"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
)

// mode says what an operation's answer promises.
type mode int

const (
	durable mode = iota // on disk before the answer
	lazy                // on disk with the next durable one
	own                 // lazy, and the answer shows nothing but what the caller wrote
	between             // outside of any transaction, also when the journal is dead
)

// op is one operation on its way through the writer. Its run checks before it
// writes: once it has written it fails only if SQLite does, so that one
// operation's refusal never costs its neighbours their transaction.
type op struct {
	mode   mode
	run    func(*conn) (wrote bool, err error)
	answer chan error
	err    error
}

const (
	// maxBatch bounds how many operations share one sync.
	maxBatch = 256
	// yields is how often others may run before a sync, as long as they bring
	// something.
	yields = 4
	// maxLazy and lazyFor bound what a killed process may lose, in operations
	// and in time.
	maxLazy = 512
	lazyFor = 50 * time.Millisecond
)

// writer is the state of the goroutine that owns the connection.
type writer struct {
	c       *conn
	j       *Journal
	lazyFor time.Duration
	waiting []*op // run, to be answered after the commit
	lazies  int   // answered, not committed
	sync    bool  // the open transaction holds a durable change
	lost    bool  // answered lazy operations were rolled back: release all holders first
	dead    error
}

// write is the writer goroutine.
func (j *Journal) write(w *writer) {
	defer close(j.stopped)
	timer := time.NewTimer(w.lazyFor)
	timer.Stop()
	defer timer.Stop()
	armed := false
	for {
		select {
		case o := <-j.ops:
			w.batch(o)
		case <-timer.C:
			armed = false
			w.commit()
		case <-j.quit:
			j.closeErr = w.close()
			return
		}
		if w.lazies > 0 && !armed {
			timer.Reset(w.lazyFor)
			armed = true
		}
	}
}

// batch runs o and everything that waits behind it, and commits when one of
// them is durable.
//
// Before a sync it lets other goroutines run once: on a busy machine some of
// them are about to bring an operation that can share the sync, and on an idle
// one there are none and it costs nothing.
func (w *writer) batch(o *op) {
	n := w.drain(o, 0)
	for range yields {
		before := n
		if !w.sync || n >= maxBatch {
			break
		}
		runtime.Gosched()
		if n = w.drain(nil, n); n == before {
			break
		}
	}
	if w.sync || w.lazies >= maxLazy || w.lazies == 0 {
		w.commit()
	}
}

// drain runs o, if there is one, and what waits, up to maxBatch operations
// with the n that ran before.
func (w *writer) drain(o *op, n int) int {
	for ; n < maxBatch; n++ {
		if o == nil {
			select {
			case o = <-w.j.ops:
			default:
				return n
			}
		}
		w.run(o)
		o = nil
	}
	return n
}

// run runs one operation. One that saw, or may have seen, a durable change
// that is not on disk is answered after the commit, even if it only read: what
// it read must not leave before it is true.
func (w *writer) run(o *op) {
	if o.mode == between {
		w.commit()
		_, err := o.run(w.c)
		o.answer <- err
		return
	}
	if w.dead != nil {
		o.answer <- w.dead
		return
	}
	wrote := false
	if o.err = w.begin(); o.err == nil {
		wrote, o.err = o.run(w.c)
	}
	if wrote {
		w.j.writes.Add(1)
	}
	var failed *sqliteError
	if errors.As(o.err, &failed) {
		w.waiting = append(w.waiting, o)
		w.abort(o.err)
		return
	}
	switch {
	case wrote && o.mode == durable:
		w.sync = true
	case wrote:
		w.lazies++
	}
	if w.sync && !harmless(o, wrote) {
		w.waiting = append(w.waiting, o)
		return
	}
	o.answer <- o.err
}

// harmless reports whether an answer may be given while somebody's durable
// change is not on disk: it shows nothing of that change.
func harmless(o *op, wrote bool) bool {
	return o.mode == own && wrote && o.err == nil || errors.Is(o.err, journal.ErrNotFound)
}

// begin opens a transaction unless one is open. The first one after a failure
// that took answered operations does what a restart does: whoever holds an
// entry learns that it is lost.
func (w *writer) begin() error {
	if w.c.inTransaction() {
		return nil
	}
	if err := w.simple(beginTransaction); err != nil {
		return err
	}
	if w.lost {
		if err := release(w.c, w.j.clock()); err != nil {
			return err
		}
		w.lost = false
		w.sync = true
	}
	return nil
}

func (w *writer) simple(id statement) error {
	s, err := w.c.use(id)
	if err != nil {
		return err
	}
	return s.exec()
}

// commit ends the transaction, if one is open, and answers who waits for it.
func (w *writer) commit() {
	if w.c.inTransaction() {
		if err := w.simple(commitTransaction); err != nil {
			w.abort(err)
			return
		}
		if w.sync || w.lazies > 0 {
			w.j.commits.Add(1)
		}
	}
	for i, o := range w.waiting {
		o.answer <- o.err
		w.waiting[i] = nil
	}
	w.waiting, w.lazies, w.sync = w.waiting[:0], 0, false
}

// abort rolls back and tells everybody who waits that nothing is certain.
// After an error that leaves doubt about the file, the journal is dead.
func (w *writer) abort(cause error) {
	err := describe(w.j.path, cause)
	if w.c.inTransaction() {
		if rollback := w.simple(rollbackTransaction); rollback != nil {
			err = errors.Join(err, describe(w.j.path, rollback))
		}
	}
	if w.lazies > 0 {
		w.lost = true
	}
	if doubtful(cause) || w.c.inTransaction() {
		w.dead = errors.Join(errDead, err)
		w.j.dead.Store(&w.dead)
		err = w.dead
	}
	for i, o := range w.waiting {
		o.answer <- err
		w.waiting[i] = nil
	}
	w.waiting, w.lazies, w.sync = w.waiting[:0], 0, false
}

// close commits what is lazy and lets go of the file.
func (w *writer) close() error {
	w.commit()
	err := w.dead
	if w.dead != nil {
		// Nothing more may be built on a log that is in doubt.
		w.c.keepLogOnClose()
	} else if p, err := reached(w.c); err == nil {
		w.j.last = &p
	}
	return errors.Join(err, w.c.close(), os.Remove(ownerFile(w.j.path)))
}
