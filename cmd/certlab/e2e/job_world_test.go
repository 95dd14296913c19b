//go:build e2e

package e2e

import (
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// jobRow is a row of the journal's table of jobs.
type jobRow struct {
	source     string
	context    string
	state      int64
	own        bool // of the connector itself: nobody is told
	attempts   int64
	done       bool // it has a result, which is what follows
	succeeded  bool
	code       int64
	serial     string
	retryable  bool
	unanswered bool
	refused    bool // the source refused the report for good
}

// States of a job as the journal numbers them.
const (
	jobOpen = 1
	jobOwed = 2
	jobOver = 3
)

// outcome is what must not change once it is recorded.
func (r jobRow) outcome() string {
	return fmt.Sprintf("succeeded %t, code %d, serial %q", r.succeeded, r.code, r.serial)
}

func (r jobRow) String() string {
	return fmt.Sprintf("job %s of %s (state %d, %s)", r.context, r.source, r.state, r.outcome())
}

// jobs are all jobs of the journal, by source and context.
func (w *world) jobs() map[[2]string]jobRow {
	w.t.Helper()
	db := w.copyJournal()
	defer db.Close()
	rows, err := db.QueryContext(w.t.Context(), `SELECT s.name, j.context, j.state, j.own, j.attempts, j.succeeded, j.code, j.serial,
		j.retryable, j.unanswered, j.refused FROM jobs j JOIN sources s ON s.id = j.source ORDER BY j.id`)
	if err != nil {
		w.t.Fatal(err)
	}
	defer rows.Close()
	list := map[[2]string]jobRow{}
	for rows.Next() {
		var r jobRow
		var succeeded sql.NullBool
		if err := rows.Scan(&r.source, &r.context, &r.state, &r.own, &r.attempts, &succeeded, &r.code, &r.serial, &r.retryable, &r.unanswered, &r.refused); err != nil {
			w.t.Fatal(err)
		}
		r.done, r.succeeded = succeeded.Valid, succeeded.Bool
		key := [2]string{r.source, r.context}
		if other, twice := list[key]; twice {
			w.t.Errorf("recorded twice: %v, %v", other, r)
		}
		list[key] = r
	}
	if err := rows.Err(); err != nil {
		w.t.Fatal(err)
	}
	return list
}

// revokedAt is when each certificate of the register was revoked, as the
// register writes it.
func (w *world) revokedAt() map[string]string {
	w.t.Helper()
	db := w.copyJournal()
	defer db.Close()
	rows, err := db.QueryContext(w.t.Context(), `SELECT hex(serial), CAST(revoked_at AS TEXT) FROM certificates WHERE revoked_at IS NOT NULL`)
	if err != nil {
		w.t.Fatal(err)
	}
	defer rows.Close()
	list := map[string]string{}
	for rows.Next() {
		var serial, at string
		if err := rows.Scan(&serial, &at); err != nil {
			w.t.Fatal(err)
		}
		list[serial] = at
	}
	if err := rows.Err(); err != nil {
		w.t.Fatal(err)
	}
	return list
}

// told tells whether a job's source has been told how it ended.
type told func(r jobRow) bool

// ledger remembers every job that was ever seen in the journal: none may be
// forgotten, a result that was recorded is the last word, and what the journal
// takes for told the source must know.
type ledger struct {
	*world
	seen    map[[2]string]jobRow
	again   map[[2]string]bool // without an answer, or refused: taken up again whenever it is offered
	busy    int                // looks that found jobs open or owed
	waiting int                // jobs that were found so, over all looks
}

func newLedger(w *world) *ledger {
	return &ledger{world: w, seen: map[[2]string]jobRow{}, again: map[[2]string]bool{}}
}

// look reads the journal once more. sources says what others know at any time
// after that.
func (l *ledger) look(sources func() told) map[[2]string]jobRow {
	l.t.Helper()
	now, before := l.jobs(), l.waiting
	knows := sources()
	for key, was := range l.seen {
		is, there := now[key]
		switch {
		case !there:
			l.t.Errorf("accepted and forgotten: %v", was)
		case was.done && !was.unanswered && !was.retryable && (!is.done || is.outcome() != was.outcome()):
			l.t.Errorf("%v became %v", was, is)
		}
	}
	for key, r := range now {
		l.seen[key] = r
		l.again[key] = l.again[key] || r.unanswered || r.refused
		switch {
		case l.again[key]:
		case r.state != jobOver:
			l.waiting++
		case !r.own && !knows(r):
			l.t.Errorf("its source was never told of %v", r)
		}
	}
	if l.waiting > before {
		l.busy++
	}
	return now
}

// await waits until a condition holds and no job is open or owed, and returns
// the jobs of that moment. Those that are taken up again whenever they are
// offered need only have come to their end once.
func (l *ledger) await(sources func() told, holds func() bool) map[[2]string]jobRow {
	l.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		done := holds()
		jobs := l.look(sources)
		var left []string
		for key, r := range jobs {
			if r.state != jobOver && !l.again[key] {
				left = append(left, r.String())
			}
		}
		if done && len(left) == 0 {
			return jobs
		}
		if l.t.Failed() { // waiting does not make it better
			l.t.FailNow()
		}
		if time.Now().After(deadline) {
			slices.Sort(left)
			l.t.Fatalf("not within %v: all jobs are over (the other side is satisfied: %t), %d are not:\n%s",
				patience, done, len(left), strings.Join(left[:min(len(left), 20)], "\n"))
		}
	}
}

// counted returns how many jobs of the sources that begin so fulfil a condition.
func counted(jobs map[[2]string]jobRow, source string, that func(jobRow) bool) int {
	n := 0
	for _, r := range jobs {
		if strings.HasPrefix(r.source, source) && that(r) {
			n++
		}
	}
	return n
}

// storm kills the connector so many times at random moments, with what tends
// to the load before each, and reads the journal that each kill left behind. It
// returns how many kills there were.
func (l *ledger) storm(n int, sources func() told, tend func(i int)) (done int) {
	t := l.t
	t.Helper()
	random := seeded(t)
	began := time.Now()
	for ; done < n && time.Since(began) < chaosLimit; done++ {
		alive := l.resumeFor(random)
		tend(done)
		time.Sleep(alive)
		l.kill()
		l.look(sources)
		if t.Failed() {
			break
		}
	}
	if !t.Failed() {
		all(t, done, n)
	}
	t.Logf("%d kills in %v; %d of the journals they left had jobs under way, %d on the average", done, time.Since(began).Round(time.Second), l.busy, l.waiting/max(l.busy, 1))
	return done
}

// dieAt has the program with failpoints die at one, without waiting for it to
// answer: it may die before. Where it does not die in a report, its sources are
// asked once only: results are reported with the next question, or after ten
// seconds, and a machine that takes a second for a job must not get so far.
func (w *world) dieAt(t *testing.T, at string) {
	t.Helper()
	if at != "jobs.issue.finished" && at != "jobs.uploaded" {
		change := func(old, with string) {
			w.edit(func(text string) string {
				if strings.Count(text, old) != 1 {
					t.Fatalf("the configuration has not exactly one %q", old)
				}
				return strings.Replace(text, old, with, 1)
			})
		}
		change("interval: 1s", "interval: 1m")
		defer change("interval: 1m", "interval: 1s")
	}
	w.launch(built.failpoint, []string{"CERTCONNECTOR_FAILPOINT=" + at})
	w.awaitDeath()
}
