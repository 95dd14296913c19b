package sqlite

import "fmt"

// applicationID marks the file as a journal of this program ("ccjl").
const applicationID = 0x63636a6c

// migrations turn version i of the schema into version i+1; the file's
// user_version counts how many were made. They are only ever appended to.
//
// Rows are appended and never move. What must be found again has one narrow
// index over 64 bits of a digest; the columns behind it are compared in full,
// so a collision costs a comparison and nothing else. Indexes for work are
// partial: they hold what is open, not what is history.
var migrations = [][]string{{
	`CREATE TABLE entries (
		id INTEGER PRIMARY KEY,
		request_key INTEGER NOT NULL,  -- of endpoint, transaction_id, signer_key
		challenge_key INTEGER,         -- of challenge_id; NULL when there is none
		state INTEGER NOT NULL,
		token INTEGER NOT NULL,        -- changes with every claim
		held INTEGER NOT NULL,         -- 1: somebody works on it until next_at
		next_at INTEGER,               -- nanoseconds; NULL in a final state
		created_at INTEGER NOT NULL,
		updated_at INTEGER NOT NULL,
		endpoint TEXT NOT NULL,
		tenant TEXT NOT NULL,
		transaction_id TEXT NOT NULL,
		signer_key BLOB NOT NULL,
		signer_id BLOB NOT NULL,
		csr_digest BLOB NOT NULL,
		csr_key BLOB NOT NULL,
		names BLOB NOT NULL,
		challenge_id TEXT NOT NULL,
		ca TEXT NOT NULL,
		template TEXT NOT NULL,
		subject TEXT NOT NULL,
		max_validity INTEGER NOT NULL,
		notify INTEGER NOT NULL,
		give_up INTEGER NOT NULL,
		attempts INTEGER NOT NULL,
		submitted_at INTEGER NOT NULL,
		resubmitted INTEGER NOT NULL,
		ca_request_id TEXT NOT NULL,
		serial TEXT NOT NULL,
		failure_rule TEXT,             -- NULL when there is no failure
		failure_info INTEGER,
		failure_hresult INTEGER,
		failure_text TEXT,
		certificate BLOB,
		sealed_csr BLOB
	)`,
	`CREATE INDEX entries_request ON entries (request_key)`,
	`CREATE INDEX entries_challenge ON entries (challenge_key) WHERE challenge_key IS NOT NULL`,
	`CREATE INDEX entries_due ON entries (next_at) WHERE next_at IS NOT NULL`,

	`CREATE TABLE debts (
		id INTEGER PRIMARY KEY,
		entry INTEGER NOT NULL,
		kind INTEGER NOT NULL,
		urgency INTEGER NOT NULL,      -- smallest first: minus id for a success, id for the rest
		ready INTEGER NOT NULL,        -- 1: its time has come, nobody holds it
		held INTEGER NOT NULL,
		next_at INTEGER NOT NULL,
		token INTEGER NOT NULL,
		attempts INTEGER NOT NULL,
		since INTEGER NOT NULL,
		why TEXT NOT NULL
	)`,
	`CREATE INDEX debts_entry ON debts (entry)`,
	`CREATE INDEX debts_waiting ON debts (next_at) WHERE ready = 0`,
	`CREATE INDEX debts_ready ON debts (urgency) WHERE ready = 1`,

	`CREATE TABLE certificates (
		id INTEGER PRIMARY KEY,
		serial_key INTEGER NOT NULL,   -- of ca and serial
		csr_key INTEGER NOT NULL,      -- of csr_digest
		ca TEXT NOT NULL,
		serial BLOB NOT NULL,
		csr_digest BLOB NOT NULL,
		issued_at INTEGER NOT NULL,
		not_after INTEGER NOT NULL,
		revoked_at INTEGER,            -- NULL: not revoked
		reason INTEGER NOT NULL,
		der BLOB NOT NULL
	)`,
	`CREATE INDEX certificates_serial ON certificates (serial_key)`,
	// Grows at its end only; a search reads it back to a point in time.
	`CREATE INDEX certificates_issued ON certificates (issued_at, csr_key)`,
	`CREATE INDEX certificates_revoked ON certificates (ca, not_after) WHERE revoked_at IS NOT NULL`,

	`CREATE TABLE crl_numbers (ca TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID`,
	`CREATE TABLE parked (
		id INTEGER PRIMARY KEY AUTOINCREMENT,
		ca TEXT NOT NULL,
		csr BLOB,
		csr_digest BLOB NOT NULL,
		template TEXT NOT NULL,
		validity INTEGER NOT NULL,
		max_validity INTEGER NOT NULL,
		state TEXT NOT NULL,
		why TEXT NOT NULL,
		serial BLOB,
		at INTEGER NOT NULL
	)`,
	`CREATE INDEX parked_csr ON parked (ca, csr_digest, id)`,
}}

// migrate brings the file to the newest version, one transaction a version.
func migrate(c *conn, path string) error {
	version, err := c.number(`PRAGMA user_version`)
	if err != nil {
		return err
	}
	if version > int64(len(migrations)) {
		return fmt.Errorf("journal %q has schema version %d, this program knows %d: install the newer program again, or restore the copy made before the upgrade",
			path, version, len(migrations))
	}
	for v := int(version); v < len(migrations); v++ {
		if err := c.exec(`BEGIN IMMEDIATE`); err != nil {
			return err
		}
		if err := c.exec(migrations[v]...); err != nil {
			return fmt.Errorf("journal %q: migrating to schema version %d: %w", path, v+1, err)
		}
		if err := c.exec(fmt.Sprintf(`PRAGMA user_version = %d`, v+1), `COMMIT`); err != nil {
			return err
		}
	}
	return nil
}
