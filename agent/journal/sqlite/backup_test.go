package sqlite

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/ca"
)

// openJournal opens a journal that is closed when the test ends.
func openJournal(t testing.TB, path string, o Options) *Journal {
	t.Helper()
	j, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

// names are what lies in a folder.
func names(t *testing.T, folder string) []string {
	t.Helper()
	list, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, e := range list {
		found = append(found, e.Name())
	}
	return found
}

// begun records an enrolment durably.
func begun(t *testing.T, j *Journal, name string) {
	t.Helper()
	_, owned, err := j.Begin(t.Context(), request(name, false))
	if err != nil || owned == nil {
		t.Errorf("begin: owned %v, error %v", owned, err)
	}
}

func TestBackupSaysWhatItHolds(t *testing.T) {
	path, folder := newJournalFile(t), t.TempDir()
	if err := Seed(path, SeedOptions{Rows: 50, Until: noon}); err != nil {
		t.Fatal(err)
	}
	j := openJournal(t, path, Options{Owner: "host1", Witness: path + "-witness", Clock: func() time.Time { return noon }})
	file := filepath.Join(folder, "copy")
	info, err := j.Backup(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	if info.Entries != 50 || info.Certificates != 50 || info.MadeBy != "host1" || !info.MadeAt.Equal(noon) ||
		info.Schema != len(migrations) || !info.Newest.Equal(noon.Add(-time.Second)) || info.Path != file {
		t.Errorf("%+v", info)
	}
	if found := names(t, folder); !slices.Equal(found, []string{"copy"}) {
		t.Errorf("in the folder: %v", found)
	}
	st, err := os.Stat(file)
	if err != nil || runtime.GOOS != "windows" && st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, error %v; want 0600", st.Mode(), err)
	}
	read, err := Inspect(file)
	if err != nil || read != info {
		t.Errorf("read back: %+v, %v; want %+v", read, err, info)
	}
	if found := names(t, folder); !slices.Equal(found, []string{"copy"}) {
		t.Errorf("after a look at it: %v", found)
	}
	running, err := j.Info(t.Context())
	if err != nil || running.Entries != 50 || !running.MadeAt.IsZero() || running.Path != path {
		t.Errorf("the running one says %+v, %v", running, err)
	}
}

func TestBackupTakesNoNameThatIsTaken(t *testing.T) {
	path := newJournalFile(t)
	j := openJournal(t, path, Options{Witness: path + ".witness"})
	taken := filepath.Join(t.TempDir(), "taken")
	if err := os.WriteFile(taken, []byte("a key, perhaps"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{taken, path, path + "-wal", path + "-journal", path + ".witness", filepath.Join(taken, "below")} {
		if _, err := j.Backup(t.Context(), name); err == nil {
			t.Errorf("%s: was written", filepath.Base(name))
		}
	}
	if b, _ := os.ReadFile(taken); string(b) != "a key, perhaps" {
		t.Error("a file was overwritten")
	}
	// Somebody else takes the name while the copy is made.
	raced := filepath.Join(t.TempDir(), "raced")
	j.backups.step = func(name string) error {
		if name == "sealed" {
			return os.WriteFile(raced, []byte("first"), 0o600)
		}
		return nil
	}
	if _, err := j.Backup(t.Context(), raced); !errors.Is(err, fs.ErrExist) {
		t.Errorf("error %v, want that it exists", err)
	}
	if b, _ := os.ReadFile(raced); string(b) != "first" {
		t.Error("a file that came meanwhile was overwritten")
	}
	if found := names(t, filepath.Dir(raced)); len(found) != 1 {
		t.Errorf("in the folder: %v", found)
	}
}

// TestBackupUnderLoad backs up while devices enrol: what was durable before a
// backup began is in it, no entry is torn from its certificate or its debt, and
// the copy is one moment, not several.
func TestBackupUnderLoad(t *testing.T) {
	path := newJournalFile(t)
	if err := Seed(path, SeedOptions{Rows: 2000}); err != nil {
		t.Fatal(err)
	}
	j := openJournal(t, path, Options{Witness: path + "-witness"})
	folder := t.TempDir()
	stop := make(chan struct{})
	var known [4]atomic.Int64 // by caller: how many of its own are durable
	var wg sync.WaitGroup
	defer func() { close(stop); wg.Wait() }()
	for caller := range known {
		wg.Go(func() {
			for n := int64(1); ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				enrolOnce(t, j, fmt.Sprintf("%d/%d", caller, n))
				known[caller].Store(n)
			}
		})
	}
	// all waits until each caller has enrolled once more.
	all := func() error {
		end := time.Now().Add(time.Minute)
		for caller := range known {
			for n := known[caller].Load(); known[caller].Load() == n; time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					return fmt.Errorf("caller %d does not come to enrol", caller)
				}
			}
		}
		return nil
	}
	portions := 0
	j.backups.step = func(name string) error {
		if name != "portion" {
			return nil
		}
		portions++
		return all()
	}
	for round := range 3 {
		var before [len(known)]int64
		for caller := range known {
			before[caller] = known[caller].Load()
		}
		file := filepath.Join(folder, fmt.Sprint(round))
		if _, err := j.Backup(t.Context(), file); err != nil {
			t.Fatal(err)
		}
		checkCopy(t, file, before[:])
	}
	if portions < 3*2 {
		t.Errorf("three copies in %d portions: nobody enrolled meanwhile, and this proves nothing", portions)
	}
}

// enrolOnce is an enrolment whose last step is durable.
func enrolOnce(t *testing.T, j *Journal, name string) {
	in := request(name, true)
	in.CSRDigest = sha256.Sum256([]byte(name))
	_, owned, err := j.Begin(context.Background(), in)
	if err != nil || owned == nil {
		t.Errorf("begin: %v", err)
		return
	}
	der := []byte("certificate of " + name)
	err = j.AddCertificate(context.Background(), "lab", ca.RegisteredCertificate{
		Serial: new(big.Int).SetBytes([]byte(name)), DER: der, CSRDigest: in.CSRDigest, IssuedAt: noon, NotAfter: noon.AddDate(1, 0, 0),
	})
	if err == nil {
		_, err = j.Advance(context.Background(), owned, journal.Step{To: journal.Submitted, Now: time.Now(), NextAt: time.Now().Add(time.Minute), Lazy: true})
	}
	if err == nil {
		_, err = j.Advance(context.Background(), owned, journal.Step{
			To: journal.Issued, Now: time.Now(), NextAt: time.Now().Add(time.Hour), Certificate: der, Serial: fmt.Sprintf("%X", name),
			Owe: []journal.DebtKind{journal.OweSuccess},
		})
	}
	if err != nil {
		t.Errorf("enrolment: %v", err)
	}
}

func checkCopy(t *testing.T, file string, atLeast []int64) {
	t.Helper()
	c, err := openConn(file, "")
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	if err := c.exec(`PRAGMA integrity_check`); err != nil {
		t.Fatal(err)
	}
	for caller, want := range atLeast {
		n, err := c.number(fmt.Sprintf(`SELECT count(*) FROM entries WHERE state = %d AND transaction_id LIKE '%%%d/%%'`, journal.Issued, caller))
		if err != nil || n < want {
			t.Errorf("%d finished enrolments of caller %d, error %v; %d were durable before the backup began", n, caller, err, want)
		}
	}
	for what, sql := range map[string]string{
		"issued entries without a debt":          fmt.Sprintf(`SELECT count(*) FROM entries e WHERE state = %d AND NOT EXISTS (SELECT 1 FROM debts d WHERE d.entry = e.id)`, journal.Issued),
		"issued entries without registration":    fmt.Sprintf(`SELECT count(*) FROM entries e WHERE state = %d AND csr_digest NOT IN (SELECT csr_digest FROM certificates)`, journal.Issued),
		"debts without an entry":                 `SELECT count(*) FROM debts d WHERE NOT EXISTS (SELECT 1 FROM entries e WHERE e.id = d.entry)`,
		"gaps between entries":                   `SELECT max(id) - count(*) FROM entries`,
		"openings that a witness may know":       `SELECT count(*) FROM openings WHERE witnessed = 0 AND restored = 1`,
		"rows that an index has and a table not": `SELECT count(*) FROM (SELECT id FROM entries INDEXED BY entries_request WHERE request_key IS NOT NULL) WHERE id NOT IN (SELECT id FROM entries)`,
	} {
		if n, err := c.number(sql); err != nil || n != 0 {
			t.Errorf("%s: %d, error %v", what, n, err)
		}
	}
}

// TestBackupThatFailsLeavesNothing stops backups in every way, and enrols.
func TestBackupThatFailsLeavesNothing(t *testing.T) {
	full := errors.New("stopped here")
	for _, row := range []struct {
		name string
		stop func(j *Journal, cancel func())
		want string
	}{
		{"the disk is full", func(j *Journal, _ func()) { j.backups.pages = 300 }, "no space"},
		{"after a portion", func(j *Journal, _ func()) { j.backups.step = failAt("portion", full) }, full.Error()},
		{"after the copy", func(j *Journal, _ func()) { j.backups.step = failAt("copied", full) }, full.Error()},
		{"before the name", func(j *Journal, _ func()) { j.backups.step = failAt("sealed", full) }, full.Error()},
		{"whoever asked has gone", func(j *Journal, cancel func()) {
			j.backups.step = func(string) error { cancel(); return nil }
		}, "canceled"},
		{"the service stops", func(j *Journal, _ func()) {
			j.backups.step = func(string) error { return j.Close() }
		}, ErrClosed.Error()},
	} {
		t.Run(row.name, func(t *testing.T) {
			path, folder := newJournalFile(t), t.TempDir()
			if err := Seed(path, SeedOptions{Rows: 1000}); err != nil {
				t.Fatal(err)
			}
			o := Options{Witness: path + "-witness"}
			j := openJournal(t, path, o)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			row.stop(j, cancel)
			if _, err := j.Backup(ctx, filepath.Join(folder, "copy")); err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("error %v, want %q", err, row.want)
			}
			if found := names(t, folder); len(found) > 0 {
				t.Errorf("left behind: %v", found)
			}
			if row.want == ErrClosed.Error() {
				j = openJournal(t, path, o)
			}
			begun(t, j, "after")
			j.backups.step, j.backups.pages = nil, 0
			if info, err := j.Backup(t.Context(), filepath.Join(folder, "copy")); err != nil || info.Entries != 1001 {
				t.Errorf("the next backup: %d entries, %v", info.Entries, err)
			}
		})
	}
}

func failAt(step string, with error) func(string) error {
	return func(name string) error {
		if name == step {
			return with
		}
		return nil
	}
}

// TestBackupAfterOneThatWasKilled finds what a killed process left.
func TestBackupAfterOneThatWasKilled(t *testing.T) {
	path, folder := newJournalFile(t), t.TempDir()
	j := openJournal(t, path, Options{})
	file := filepath.Join(folder, "copy")
	for _, left := range []string{".partial", ".partial-wal", ".partial-journal"} {
		if err := os.WriteFile(file+left, []byte("half of something"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := j.Backup(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	if found := names(t, folder); !slices.Equal(found, []string{"copy"}) {
		t.Errorf("in the folder: %v", found)
	}
}

func TestOneBackupAtATime(t *testing.T) {
	path, folder := newJournalFile(t), t.TempDir()
	j := openJournal(t, path, Options{})
	var second error
	j.backups.step = func(name string) error {
		if name == "copied" {
			_, second = j.Backup(t.Context(), filepath.Join(folder, "second"))
		}
		return nil
	}
	if _, err := j.Backup(t.Context(), filepath.Join(folder, "first")); err != nil || !errors.Is(second, ErrBackupRuns) {
		t.Errorf("first %v, second %v", err, second)
	}
}

// TestBackupOfADeadJournal: a disk in doubt is not copied as if it were good.
func TestBackupOfADeadJournal(t *testing.T) {
	path, d := newJournalFile(t), newDisk(t, 0)
	j := openJournal(t, path, Options{fileLayer: d.name})
	d.mu.Lock()
	d.fault = loseWrites
	d.mu.Unlock()
	if _, _, err := j.Begin(t.Context(), request("lost", false)); err == nil || j.Err() == nil {
		t.Fatalf("begin: %v, the journal lives", err)
	}
	folder := t.TempDir()
	if _, err := j.Backup(t.Context(), filepath.Join(folder, "copy")); !errors.Is(err, errDead) {
		t.Errorf("error %v, want that the journal stopped", err)
	}
	if found := names(t, folder); len(found) > 0 {
		t.Errorf("left behind: %v", found)
	}
}

// TestWitnessMissesNoNeighbour: an enrolment that shares the commit of the
// witness's look, and comes after it, is in the witness soon all the same.
func TestWitnessMissesNoNeighbour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWitnessed(t)
		j := w.open(time.Time{})
		release, blocked := make(chan struct{}), make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := j.outside(func(*conn) error { close(blocked); <-release; return nil }); err != nil {
				t.Error(err)
			}
		})
		<-blocked
		j.commits.Add(1) // something happened: the witness looks
		j.writes.Add(1)
		time.Sleep(30 * time.Millisecond)
		synctest.Wait() // its look stands in line
		wg.Go(func() { begun(t, j, "neighbour") })
		synctest.Wait() // and the neighbour behind it
		close(release)
		wg.Wait()
		w.waitFor(progress{entries: 1})
	})
}
