package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
)

// backupFile makes a copy of a running journal, in a folder of its own.
func backupFile(t *testing.T, j *Journal) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "copy")
	if _, err := j.Backup(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestCopyIsTakenForRestored: also when nothing happened since the copy was made,
// when the process died before the witness followed, and where no witness is.
func TestCopyIsTakenForRestored(t *testing.T) {
	for _, row := range []struct {
		name string
		then func(w *witnessed)
	}{
		{"although nothing was recorded since", func(*witnessed) {}},
		{"although its witness is gone", func(w *witnessed) {
			if err := os.Remove(w.witness); err != nil {
				w.t.Fatal(err)
			}
		}},
		{"on another host", func(w *witnessed) { w.witness = filepath.Join(w.t.TempDir(), "witness") }},
	} {
		for _, by := range []string{"hand", "Restore"} {
			t.Run(row.name+", by "+by, func(t *testing.T) {
				w := newWitnessed(t)
				var file string
				w.session(time.Time{}, func(j *Journal) {
					w.begins("a")(j)
					file = backupFile(t, j)
				})
				row.then(w)
				if by == "hand" {
					b, err := os.ReadFile(file)
					if err == nil {
						err = os.WriteFile(w.path, b, 0o600)
					}
					if err != nil {
						t.Fatal(err)
					}
				} else if _, err := Restore(w.path, file, RestoreOptions{}); err != nil {
					t.Fatal(err)
				}
				w.now = noon.Add(time.Hour)
				w.session(w.now, nothing)
				noticed := w.now
				w.now = noon.Add(2 * time.Hour)
				w.session(noticed, nothing)
			})
		}
	}
}

func TestRestorePutsACopyBackAndKeepsWhatWasThere(t *testing.T) {
	w := newWitnessed(t)
	var file string
	w.session(time.Time{}, func(j *Journal) {
		w.begins("a", "b")(j)
		file = backupFile(t, j)
		w.begins("c")(j)
	})
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Restore(w.path, file, RestoreOptions{Clock: func() time.Time { return noon }})
	if err != nil {
		t.Fatal(err)
	}
	if r.Copy.Entries != 2 || r.Before.Entries != 3 || r.Damaged != nil || r.Kept != w.path+".before-restore-20260301T120000Z" {
		t.Errorf("%+v", r)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != string(before) {
		t.Errorf("the copy itself changed, %v", err)
	}
	want := []string{"journal.db", filepath.Base(r.Kept)}
	if found := names(t, filepath.Dir(w.path)); !slices.Equal(found, want) {
		t.Errorf("in the folder: %v, want %v", found, want)
	}
	w.session(noon, func(j *Journal) {
		w.begins("d")(j) // gets the number that c had
		if list, err := j.List(t.Context(), journal.Query{}); err != nil || len(list) != 3 || list[0].TransactionID != "d" {
			t.Errorf("%d entries, %v", len(list), err)
		}
		if info, err := j.Info(t.Context()); err != nil || !info.MadeAt.IsZero() || !info.RestoredAt.Equal(noon) {
			t.Errorf("it says %+v, %v", info, err)
		}
	})

	// The way back, within the same second: both are kept.
	r, err = Restore(w.path, r.Kept, RestoreOptions{Clock: func() time.Time { return noon }})
	if err != nil || r.Copy.Entries != 3 || !strings.HasSuffix(r.Kept, "Z-2") {
		t.Errorf("%+v, %v", r, err)
	}
	w.now = noon.Add(time.Hour)
	w.session(w.now, nothing)
}

func TestRestoreRefuses(t *testing.T) {
	w := newWitnessed(t)
	var file string
	w.session(time.Time{}, func(j *Journal) {
		w.begins("a")(j)
		file = backupFile(t, j)
		// In use.
		if _, err := Restore(w.path, file, RestoreOptions{}); err == nil || !strings.Contains(err.Error(), "in use by") {
			t.Errorf("while a service has it: %v", err)
		}
		w.begins("b")(j)
	})
	other := filepath.Join(t.TempDir(), "other.db")
	c, err := func() (*conn, error) {
		if err := os.WriteFile(other, nil, 0o600); err != nil {
			return nil, err
		}
		return openConn(other, "")
	}()
	if err == nil {
		err = errors.Join(c.exec(`CREATE TABLE x (y)`), c.close())
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name string
		from func(t *testing.T) string
		want string
	}{
		{"what is not there", func(t *testing.T) string { return filepath.Join(t.TempDir(), "none") }, "reading the copy"},
		{"a folder", func(t *testing.T) string { return t.TempDir() }, "is no file"},
		{"the journal itself", func(*testing.T) string { return w.path }, "itself"},
		{"some text", func(t *testing.T) string { return made(t, []byte(strings.Repeat("some text, no database. ", 100))) }, "not a journal"},
		{"nothing", func(t *testing.T) string { return made(t, nil) }, "not a journal"},
		{"another program's database", func(*testing.T) string { return other }, "not a journal"},
		{"half a copy", func(t *testing.T) string {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			return made(t, b[:len(b)/2])
		}, "damaged"},
		{"a copy with a page overwritten", func(t *testing.T) string {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			copy(b[2*4096:], strings.Repeat("x", 4096))
			return made(t, b)
		}, "damaged"},
		{"a newer schema", func(t *testing.T) string {
			return changed(t, file, fmt.Sprintf(`PRAGMA user_version = %d`, len(migrations)+1))
		}, fmt.Sprintf("schema version %d, this program knows %d: install", len(migrations)+1, len(migrations))},
		{"fewer rows than its label says", func(t *testing.T) string { return changed(t, file, `DELETE FROM entries`) }, "fewer rows"},
	} {
		t.Run(row.name, func(t *testing.T) {
			from := row.from(t)
			if _, err := Restore(w.path, from, RestoreOptions{}); err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("error %v, want %q", err, row.want)
			}
			if found := names(t, filepath.Dir(w.path)); !slices.Equal(found, []string{"journal.db"}) {
				t.Errorf("left behind: %v", found)
			}
		})
	}
	w.session(time.Time{}, nothing) // and nothing of that was a restore
}

// made is a file with the given content.
func made(t *testing.T, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "made")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// changed is a copy of a copy, with statements run on it.
func changed(t *testing.T, file string, statements ...string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	path := made(t, b)
	c, err := openConn(path, "")
	if err == nil {
		err = errors.Join(c.exec(statements...), c.close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestRestoreIsStoppedAnywhere kills a restore between its steps: what is there
// then is the present journal with all that it had, or the copy.
func TestRestoreIsStoppedAnywhere(t *testing.T) {
	killed := errors.New("killed")
	for _, step := range []string{"begun", "prepared", "kept", "cleared", "placed"} {
		t.Run(step, func(t *testing.T) {
			w := newWitnessed(t)
			var file string
			w.session(time.Time{}, func(j *Journal) {
				w.begins("a")(j)
				file = backupFile(t, j)
			})
			w.afterKill("b", "c")
			// A panic is the nearest thing to a death: nothing is tidied up.
			func() {
				defer func() { _ = recover() }()
				_, _ = Restore(w.path, file, RestoreOptions{step: func(name string) error {
					if name == step {
						panic(killed)
					}
					return nil
				}})
				t.Fatalf("there is no step %q", step)
			}()
			want, restored := 3, time.Time{}
			if step == "placed" {
				want, restored = 1, noon
			}
			w.session(restored, func(j *Journal) {
				if list, err := j.List(t.Context(), journal.Query{}); err != nil || len(list) != want {
					t.Errorf("%d entries, %v; want %d", len(list), err, want)
				}
			})
			// Once more, to its end.
			if r, err := Restore(w.path, file, RestoreOptions{}); err != nil || r.Copy.Entries != 1 {
				t.Fatalf("%+v, %v", r, err)
			}
			for _, name := range names(t, filepath.Dir(w.path)) {
				if name != "journal.db" && !strings.Contains(name, ".before-restore-") {
					t.Errorf("left behind: %s", name)
				}
			}
			w.session(noon, nothing)
		})
	}
}

// afterKill records enrolments and leaves them in the log beside the journal, as a
// process does that is killed.
func (w *witnessed) afterKill(names ...string) {
	w.t.Helper()
	j := w.open(time.Time{})
	had, err := j.durableProgress()
	if err != nil {
		w.t.Fatal(err)
	}
	w.begins(names...)(j)
	w.waitFor(progress{entries: had.entries + int64(len(names))})
	put := w.backup()
	kept, err := os.ReadFile(w.witness)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		w.t.Fatal(err)
	}
	put()
	if err := os.WriteFile(w.witness, kept, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// TestRestoreTakesWhatOthersCopied: a snapshot of the files, with the log.
func TestRestoreTakesWhatOthersCopied(t *testing.T) {
	w := newWitnessed(t)
	w.afterKill("a", "b")
	folder := t.TempDir()
	for _, suffix := range []string{"", "-wal"} {
		b, err := os.ReadFile(w.path + suffix)
		if err == nil {
			err = os.WriteFile(filepath.Join(folder, "snapshot"+suffix), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	r, err := Restore(w.path, filepath.Join(folder, "snapshot"), RestoreOptions{})
	if err != nil || r.Copy.Entries != 2 || !r.Copy.MadeAt.IsZero() {
		t.Fatalf("%+v, %v", r, err)
	}
	w.session(noon, nothing) // although it is what was there before
}

// TestRestoreOverADamagedJournal is what it is most often for.
func TestRestoreOverADamagedJournal(t *testing.T) {
	for _, row := range []struct {
		name   string
		damage func(path string) error
		kept   bool
	}{
		{"it is gone", os.Remove, false},
		{"it is empty", func(path string) error { return os.Truncate(path, 0) }, true},
		{"it is text", func(path string) error { return os.WriteFile(path, []byte(strings.Repeat("x", 8192)), 0o600) }, true},
		{"it has text beside it", func(path string) error {
			return errors.Join(os.WriteFile(path, []byte(strings.Repeat("x", 8192)), 0o600), os.WriteFile(path+"-wal", []byte("log"), 0o600))
		}, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWitnessed(t)
			var file string
			w.session(time.Time{}, func(j *Journal) {
				w.begins("a")(j)
				file = backupFile(t, j)
			})
			if err := row.damage(w.path); err != nil {
				t.Fatal(err)
			}
			r, err := Restore(w.path, file, RestoreOptions{})
			if err != nil || row.kept != (r.Kept != "") || row.kept != (r.Damaged != nil) {
				t.Fatalf("%+v, %v", r, err)
			}
			if _, err := os.Stat(w.path + "-wal"); !errors.Is(err, fs.ErrNotExist) {
				t.Error("a log of the former journal lies beside the copy")
			}
			w.session(noon, w.begins("b"))
		})
	}
}

// TestOlderCopyIsBroughtUpToDate: a copy from before an upgrade.
func TestOlderCopyIsBroughtUpToDate(t *testing.T) {
	w := newWitnessed(t)
	old := filepath.Join(t.TempDir(), "old")
	if err := os.WriteFile(old, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := openConn(old, "")
	if err == nil {
		err = errors.Join(c.exec(fmt.Sprintf(`PRAGMA application_id = %d`, applicationID)), c.exec(migrations[0]...), c.exec(`PRAGMA user_version = 1`), c.close())
	}
	if err != nil {
		t.Fatal(err)
	}
	if info, err := Inspect(old); err != nil || info.Schema != 1 {
		t.Fatalf("%+v, %v", info, err)
	}
	r, err := Restore(w.path, old, RestoreOptions{})
	if err != nil || r.Copy.Schema != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	w.session(noon, w.begins("a"))
	if info, err := Inspect(w.path); err != nil || info.Schema != len(migrations) {
		t.Fatalf("%+v, %v", info, err)
	}
}

// TestCRLNumbersGrowOverARestore: relying parties have seen what the copy has
// forgotten, and take no list with a smaller number.
func TestCRLNumbersGrowOverARestore(t *testing.T) {
	w := newWitnessed(t)
	next := func(j *Journal, name string) int64 {
		n, err := j.NextCRLNumber(context.Background(), name)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	var file string
	last := map[string]int64{}
	w.session(time.Time{}, func(j *Journal) {
		if n := next(j, "lab"); n != 1 {
			t.Errorf("the first number is %d", n)
		}
		file = backupFile(t, j)
		for range 50 {
			last["lab"], last["unknown to the copy"] = next(j, "lab"), next(j, "unknown to the copy")
		}
	})
	for round := range 3 {
		if _, err := Restore(w.path, file, RestoreOptions{}); err != nil {
			t.Fatal(err)
		}
		w.now = w.now.Add(time.Hour)
		for range 2 { // and after a restart
			w.session(w.now, func(j *Journal) {
				for name, before := range last {
					for range 20 {
						n := next(j, name)
						if n <= before {
							t.Fatalf("round %d, CA %q: number %d after %d", round, name, n, before)
						}
						before = n
					}
					last[name] = before
				}
			})
		}
	}
}
