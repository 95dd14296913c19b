package sqlite

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/agent/journal/journaltest"

	sqlite3 "modernc.org/sqlite/lib"
)

var _ journaltest.Whole = (*Journal)(nil)

// accepting opens a journal and takes the lead of contoso.
func accepting(t testing.TB, path string, o Options) (*Journal, journal.Lead) {
	t.Helper()
	j, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	l, err := j.Lead(t.Context(), "contoso", "a", time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return j, l
}

// revocations are n jobs of a usual size.
func revocations(from, n int) []journal.NewJob {
	jobs := make([]journal.NewJob, n)
	for i := range jobs {
		jobs[i] = journal.NewJob{Kind: journal.RevokeJob, Context: fmt.Sprint("context-", from+i), Content: make([]byte, 300), Summary: "serial 0A"}
	}
	return jobs
}

// effort is what SQLite does for do, in instructions of its virtual machine: a
// measure that knows no slow machine. Nobody else may use the journal meanwhile.
func effort(t *testing.T, j *Journal, do func()) (instructions int) {
	t.Helper()
	count := func(c *conn) error {
		instructions = 0
		for _, s := range c.stmts {
			if s != nil {
				instructions += int(sqlite3.Xsqlite3_stmt_status(c.tls, s.handle, sqlite3.SQLITE_STMTSTATUS_VM_STEP, 1))
			}
		}
		return nil
	}
	if err := j.outside(count); err != nil {
		t.Fatal(err)
	}
	do()
	if err := j.outside(count); err != nil {
		t.Fatal(err)
	}
	return instructions
}

// TestLargeBatch: the largest batch is one transaction, and a job of it costs no
// more than one that comes alone, however many there are.
func TestLargeBatch(t *testing.T) {
	j, l := accepting(t, newJournalFile(t), Options{})
	accept := func(from, n int) int {
		return effort(t, j, func() {
			before := j.commits.Load()
			b, err := j.AcceptJobs(t.Context(), l, revocations(from, n), time.Now())
			if err != nil || b != (journal.Batch{New: n}) {
				t.Fatalf("accepted %+v, error %v", b, err)
			}
			if n := j.commits.Load() - before; n != 1 {
				t.Errorf("a batch took %d transactions", n)
			}
		})
	}
	alone := accept(0, 1)
	for i := range 5 {
		if n := accept(1+500*i, 500); n > 500*alone {
			t.Errorf("500 jobs took %d instructions, one alone %d", n, alone)
		}
	}
}

// TestClaimsOfALongHistory: neither what is over, nor what waits, nor what is
// paused makes claims slow.
func TestClaimsOfALongHistory(t *testing.T) {
	claims := func(each int) (most int) {
		path, now := newJournalFile(t), time.Now()
		fillJobs(t, path, each, now)
		j, l := accepting(t, path, Options{})
		if err := j.PauseSource(t.Context(), "paused", "for the test", now); err != nil {
			t.Fatal(err)
		}
		if _, err := j.AcceptJobs(t.Context(), l, revocations(0, 200), now); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			most = max(most, effort(t, j, func() {
				list, err := j.ClaimJobs(t.Context(), journal.RevokeJob, now, time.Minute, 20)
				if err != nil || len(list) != 20 || list[0].Source != "contoso" {
					t.Fatalf("%d claimed, error %v", len(list), err)
				}
			}))
		}
		sources, err := j.Sources(t.Context())
		if err != nil || len(sources) != 4 || sources[2].Name != "paused" || sources[2].Open != each {
			t.Errorf("sources are %+v, error %v", sources, err)
		}
		return most
	}
	// Each row that is passed over would cost an instruction or more.
	if short, long := claims(1), claims(3_000); long > short+1_000 {
		t.Errorf("a claim of 20 jobs took %d instructions, with a short history %d", long, short)
	}
}

// fillJobs records n jobs that are over, n that are not due and n of a source
// that is to be paused, as years of use leave them.
func fillJobs(t *testing.T, path string, n int, now time.Time) {
	t.Helper()
	c := mustConn(t, path)
	err := c.exec(`PRAGMA synchronous = OFF`, `BEGIN`)
	for s, name := range []string{"over", "waiting", "paused"} {
		var src source
		if err == nil {
			src, _, err = wantSource(c, name)
		}
		for i := range n {
			if err != nil {
				break
			}
			job := revocations(i, 1)[0]
			err = addJob(c, src.id, name, &job, s == 0, now)
		}
	}
	if err == nil {
		err = c.exec(`UPDATE jobs SET state = 3, queue = NULL, ready = NULL, succeeded = 1, finished_at = 1 WHERE own = 1`,
			fmt.Sprintf(`UPDATE jobs SET ready = 0, next_at = %d WHERE source = 2`, now.Add(time.Hour).UnixNano()), `COMMIT`)
	}
	if err = errors.Join(err, c.close()); err != nil {
		t.Fatal(err)
	}
}

// TestFullDiskTakesNoBatch: a batch for which there is no space is recorded in
// no part, and the lead stands.
func TestFullDiskTakesNoBatch(t *testing.T) {
	path, d := newJournalFile(t), newDisk(t, 0)
	j, l := accepting(t, path, Options{fileLayer: d.name, lazyFor: tillDurable})
	if _, err := j.AcceptJobs(t.Context(), l, revocations(0, 1), time.Now()); err != nil {
		t.Fatal(err)
	}
	d.mu.Lock()
	d.fault = noSpace
	d.mu.Unlock()
	b, err := j.AcceptJobs(t.Context(), l, revocations(0, 500), time.Now())
	if err == nil || !strings.Contains(err.Error(), "no space") || b != (journal.Batch{}) {
		t.Fatalf("full disk: %+v, error %v", b, err)
	}
	list, err := j.ListJobs(t.Context(), journal.JobQuery{Limit: 1000})
	if err != nil || len(list) != 1 {
		t.Fatalf("%d jobs are recorded, error %v; want 1", len(list), err)
	}
	b, err = j.AcceptJobs(t.Context(), l, revocations(0, 500), time.Now())
	if err != nil || b != (journal.Batch{New: 499, Known: 1}) {
		t.Errorf("after space was made: %+v, error %v", b, err)
	}
}

// TestClaimThatWasRolledBack: a lazy claim that went with somebody else's
// failed transaction never fits the claim that comes after it.
func TestClaimThatWasRolledBack(t *testing.T) {
	path, d := newJournalFile(t), newDisk(t, 0)
	j, l := accepting(t, path, Options{fileLayer: d.name, lazyFor: tillDurable})
	now := time.Now()
	if _, err := j.AcceptJobs(t.Context(), l, revocations(0, 1), now); err != nil {
		t.Fatal(err)
	}
	claim := func() journal.Job {
		t.Helper()
		list, err := j.ClaimJobs(t.Context(), journal.RevokeJob, now, time.Minute, 1)
		if err != nil || len(list) != 1 {
			t.Fatalf("%d claimed, error %v", len(list), err)
		}
		return list[0]
	}
	lost := claim()
	d.mu.Lock()
	d.fault = noSpace
	d.mu.Unlock()
	if _, err := j.AcceptJobs(t.Context(), l, revocations(1, 1), now); err == nil {
		t.Fatal("a full disk took a batch")
	}
	next := claim() // the first one was rolled back
	if err := j.FinishJob(t.Context(), lost, journal.JobResult{}, now); !errors.Is(err, journal.ErrLost) {
		t.Errorf("finishing by the claim that was rolled back: %v", err)
	}
	if err := j.FinishJob(t.Context(), next, journal.JobResult{Succeeded: true}, now); err != nil {
		t.Errorf("finishing by the one after it: %v", err)
	}
}

// TestSharedStore: two agents over one store see the same, and one's end is
// not the other's.
func TestSharedStore(t *testing.T) {
	j, _ := accepting(t, newJournalFile(t), Options{})
	shared, now := journaltest.Shared(j), time.Now()
	first, second := shared.View(), shared.View()
	l, err := first.Lead(t.Context(), "fabrikam", "first", now, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := second.Lead(t.Context(), "fabrikam", "second", now, time.Minute); !errors.Is(err, journal.ErrLed) {
		t.Errorf("the second takes the lead: %v", err)
	}
	if err := errors.Join(first.Resign(t.Context(), l), first.Close()); err != nil {
		t.Fatal(err)
	}
	if !first.Closed() || second.Closed() {
		t.Error("the wrong view is closed")
	}
	if _, err := second.Lead(t.Context(), "fabrikam", "second", now, time.Minute); err != nil {
		t.Errorf("after the first is gone: %v", err)
	}
}
