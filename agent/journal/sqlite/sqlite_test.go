package sqlite

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/agent/journal/journaltest"
	"github.com/certconnector/certconnector/internal/leaktest"
)

func TestMain(m *testing.M) { os.Exit(leaktest.Run(m)) }

// tillDurable is how long lazy operations wait in tests where nothing but the
// next durable one may take them to the disk, however slow the machine is.
const tillDurable = time.Hour

func newJournalFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "journal.db")
	if err := Create(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// onDisk runs the contract on a disk in memory whose power can fail, after
// which the given part of the unsynced sectors is there all the same.
func onDisk(luck float64) func(*testing.T, func() time.Time) journaltest.Harness {
	return func(t *testing.T, clock func() time.Time) journaltest.Harness {
		path, d := newJournalFile(t), newDisk(t, luck)
		var current *Journal
		return journaltest.Harness{
			Open: func(t *testing.T) journaltest.Store {
				current = openWitnessed(t, path, Options{Clock: clock, fileLayer: d.name})
				return journaltest.Store{Journal: current, Register: current, Ledger: current, Verdicts: current}
			},
			PowerFail: func(*testing.T) {
				d.powerFail()
				// What is left of the process finds no files any more: it can
				// write nothing, and may complain as it likes.
				_ = current.Close()
			},
			BreakNextWrite: func(_ *testing.T, persisted bool) {
				d.mu.Lock()
				defer d.mu.Unlock()
				d.fault = loseWrites
				if persisted {
					d.fault = keepWritesButFail
				}
			},
		}
	}
}

// openWitnessed opens a journal whose witness survives every power failure.
// Nothing that the contract does to a store is a restore.
func openWitnessed(t *testing.T, path string, o Options) *Journal {
	t.Helper()
	o.Witness = path + "-witness"
	j, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	if at := j.RestoredAt(); !at.IsZero() {
		t.Errorf("the journal was taken for a restored copy at %v", at)
	}
	return j
}

// onSystem runs the contract on the system's disk.
func onSystem(t *testing.T, clock func() time.Time) journaltest.Harness {
	path := newJournalFile(t)
	return journaltest.Harness{Open: func(t *testing.T) journaltest.Store {
		j := openWitnessed(t, path, Options{Clock: clock})
		return journaltest.Store{Journal: j, Register: j, Ledger: j, Verdicts: j}
	}}
}

func TestContract(t *testing.T) {
	for name, newHarness := range map[string]func(*testing.T, func() time.Time) journaltest.Harness{
		"on the system's disk":                             onSystem,
		"on a disk that loses what was not synced":         onDisk(0),
		"on a disk that loses half of what was not synced": onDisk(0.5),
	} {
		t.Run(name, func(t *testing.T) {
			journaltest.Run(t, newHarness)
			t.Run("ledger", func(t *testing.T) { journaltest.Ledger(t, newHarness) })
			t.Run("verdicts", func(t *testing.T) { journaltest.Verdicts(t, newHarness) })
		})
	}
}

func TestCreateAndOpenDiffer(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "journal.db")
	if _, err := Open(missing, Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("opening a journal that is not there: %v", err)
	}
	if _, err := os.Stat(missing); !errors.Is(err, fs.ErrNotExist) {
		t.Error("opening made a file")
	}
	path := newJournalFile(t)
	if err := Create(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("creating over a journal: %v", err)
	}
	if runtime.GOOS == "windows" {
		return // no permission bits
	}
	j, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	for _, name := range []string{path, path + "-wal", ownerFile(path)} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, error %v; want 0600", filepath.Base(name), info.Mode(), err)
		}
	}
}

func TestSecondProcessIsToldOfTheFirst(t *testing.T) {
	path := newJournalFile(t)
	first, err := Open(path, Options{Owner: "the night shift"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(path, Options{Owner: "the day shift"})
	if err == nil || !strings.Contains(err.Error(), "the night shift") || !strings.Contains(err.Error(), strconv.Quote(path)) {
		t.Errorf("second one is told %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second, err := Open(path, Options{Owner: "the day shift"})
	if err != nil {
		t.Fatalf("after the first one closed: %v", err)
	}
	second.Close()
}

func TestFilesThatAreNoJournalAreRefused(t *testing.T) {
	foreign := filepath.Join(t.TempDir(), "foreign.db")
	c := mustConn(t, foreign)
	if err := errors.Join(c.exec(`CREATE TABLE t (x)`), c.close()); err != nil {
		t.Fatal(err)
	}
	newer := newJournalFile(t)
	c = mustConn(t, newer)
	if err := errors.Join(c.exec(`PRAGMA user_version = 99`), c.close()); err != nil {
		t.Fatal(err)
	}
	text := filepath.Join(t.TempDir(), "text.db")
	if err := os.WriteFile(text, []byte(strings.Repeat("no database\n", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(t.TempDir(), "empty.db")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, says := range map[string]string{
		foreign: "not a journal", newer: "schema version 99", text: "damaged", empty: "not a journal", t.TempDir(): "journal",
	} {
		before, _ := os.ReadFile(path)
		_, err := Open(path, Options{})
		if err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), strconv.Quote(path)) {
			t.Errorf("%s: error %v, want one with %q and the path", filepath.Base(path), err, says)
		}
		if after, _ := os.ReadFile(path); string(after) != string(before) {
			t.Errorf("%s was changed", filepath.Base(path))
		}
	}
}

func mustConn(t *testing.T, path string) *conn {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	c, err := openConn(path, "")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestDiskFull: nothing is in doubt, so the journal works again when there is
// space; but a lazy operation that was answered went with the transaction, so
// its owner, and every other, has to learn that its entry is lost.
func TestDiskFull(t *testing.T) {
	path, d := newJournalFile(t), newDisk(t, 0)
	j, err := Open(path, Options{fileLayer: d.name, lazyFor: tillDurable})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	_, kept, err := j.Begin(t.Context(), request("kept", false))
	if err != nil {
		t.Fatal(err)
	}
	_, lost, err := j.Begin(t.Context(), request("lost", true))
	if err != nil {
		t.Fatal(err)
	}
	d.mu.Lock()
	d.fault = noSpace
	d.mu.Unlock()
	_, _, err = j.Begin(t.Context(), request("refused", false))
	if err == nil || !strings.Contains(err.Error(), "no space") || !strings.Contains(err.Error(), strconv.Quote(path)) {
		t.Fatalf("full disk: %v", err)
	}
	if j.Err() != nil {
		t.Fatalf("journal is dead: %v", j.Err())
	}
	if _, _, err := j.Begin(t.Context(), request("again", false)); err != nil {
		t.Fatalf("after space was made: %v", err)
	}
	for name, o := range map[string]*journal.Owned{"kept": kept, "lost": lost} {
		if _, err := j.Advance(t.Context(), o, journal.Step{To: journal.Submitted, Now: time.Now()}); !errors.Is(err, journal.ErrLost) {
			t.Errorf("owner of %s: %v, want ErrLost", name, err)
		}
	}
	if _, err := j.ClaimEntry(t.Context(), kept.Entry, time.Now(), time.Minute); err != nil {
		t.Errorf("entry that was on disk: %v", err)
	}
}

// TestFailedSyncIsTheEnd: after a sync that failed, the operating system takes
// for clean what is not on disk, so that even a later success proves nothing.
func TestFailedSyncIsTheEnd(t *testing.T) {
	path, d := newJournalFile(t), newDisk(t, 0)
	j, err := Open(path, Options{fileLayer: d.name})
	if err != nil {
		t.Fatal(err)
	}
	d.mu.Lock()
	d.fault = loseWrites
	d.mu.Unlock()
	if _, _, err := j.Begin(t.Context(), request("a", false)); err == nil {
		t.Fatal("a sync that failed was answered as a success")
	}
	if j.Err() == nil || !strings.Contains(j.Err().Error(), strconv.Quote(path)) {
		t.Errorf("Err says %v", j.Err())
	}
	if _, err := j.Entry(t.Context(), 1); !errors.Is(err, errDead) {
		t.Errorf("a read was answered %v", err)
	}
	if err := j.Close(); !errors.Is(err, errDead) {
		t.Errorf("Close says %v", err)
	}
}

// TestLazyOperationsAreSyncedSoon: nobody has to make a durable one.
func TestLazyOperationsAreSyncedSoon(t *testing.T) {
	path, d := newJournalFile(t), newDisk(t, 0)
	j, err := Open(path, Options{fileLayer: d.name})
	if err != nil {
		t.Fatal(err)
	}
	e, _, err := j.Begin(t.Context(), request("a", true))
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); j.commits.Load() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a lazy operation was not written in a minute")
		}
	}
	d.powerFail()
	_ = j.Close()
	if j, err = Open(path, Options{fileLayer: d.name}); err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if _, err := j.Entry(t.Context(), e.ID); err != nil {
		t.Errorf("after a power failure: %v", err)
	}
}

func request(name string, lazy bool) journal.Intent {
	in := journal.Intent{
		Endpoint: "corp", TransactionID: name, ChallengeID: name, SealedCSR: []byte("sealed"),
		Now: time.Now(), Lease: time.Minute, Lazy: lazy,
	}
	copy(in.SignerKey[:], name)
	return in
}

// TestForeignBytes: what devices choose is kept byte for byte, of any length.
func TestForeignBytes(t *testing.T) {
	j, err := Open(newJournalFile(t), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	for _, id := range []string{"", "a\x00b", "a", "\xff\xfe", "';--", strings.Repeat("long ", 100_000)} {
		in := request(id, false)
		in.ChallengeID, in.Subject, in.SealedCSR = "", id, []byte(strings.Repeat("x", 300_000))
		begun, owned, err := j.Begin(t.Context(), in)
		if err != nil || owned == nil {
			t.Fatalf("transaction ID of %d bytes: owned %v, error %v", len(id), owned, err)
		}
		got, err := j.Newest(t.Context(), in.Endpoint, id, in.SignerKey)
		if err != nil || got.ID != begun.ID || got.TransactionID != id || got.Subject != id || len(got.SealedCSR) != len(in.SealedCSR) {
			t.Errorf("transaction ID of %d bytes: entry %d, error %v", len(id), got.ID, err)
		}
	}
}

// TestListOfALongJournal goes through more rows than one window holds.
func TestListOfALongJournal(t *testing.T) {
	path := newJournalFile(t)
	if err := Seed(path, SeedOptions{Rows: 2*listWindow + 10}); err != nil {
		t.Fatal(err)
	}
	j, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	for _, row := range []struct {
		q    journal.Query
		want int
	}{
		{journal.Query{Limit: 3 * listWindow}, 2*listWindow + 10},
		{journal.Query{Limit: listWindow + 1, States: []journal.State{journal.Released}}, listWindow + 1},
		{journal.Query{States: []journal.State{journal.Failed}}, 0},
		{journal.Query{States: []journal.State{journal.Parked}}, 0},
		{journal.Query{Limit: listWindow, Before: 20}, 19},
	} {
		list, err := j.List(t.Context(), row.q)
		if err != nil || len(list) != row.want {
			t.Errorf("%+v: %d entries, error %v; want %d", row.q, len(list), err, row.want)
		}
		for i := 1; i < len(list); i++ {
			if list[i].ID >= list[i-1].ID {
				t.Fatalf("%+v: entry %d after entry %d", row.q, list[i].ID, list[i-1].ID)
			}
		}
	}
}

// TestSyncs counts them: one before the answer to each durable operation, none
// for a lazy one before the time of its transaction is over.
func TestSyncs(t *testing.T) {
	d := newDisk(t, 0)
	j, err := Open(newJournalFile(t), Options{fileLayer: d.name, lazyFor: tillDurable})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	count := func() int {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.syncs
	}
	for i := range 20 {
		before := count()
		if _, _, err := j.Begin(t.Context(), request(strings.Repeat("d", i+1), false)); err != nil {
			t.Fatal(err)
		}
		if count() == before {
			t.Fatal("a durable operation was answered without a sync")
		}
	}
	syncs, commits := count(), j.commits.Load()
	for i := range 200 {
		if _, _, err := j.Begin(t.Context(), request(strings.Repeat("l", i+1), true)); err != nil {
			t.Fatal(err)
		}
	}
	if made, transactions := count()-syncs, j.commits.Load()-commits; made > 0 || transactions > 0 {
		t.Errorf("200 lazy operations in %d transactions cost %d syncs", transactions, made)
	}
}

// TestRestartAfterAFailedSync: the operating system still shows the pages that
// the sync lost. Whatever is built on them after the restart has to hold when
// the power fails, too.
func TestRestartAfterAFailedSync(t *testing.T) {
	path, d := newJournalFile(t), newDisk(t, 0)
	open := func() *Journal {
		j, err := Open(path, Options{fileLayer: d.name})
		if err != nil {
			t.Fatal(err)
		}
		return j
	}
	j := open()
	if _, _, err := j.Begin(t.Context(), request("before", false)); err != nil {
		t.Fatal(err)
	}
	d.mu.Lock()
	d.fault = loseWrites
	d.mu.Unlock()
	if _, _, err := j.Begin(t.Context(), request("doubtful", false)); err == nil {
		t.Fatal("a sync that failed was answered as a success")
	}
	_ = j.Close() // says once more that it is dead
	j = open()
	seen, err := j.List(t.Context(), journal.Query{})
	if err != nil {
		t.Fatal(err)
	}
	after, _, err := j.Begin(t.Context(), request("after", false))
	if err != nil {
		t.Fatal(err)
	}
	d.powerFail()
	_ = j.Close()
	j = open()
	defer j.Close()
	for _, e := range append(seen, after) {
		if _, err := j.Entry(t.Context(), e.ID); err != nil {
			t.Errorf("entry %q was there after the restart and is gone: %v", e.TransactionID, err)
		}
	}
}
