package sqlite

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/policymodule"
)

// noon is what the clock says when a restore is noticed.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// witnessed is a journal file on the system's disk and its witness.
type witnessed struct {
	t       *testing.T
	path    string
	witness string
	now     time.Time
}

func newWitnessed(t *testing.T) *witnessed {
	path := newJournalFile(t)
	return &witnessed{t: t, path: path, witness: filepath.Join(t.TempDir(), "witness"), now: noon}
}

func (w *witnessed) options() Options {
	return Options{Witness: w.witness, witnessEvery: time.Millisecond, Clock: func() time.Time { return w.now }}
}

// open opens the journal, which must say that it was restored at the given
// time; zero: never.
func (w *witnessed) open(restored time.Time) *Journal {
	w.t.Helper()
	j, err := Open(w.path, w.options())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { j.Close() })
	if !j.RestoredAt().Equal(restored) {
		w.t.Errorf("restored at %v, want %v", j.RestoredAt(), restored)
	}
	return j
}

// session opens the journal, runs do and closes it.
func (w *witnessed) session(restored time.Time, do func(j *Journal)) {
	w.t.Helper()
	j := w.open(restored)
	do(j)
	if err := j.Close(); err != nil {
		w.t.Fatal(err)
	}
}

// begins records enrolments, each with a challenge of its own.
func (w *witnessed) begins(names ...string) func(j *Journal) {
	return func(j *Journal) {
		w.t.Helper()
		for _, name := range names {
			if _, owned, err := j.Begin(w.t.Context(), request(name, false)); err != nil || owned == nil {
				w.t.Fatalf("begin: owned %v, error %v", owned, err)
			}
		}
	}
}

func (w *witnessed) grants(name string) func(j *Journal) {
	return func(j *Journal) {
		w.t.Helper()
		v := policymodule.Verdict{VerdictKey: policymodule.VerdictKey{Caller: "ndes1", TransactionID: name}, ChallengeID: name, At: noon}
		if _, err := j.GrantVerdict(w.t.Context(), v); err != nil {
			w.t.Fatal(err)
		}
	}
}

// backup copies the journal as a snapshot of the file system does; the
// returned function puts the copy in the journal's place.
func (w *witnessed) backup() (restore func()) {
	w.t.Helper()
	files := []string{w.path, w.path + "-wal"}
	var copies [][]byte
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			w.t.Fatal(err)
		}
		copies = append(copies, b)
	}
	return func() {
		w.t.Helper()
		for i, name := range files {
			if err := os.WriteFile(name, copies[i], 0o600); err != nil {
				w.t.Fatal(err)
			}
		}
	}
}

// waitFor waits until the witness says that the journal has come that far.
func (w *witnessed) waitFor(p progress) {
	w.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		said, _, err := readWitness(w.witness)
		if err == nil && said.progress == p {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("after a minute the witness says %+v, error %v; want %+v", said.progress, err, p)
		}
	}
}

func nothing(*Journal) {}

func TestRestoredCopyIsRecognised(t *testing.T) {
	never := time.Time{}
	for _, row := range []struct {
		name     string
		run      func(w *witnessed)
		restored bool
	}{
		{"restarts are no restore", func(w *witnessed) {
			for i := range 5 {
				w.session(never, w.begins(fmt.Sprint(i)))
			}
		}, false},
		{"a copy from before enrolments of the same opening is one", func(w *witnessed) {
			var restore func()
			w.session(never, func(j *Journal) {
				w.begins("a")(j)
				restore = w.backup()
				w.begins("b")(j)
			})
			restore()
		}, true},
		{"so is one whose process was killed, once the witness has followed", func(w *witnessed) {
			j := w.open(never)
			w.begins("a")(j)
			restore := w.backup()
			w.begins("b")(j)
			w.waitFor(progress{entries: 2})
			kept, err := os.ReadFile(w.witness)
			if err != nil {
				w.t.Fatal(err)
			}
			j.Close()
			restore()
			if err := os.WriteFile(w.witness, kept, 0o600); err != nil {
				w.t.Fatal(err)
			}
		}, true},
		{"a copy from before a grant to a front end is one", func(w *witnessed) {
			var restore func()
			w.session(never, func(j *Journal) {
				w.grants("a")(j)
				restore = w.backup()
				w.grants("b")(j)
			})
			restore()
		}, true},
		{"a copy from before an opening is one, even if nothing was recorded since", func(w *witnessed) {
			w.session(never, w.begins("a"))
			restore := w.backup()
			w.session(never, nothing)
			restore()
		}, true},
		{"a copy after which nothing was recorded is none", func(w *witnessed) {
			var restore func()
			w.session(never, func(j *Journal) {
				w.begins("a")(j)
				restore = w.backup()
			})
			restore()
		}, false},
		{"a copy from before there was a witness is one", func(w *witnessed) {
			restore := w.backup()
			w.session(never, w.begins("a"))
			restore()
		}, true},
		{"a new journal in the place of another is one", func(w *witnessed) {
			w.session(never, w.begins("a"))
			for _, name := range []string{w.path, w.path + "-wal"} {
				if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
					w.t.Fatal(err)
				}
			}
			if err := Create(w.path); err != nil {
				w.t.Fatal(err)
			}
		}, true},
		{"a witness that an operator deleted declares one", func(w *witnessed) {
			w.session(never, w.begins("a"))
			if err := os.Remove(w.witness); err != nil {
				w.t.Fatal(err)
			}
		}, true},
		{"a witness that is damaged proves nothing", func(w *witnessed) {
			w.session(never, w.begins("a"))
			if err := os.Truncate(w.witness, 40); err != nil {
				w.t.Fatal(err)
			}
		}, true},
		{"a witness that is itself old is no reason", func(w *witnessed) {
			w.session(never, w.begins("a"))
			old, err := os.ReadFile(w.witness)
			if err != nil {
				w.t.Fatal(err)
			}
			w.session(never, w.begins("b"))
			w.session(never, w.begins("c"))
			if err := os.WriteFile(w.witness, old, 0o600); err != nil {
				w.t.Fatal(err)
			}
		}, false},
		{"a tool without a witness in between is no reason", func(w *witnessed) {
			w.session(never, w.begins("a"))
			j, err := Open(w.path, Options{})
			if err != nil {
				w.t.Fatal(err)
			}
			w.begins("b")(j)
			j.Close()
		}, false},
		{"a journal in use before there was a witness is none", func(w *witnessed) {
			j, err := Open(w.path, Options{})
			if err != nil {
				w.t.Fatal(err)
			}
			w.begins("a")(j)
			j.Close()
		}, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWitnessed(t)
			row.run(w)
			w.now = noon.Add(time.Hour)
			want := never
			if row.restored {
				want = w.now
			}
			w.session(want, w.begins("after"))
			w.now = noon.Add(2 * time.Hour)
			w.session(want, nothing)
			j, err := Open(w.path, Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer j.Close()
			if !j.RestoredAt().Equal(want) {
				t.Errorf("a tool without a witness is told %v, want %v", j.RestoredAt(), want)
			}
		})
	}
}

// TestNoCrashLooksLikeARestore cuts the power between each two steps of the
// witness: at the first opening, at a later one, and while the journal is in
// use. What the database has not synced is gone, in whole or in part; the
// witness is on a disk that loses nothing, which is the hardest case.
func TestNoCrashLooksLikeARestore(t *testing.T) {
	cut := errors.New("power failure")
	for _, luck := range []float64{0, 0.5} {
		for openings := range 3 {
			for _, at := range []string{"recorded", "durable", "written", "renamed", "witnessed"} {
				t.Run(fmt.Sprintf("opening %d, %s, luck %v", openings+1, at, luck), func(t *testing.T) {
					w, d := newWitnessed(t), newDisk(t, luck)
					o := w.options()
					o.fileLayer = d.name
					for i := range openings {
						j, err := Open(w.path, o)
						if err != nil {
							t.Fatal(err)
						}
						w.begins(fmt.Sprint(i))(j)
						j.Close()
					}
					reached := false
					o.witnessStep = func(name string) error {
						if name != at {
							return nil
						}
						reached = true
						d.powerFail()
						return cut
					}
					if _, err := Open(w.path, o); !errors.Is(err, cut) || !reached {
						t.Fatalf("open: %v, the step was reached: %v", err, reached)
					}
					o.witnessStep = nil
					for i := range 2 {
						j, err := Open(w.path, o)
						if err != nil {
							t.Fatal(err)
						}
						if !j.RestoredAt().IsZero() {
							t.Errorf("opening %d after the power failure: taken for a restore", i+1)
						}
						j.Close()
					}
				})
			}
		}
	}
}

// TestWitnessNeverRunsAhead cuts the power while lazy and durable operations
// and the witness all go on.
func TestWitnessNeverRunsAhead(t *testing.T) {
	for luck := range 2 {
		w, d := newWitnessed(t), newDisk(t, float64(luck)/2)
		o := w.options()
		o.fileLayer = d.name
		moved := int64(0)
		// A slow disk may let the witness write in none of the first rounds.
		for round, end := 0, time.Now().Add(time.Minute); round < 30 || moved == 0 && time.Now().Before(end); round++ {
			j, err := Open(w.path, o)
			if err != nil {
				t.Fatal(err)
			}
			if !j.RestoredAt().IsZero() {
				t.Fatalf("round %d: a power failure was taken for a restore", round)
			}
			began := j.witness.told.entries
			for i := range 20 * (round%3 + 1) {
				if _, _, err := j.Begin(t.Context(), request(fmt.Sprintf("%d-%d", round, i), i%7 != 0)); err != nil {
					t.Fatal(err)
				}
				if i%10 == round%10 {
					time.Sleep(time.Millisecond) // the witness has its turn
				}
			}
			d.powerFail()
			_ = j.Close()
			moved += j.witness.told.entries - began
		}
		if moved == 0 {
			t.Error("the witness never followed")
		}
	}
}

func TestWitnessFile(t *testing.T) {
	t.Run("is readable by its owner only and leaves no other file", func(t *testing.T) {
		w := newWitnessed(t)
		if err := os.WriteFile(w.witness+".new", []byte("left by a crash"), 0o644); err != nil {
			t.Fatal(err)
		}
		w.session(time.Time{}, w.begins("a"))
		list, err := os.ReadDir(filepath.Dir(w.witness))
		if err != nil || len(list) != 1 {
			t.Fatalf("%d files, error %v; want the witness alone", len(list), err)
		}
		info, err := list[0].Info()
		if err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, error %v; want 0600", info.Mode(), err)
		}
	})
	t.Run("never takes the place of some other file", func(t *testing.T) {
		w := newWitnessed(t)
		if err := os.WriteFile(w.witness, []byte("a key, perhaps\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(w.path, w.options())
		if err == nil || !strings.Contains(err.Error(), strconv.Quote(w.witness)) {
			t.Errorf("open: %v, want an error with the path", err)
		}
		if b, _ := os.ReadFile(w.witness); string(b) != "a key, perhaps\n" {
			t.Error("the file was changed")
		}
	})
	t.Run("that cannot be written stops the opening", func(t *testing.T) {
		w := newWitnessed(t)
		good := w.witness
		w.witness = filepath.Join(filepath.Dir(good), "missing", "witness")
		for range 2 {
			if _, err := Open(w.path, w.options()); err == nil || !strings.Contains(err.Error(), "witness") {
				t.Fatalf("open: %v, want an error about the witness", err)
			}
		}
		w.witness = good
		w.session(time.Time{}, nothing)
	})
	t.Run("that fails later is told at the end", func(t *testing.T) {
		w := newWitnessed(t)
		o := w.options()
		full := errors.New("disk full")
		opened := make(chan struct{})
		o.witnessStep = func(name string) error {
			select {
			case <-opened:
				return full
			default:
				return nil
			}
		}
		j, err := Open(w.path, o)
		if err != nil {
			t.Fatal(err)
		}
		close(opened)
		w.begins("a")(j)
		if j.Err() != nil {
			t.Errorf("the journal stopped: %v", j.Err())
		}
		if err := j.Close(); !errors.Is(err, full) {
			t.Errorf("close: %v", err)
		}
		w.session(time.Time{}, nothing)
	})
	t.Run("follows and then rests", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWitnessed(t)
			j := w.open(time.Time{})
			w.begins("a", "b")(j)
			w.grants("c")(j)
			w.waitFor(progress{entries: 2, grants: 1})
			if _, err := j.List(t.Context(), journal.Query{}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second) // a thousand looks
			before := j.commits.Load()
			time.Sleep(time.Second)
			if commits := j.commits.Load() - before; commits > 0 {
				t.Errorf("an idle journal still made %d commits", commits)
			}
		})
	})
}

// TestOpeningsAreBounded: a service that restarts for years keeps the openings
// that a witness may name, and every restore.
func TestOpeningsAreBounded(t *testing.T) {
	w := newWitnessed(t)
	w.session(time.Time{}, nothing)
	if err := os.Remove(w.witness); err != nil {
		t.Fatal(err)
	}
	w.session(noon, nothing)
	said, _, err := readWitness(w.witness)
	if err != nil {
		t.Fatal(err)
	}
	c, err := openConn(w.path, "")
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(c.exec(`UPDATE openings SET name = randomblob(16)`,
		`WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
			INSERT INTO openings (name, at, witnessed, restored) SELECT randomblob(16), 1, 1, 0 FROM n`,
		fmt.Sprintf(`UPDATE openings SET name = x'%x' WHERE id = (SELECT max(id) FROM openings)`, said.opening)), c.close())
	if err != nil {
		t.Fatal(err)
	}
	w.session(noon, nothing)
	if c, err = openConn(w.path, ""); err != nil {
		t.Fatal(err)
	}
	defer c.close()
	n, err := c.number(`SELECT count(*) FROM openings`)
	if err != nil || n < openingsKeep || n > openingsKeep+10 {
		t.Errorf("%d openings are kept, error %v; want about %d", n, err, openingsKeep)
	}
}
