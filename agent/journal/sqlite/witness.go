package sqlite

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"
)

// A journal that was restored from a backup has forgotten challenges that were
// spent since, and would take them once more. The witness, a small file that
// no backup of the journal has, is how a restored copy is recognised. It names
// the newest opening of the journal and the highest IDs that were durable.
// The database is older than the witness, and so a copy, when it does not know
// that opening or has not come as far.
//
// No crash looks like a restore, because every step makes true in the database
// first what the witness says next:
//
//  1. The row of this opening becomes durable.
//  2. The witness names it (a new file, synced, renamed over the old one).
//  3. The database knows that there is a witness: from now on one that is
//     missing means a restore.
//  4. While the IDs grow, the witness follows every few seconds with what a
//     commit made durable, and once more at Close.
//
// Jobs are not watched: what a copy has forgotten of them is done or told once
// more, see journal.Jobs.
//
// A crash between two of these leaves a witness that says less than is true,
// which weakens the check until the next write, and nothing else.

const (
	// witnessEvery is how long the witness may lag behind.
	witnessEvery = 5 * time.Second
	// openingsKeep is how many openings before the one that the witness names
	// are kept, for a witness that is itself old.
	openingsKeep = 1000
)

// progress is how far a journal has come: IDs that only grow and that move
// with each challenge that is spent, by an enrolment here or by a grant to a
// front end. Entries are never deleted, and of the grants the newest is not.
type progress struct {
	entries, grants int64
}

// witness is an opening of a journal and the file that tells of it.
type witness struct {
	path    string
	opening []byte
	told    progress // what the file says

	stop    chan struct{}
	stopped chan struct{}
	failed  error // of the last write, nil when it succeeded

	step func(name string) error // of tests: called between two steps
}

// recognise compares the witness with the database, and records this opening
// in the transaction that is open.
func (w *witness) recognise(c *conn, now time.Time) (opening int64, known bool, err error) {
	said, found, err := readWitness(w.path)
	if err != nil {
		return 0, false, err
	}
	if known, err = truth(c, anyWitnessed); err != nil {
		return 0, false, err
	}
	restored := !found && known
	if found {
		named, err := findOpening(c, said.opening)
		if err != nil {
			return 0, false, err
		}
		have, err := reached(c)
		if err != nil {
			return 0, false, err
		}
		restored = named == 0 || have.entries < said.entries || have.grants < said.grants
		if err := sweepBefore(c, named-openingsKeep); err != nil {
			return 0, false, err
		}
	}
	known = known || found
	if w.told, err = reached(c); err != nil {
		return 0, false, err
	}
	s, err := c.use(insertOpening)
	if err != nil {
		return 0, false, err
	}
	err = s.blob(w.opening).time(now).bool(known).bool(restored).exec()
	return c.lastID(), known, err
}

func sweepBefore(c *conn, id int64) error {
	if id <= 0 {
		return nil
	}
	s, err := c.use(sweepOpenings)
	if err != nil {
		return err
	}
	return s.int(id).exec()
}

func findOpening(c *conn, name []byte) (int64, error) {
	s, err := c.use(openingByName)
	if err != nil {
		return 0, err
	}
	found, err := s.blob(name).step()
	if err != nil || !found {
		return 0, err
	}
	defer s.reset()
	return s.colInt(), nil
}

// reached reads how far the journal has come.
func reached(c *conn) (progress, error) {
	s, err := c.use(highestIDs)
	if err != nil {
		return progress{}, err
	}
	if _, err := s.step(); err != nil {
		return progress{}, err
	}
	defer s.reset()
	return progress{s.colInt(), s.colInt()}, nil
}

// truth runs a statement that answers with 0 or 1.
func truth(c *conn, id statement) (bool, error) {
	s, err := c.use(id)
	if err != nil {
		return false, err
	}
	n, err := returned(s)
	return n != 0, err
}

// restoredAt reads when the journal was last found to be a restored copy.
func restoredAt(c *conn) (time.Time, error) {
	s, err := c.use(lastRestore)
	if err != nil {
		return time.Time{}, err
	}
	n, err := returned(s)
	return moment(n), err
}

// attest makes the steps 1 to 3 for a journal that is being opened.
func (w *witness) attest(c *conn, now time.Time) error {
	w.opening = make([]byte, openingBytes)
	rand.Read(w.opening)
	if err := c.exec(`BEGIN IMMEDIATE`); err != nil {
		return err
	}
	opening, known, err := w.recognise(c, now)
	if err != nil {
		return err
	}
	if err := w.between("recorded"); err != nil {
		return err
	}
	if err := c.exec(`COMMIT`); err != nil {
		return err
	}
	if err := w.between("durable"); err != nil {
		return err
	}
	if err := w.write(w.told); err != nil {
		return fmt.Errorf("writing the journal's witness: %w; the service's account needs the right to write it and its folder", err)
	}
	if err := w.between("witnessed"); err != nil || known {
		return err
	}
	s, err := c.use(markWitnessed)
	if err != nil {
		return err
	}
	return s.int(opening).exec()
}

// between is where tests cut the power.
func (w *witness) between(name string) error {
	if w.step == nil {
		return nil
	}
	return w.step(name)
}

// follow is the goroutine that makes step 4. A write that fails is tried again
// with the next change.
func (w *witness) follow(j *Journal, every time.Duration) {
	defer close(w.stopped)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	var seen int64
	for {
		select {
		case <-w.stop:
			return
		case <-ticker.C:
		}
		// The look itself counts as one: nothing else happened if the count
		// stands at one more the next time. Commits would not do: another
		// operation may share the one of the look, and come after it.
		before := j.writes.Load()
		if before == seen && w.failed == nil {
			continue
		}
		p, err := j.durableProgress()
		if err != nil {
			continue // a journal that is dead or closed says so itself
		}
		seen = before + 1
		if p != w.told || w.failed != nil {
			w.failed = w.write(p)
		}
	}
}

// durableProgress reads how far the journal has come, and answers when that is
// on disk. It counts as a durable change, so that lazy ones it may have seen
// are committed with it.
func (j *Journal) durableProgress() (progress, error) {
	var p progress
	err := j.do(context.Background(), durable, func(c *conn) (bool, error) {
		var err error
		p, err = reached(c)
		return true, err
	})
	return p, err
}

// end stops following. Then last, what the writer left on disk, is written; a
// journal that died leaves none.
func (w *witness) end(last *progress) error {
	if last != nil && (*last != w.told || w.failed != nil) {
		w.failed = w.write(*last)
	}
	if w.failed != nil {
		return fmt.Errorf("writing the journal's witness: %w", w.failed)
	}
	return nil
}

// RestoredAt is when the journal was found to be a copy restored from a
// backup, by Options.Clock: the last time, if there were several, and also
// when that was noticed by an earlier process. Zero: never. Challenges that
// were made before then may have been spent without the journal knowing.
func (j *Journal) RestoredAt() time.Time { return j.restoredAt }
