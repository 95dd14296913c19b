//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/control"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/scep"
)

// TestBackupAndRestoreByCommand copies the journal of a running service before
// challenges are used, kills the service before its witness has followed, and
// puts the copy back. The copy would take the challenges once more; the
// connector notices, and refuses them.
func TestBackupAndRestoreByCommand(t *testing.T) {
	m := newWorld(t).mdm()
	m.start()
	password, signed := m.password(), m.phoneChallenge("1")
	file := filepath.Join(shortDir(t), "copy.db")
	m.mustCommand("journal", "backup", file)
	m.mustIssue(m.ask(passwordPath, 0, swCSR(password)), testkeys.RSA2048(0))
	m.mustIssue(m.ask(corpPath, 1, phone("1", signed)), testkeys.RSA2048(1))
	if _, err := m.command("journal", "restore", file); err == nil || !strings.Contains(err.Error(), "in use by") {
		t.Errorf("restoring beside the running service: %v", err)
	}
	m.kill()
	if out := m.mustCommand("journal", "restore", file); !strings.Contains(out, "held 2 enrolments more") {
		t.Errorf("the command does not say what is forgotten: %s", out)
	}
	m.start()
	m.refused(passwordPath, "passwords", 2, swCSR(password), scep.BadTime, "challenge_before_restore")
	m.refused(corpPath, "corp", 3, phone("1", signed), scep.BadTime, "challenge_before_restore")
	password = m.password()
	m.mustIssue(m.ask(passwordPath, 5, swCSR(password)), testkeys.RSA2048(5))
}

// TestBackupAndRestoreAreKilled kills the service in the middle of a backup, and
// restores in their middle: there is always a journal to start on, it holds what
// devices got or what the copy has, and no half copy has a name.
func TestBackupAndRestoreAreKilled(t *testing.T) {
	m := newWorld(t).mdm()
	folder := shortDir(t)
	file := filepath.Join(folder, "copy.db")
	m.start()
	m.mustIssue(m.ask(passwordPath, 0, swCSR(m.password())), testkeys.RSA2048(0))
	m.mustCommand("journal", "backup", file)
	m.mustIssue(m.ask(passwordPath, 1, swCSR(m.password())), testkeys.RSA2048(1))

	for round := range 6 {
		half := filepath.Join(folder, fmt.Sprintf("half-%d.db", round))
		backup := exec.Command(built.release, "--config", m.path("certconnector.yaml"), "journal", "backup", half)
		if err := backup.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(10+7*round) * time.Millisecond)
		m.kill()
		_ = backup.Wait() // it may have been told that all is well, or nothing
		if _, err := os.Stat(half); err == nil {
			if got := m.journalOf(half); got.Entries != 2 {
				t.Errorf("round %d: a copy with a name holds %d enrolments, want 2", round, got.Entries)
			}
		}
		m.start()
		if got := m.journalOf(); got.Entries != 2 {
			t.Fatalf("round %d: after a death in a backup the journal holds %d enrolments, want 2", round, got.Entries)
		}
	}
	m.stop()

	for round := range 12 {
		restore := exec.Command(built.release, "--config", m.path("certconnector.yaml"), "journal", "restore", file)
		if err := restore.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(8+4*round) * time.Millisecond)
		_ = restore.Process.Kill() // it may have ended
		done := restore.Wait() == nil
		got := m.journalOf()
		if got.Entries != 1 && (done || got.Entries != 2) {
			t.Fatalf("round %d: after a death in a restore the journal holds %d enrolments", round, got.Entries)
		}
	}
	m.mustCommand("journal", "restore", file)
	m.start()
	m.mustIssue(m.ask(passwordPath, 2, swCSR(m.password())), testkeys.RSA2048(2))
	if got := m.journalOf(); got.Entries != 2 || got.RestoredAt.IsZero() {
		t.Errorf("at the end: %+v", got)
	}
}

func (w *world) mustCommand(args ...string) string {
	w.t.Helper()
	out, err := w.command(args...)
	if err != nil {
		w.t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// journalOf is what a copy says about itself, or the journal.
func (w *world) journalOf(file ...string) control.JournalInfo {
	w.t.Helper()
	var info control.JournalInfo
	out := w.mustCommand(append([]string{"journal", "info", "--json"}, file...)...)
	if err := json.Unmarshal([]byte(out), &info); err != nil {
		w.t.Fatalf("%v: %s", err, out)
	}
	return info
}
