//go:build e2e

package e2e

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/intune/intunetest"
	"github.com/certconnector/certconnector/scep"
	"github.com/certconnector/certconnector/scep/scepclient"
)

// TestRestoredJournal puts back a copy of the journal from before challenges
// were used. The copy would take them once more; the connector notices, and
// refuses whatever was made before or may have been.
func TestRestoredJournal(t *testing.T) {
	m := newWorld(t).mdm()
	m.start()
	password, signed := m.password(), m.phoneChallenge("1")
	m.stop()
	backup := m.journalFiles()
	m.start()
	m.mustIssue(m.ask(passwordPath, 0, swCSR(password)), testkeys.RSA2048(0))
	m.mustIssue(m.ask(corpPath, 1, phone("1", signed)), testkeys.RSA2048(1))
	m.kill()
	for name := range m.journalFiles() {
		if err := os.Remove(m.path(name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range backup {
		writeFile(t, m.path(name), content)
	}
	m.start()
	restored := time.Now()

	m.refused(passwordPath, "passwords", 2, swCSR(password), scep.BadTime, "challenge_before_restore")
	m.refused(corpPath, "corp", 3, phone("1", signed), scep.BadTime, "challenge_before_restore")
	// What Intune made may have been used, too: nobody here can tell its age.
	key := testkeys.RSA2048(4)
	d := m.device("windows", intunePath)
	tx, err := d.Prepare(t.Context(), scepclient.EnrollRequest{Key: key, DER: m.csr(m.challenge(intunetest.Ask{Platform: "windows"}), key)})
	if err != nil {
		t.Fatal(err)
	}
	mustRefuse(t, send(t, d, tx.Message), scep.BadTime)
	m.traced("devices", "challenge_before_restore")

	// What is made after the restore is good, over another restart. Signed
	// challenges know whole seconds only: one of the same second may be older.
	password = m.password()
	m.stop()
	time.Sleep(time.Until(restored.Add(time.Second)))
	m.start()
	m.mustIssue(m.ask(passwordPath, 5, swCSR(password)), testkeys.RSA2048(5))
	m.mustIssue(m.ask(corpPath, 6, phone("2", m.phoneChallenge("2"))), testkeys.RSA2048(6))
}

// journalFiles are the journal's files, without the witness: operators are told
// to leave it out of backups.
func (w *world) journalFiles() map[string][]byte {
	w.t.Helper()
	found := map[string][]byte{}
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range entries {
		if name := e.Name(); strings.HasPrefix(name, "journal.db") {
			if found[name], err = os.ReadFile(w.path(name)); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	return found
}
