//go:build e2e

package e2e

import (
	"crypto/x509"
	"database/sql"
	"os"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite" // reads the journal without the connector's own code
)

// issued is a certificate in the CA's register.
type issued struct {
	*x509.Certificate
	serial  string // upper-case hex, as requests list it
	revoked bool
}

// entry is a row of the journal.
type entry struct {
	id          int64
	state       int64
	challenge   string
	transaction string
	serial      string
	endpoint    string
}

// States as the journal numbers them; the test reads the file, not the package.
const (
	stateReleased  = 7
	stateAbandoned = 8
	stateFailed    = 9
)

// copyJournal copies the journal and its log, whose owner may be dead or alive:
// SQLite's log is only appended to, and what is torn at its end is not read.
func (w *world) copyJournal() *sql.DB {
	w.t.Helper()
	dir := shortDir(w.t)
	for _, suffix := range []string{"", "-wal"} {
		b, err := os.ReadFile(w.path("journal.db" + suffix))
		if err != nil && (suffix == "" || !os.IsNotExist(err)) {
			w.t.Fatal(err)
		}
		if err == nil {
			writeFile(w.t, dir+"/copy.db"+suffix, b)
		}
	}
	db, err := sql.Open("sqlite", dir+"/copy.db")
	if err != nil {
		w.t.Fatal(err)
	}
	return db
}

// certificates are all that the CA has issued to devices.
func (w *world) certificates() []issued {
	w.t.Helper()
	db := w.copyJournal()
	defer db.Close()
	rows, err := db.QueryContext(w.t.Context(), `SELECT der, revoked_at IS NOT NULL FROM certificates ORDER BY id`)
	if err != nil {
		w.t.Fatal(err)
	}
	defer rows.Close()
	var list []issued
	for rows.Next() {
		var der []byte
		var c issued
		if err := rows.Scan(&der, &c.revoked); err != nil {
			w.t.Fatal(err)
		}
		if c.Certificate, err = x509.ParseCertificate(der); err != nil {
			w.t.Fatal(err)
		}
		if strings.Contains(c.Subject.CommonName, " RA ") { // the connector's own, of "init"
			continue
		}
		c.serial = serialText(c.Certificate)
		list = append(list, c)
	}
	if err := rows.Err(); err != nil {
		w.t.Fatal(err)
	}
	return list
}

// entries are all rows of the journal.
func (w *world) entries() []entry {
	w.t.Helper()
	db := w.copyJournal()
	defer db.Close()
	rows, err := db.QueryContext(w.t.Context(), `SELECT id, state, challenge_id, transaction_id, serial, endpoint FROM entries ORDER BY id`)
	if err != nil {
		w.t.Fatal(err)
	}
	defer rows.Close()
	var list []entry
	for rows.Next() {
		var e entry
		if err := rows.Scan(&e.id, &e.state, &e.challenge, &e.transaction, &e.serial, &e.endpoint); err != nil {
			w.t.Fatal(err)
		}
		list = append(list, e)
	}
	if err := rows.Err(); err != nil {
		w.t.Fatal(err)
	}
	return list
}

// serialText is a serial number as the cloud and operators see it.
func serialText(c *x509.Certificate) string {
	s := strings.ToUpper(c.SerialNumber.Text(16))
	if len(s)%2 == 1 {
		s = "0" + s
	}
	return s
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, within time.Duration, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); ; time.Sleep(100 * time.Millisecond) {
		if holds() {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}
