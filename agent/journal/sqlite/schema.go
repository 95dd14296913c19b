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
}, {
	`CREATE TABLE challenges (
		id INTEGER PRIMARY KEY,
		challenge_key INTEGER NOT NULL, -- of challenge_id
		challenge_id TEXT NOT NULL,
		endpoint TEXT NOT NULL,
		principal TEXT NOT NULL,
		made INTEGER NOT NULL,
		expires INTEGER NOT NULL,
		unspent INTEGER NOT NULL        -- 0: an entry has the challenge
	)`,
	`CREATE INDEX challenges_id ON challenges (challenge_key)`,
	`CREATE INDEX challenges_expires ON challenges (expires, unspent, endpoint, principal)`,
	// How many challenges of a scope are unspent, by when they expire: see ledger.go.
	`CREATE TABLE outstanding (
		scope BLOB NOT NULL,
		slot INTEGER NOT NULL,
		n INTEGER NOT NULL,
		PRIMARY KEY (scope, slot)
	) WITHOUT ROWID`,
	`CREATE INDEX outstanding_slot ON outstanding (slot)`,

	// To whom a challenge was granted: one row a challenge. The newest row is
	// never dropped, so that IDs only grow: see witness.go.
	`CREATE TABLE grants (
		id INTEGER PRIMARY KEY,
		challenge_key INTEGER NOT NULL, -- of challenge_id
		challenge_id TEXT NOT NULL,
		caller TEXT NOT NULL,
		tenant TEXT NOT NULL,
		csr_key BLOB NOT NULL,
		names BLOB NOT NULL,
		thumbprint BLOB,                -- of the certificate; NULL: none was reported
		changed_at INTEGER NOT NULL
	)`,
	`CREATE INDEX grants_challenge ON grants (challenge_key)`,
	`CREATE INDEX grants_changed ON grants (changed_at)`,
	`CREATE TABLE verdicts (
		id INTEGER PRIMARY KEY,
		verdict_key INTEGER NOT NULL,   -- of caller, tenant, transaction_id, csr_digest
		caller TEXT NOT NULL,
		tenant TEXT NOT NULL,
		transaction_id TEXT NOT NULL,
		csr_digest BLOB NOT NULL,
		challenge_id TEXT NOT NULL,
		csr_key BLOB NOT NULL,
		names BLOB NOT NULL,
		at INTEGER NOT NULL,
		outcome TEXT NOT NULL,
		thumbprint BLOB NOT NULL,
		outcome_at INTEGER NOT NULL,
		changed_at INTEGER NOT NULL
	)`,
	`CREATE INDEX verdicts_key ON verdicts (verdict_key)`,
	`CREATE INDEX verdicts_changed ON verdicts (changed_at)`,

	// Each opening of the journal with a witness: see witness.go.
	`CREATE TABLE openings (
		id INTEGER PRIMARY KEY,
		name BLOB NOT NULL,             -- random
		at INTEGER NOT NULL,
		witnessed INTEGER NOT NULL,     -- 1: a witness file was there or was written
		restored INTEGER NOT NULL       -- 1: the file was found to be a restored copy
	)`,
	`CREATE UNIQUE INDEX openings_name ON openings (name)`,
	`CREATE INDEX openings_witnessed ON openings (witnessed) WHERE witnessed = 1`,
	`CREATE INDEX openings_restored ON openings (at) WHERE restored = 1`,
}, {
	// Which endpoint a certificate came from: see Journal.Issued.
	`CREATE INDEX entries_serial ON entries (serial) WHERE serial <> ''`,
}, jobsSchema, {
	// Debts stand in lanes, one for each kind and neighbour: see lanes.go.
	`ALTER TABLE debts ADD COLUMN neighbour TEXT NOT NULL DEFAULT ''`, // an endpoint, or the CA that revokes
	`ALTER TABLE debts ADD COLUMN give_up INTEGER NOT NULL DEFAULT 0`, // of the entry
	`UPDATE debts SET (neighbour, give_up) = (SELECT iif(debts.kind = 3, e.ca, e.endpoint), e.give_up FROM entries e WHERE e.id = debts.entry)`,
	`DROP INDEX debts_ready`,
	`CREATE INDEX debts_lane ON debts (kind, neighbour, urgency) WHERE ready = 1`,
	`CREATE INDEX debts_late ON debts (give_up) WHERE kind = 1`,
	`CREATE INDEX debts_kind ON debts (kind, since)`,
}, sweptJobs}

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
