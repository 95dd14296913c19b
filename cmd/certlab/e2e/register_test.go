//go:build e2e

package e2e

import (
	"bytes"
	"crypto/x509"
	"database/sql"
	"errors"
	"io"
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

// journalCopy is a copy of the journal; Close deletes it.
type journalCopy struct {
	*sql.DB
	dir string
}

func (c *journalCopy) Close() { _ = c.DB.Close(); _ = os.RemoveAll(c.dir) }

// copyJournal copies the journal and its log, whose owner may be dead or alive.
// SQLite's log is only appended to, and what is torn at its end is not read,
// until all of it is in the database: then it begins anew, with other salts in
// its header. A copy over which that happened is made again.
func (w *world) copyJournal() *journalCopy {
	w.t.Helper()
	dir, err := os.MkdirTemp("", "cc")
	if err != nil {
		w.t.Fatal(err)
	}
	read := func(suffix string) []byte {
		b, err := os.ReadFile(w.path("journal.db" + suffix))
		if err != nil && (suffix == "" || !os.IsNotExist(err)) {
			w.t.Fatal(err)
		}
		return b
	}
	for {
		before, content, log := w.logHeader(), read(""), read("-wal")
		if !bytes.Equal(before, log[:min(len(log), len(before))]) || !bytes.Equal(before, w.logHeader()) {
			continue
		}
		writeFile(w.t, dir+"/copy.db", content)
		if len(log) > 0 {
			writeFile(w.t, dir+"/copy.db-wal", log)
		}
		break
	}
	db, err := sql.Open("sqlite", dir+"/copy.db")
	if err != nil {
		w.t.Fatal(err)
	}
	return &journalCopy{DB: db, dir: dir}
}

// logHeader is the header of the journal's log, empty where there is none. It
// is 32 octets long ("File Format For SQLite Databases", section 4.1).
func (w *world) logHeader() []byte {
	w.t.Helper()
	f, err := os.Open(w.path("journal.db-wal"))
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close()
	header := make([]byte, 32)
	n, err := io.ReadFull(f, header)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		w.t.Fatal(err)
	}
	return header[:n]
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
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		if holds() {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}
