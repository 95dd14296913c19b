package sqlite

// jobsSchema is the migration that brought jobs.
//
// A job is waiting (ready 0), and then held or not, until it is promoted
// (ready 1) to the queue of its source: a queue for each kind of open job, and
// one of what is owed. So the oldest of a queue are found without a look at
// what is not due, and a source that is paused is passed over as a whole.
var jobsSchema = []string{
	`CREATE TABLE sources (
		id INTEGER PRIMARY KEY,
		name TEXT NOT NULL UNIQUE,
		owner TEXT NOT NULL,           -- who leads it; '' when the lead was given up
		epoch INTEGER NOT NULL,        -- grows with every change of the owner
		until INTEGER NOT NULL,        -- the end of the owner's term
		last_poll INTEGER NOT NULL,
		paused_at INTEGER NOT NULL,    -- 0: not paused
		paused_why TEXT NOT NULL,
		resumed_at INTEGER NOT NULL
	)`,
	`CREATE TABLE jobs (
		id INTEGER PRIMARY KEY,
		job_key INTEGER NOT NULL,      -- of source and context
		source INTEGER NOT NULL,
		own INTEGER NOT NULL,          -- 1: reported to nobody
		kind INTEGER NOT NULL,
		state INTEGER NOT NULL,
		queue INTEGER,                 -- kind while it is open, 0 while it is owed; NULL when it is over
		ready INTEGER,                 -- 1: its time has come, nobody holds it; NULL when it is over
		held INTEGER NOT NULL,         -- 1: somebody works on it until next_at
		next_at INTEGER NOT NULL,
		token INTEGER NOT NULL,        -- changes with every claim
		attempts INTEGER NOT NULL,
		since INTEGER NOT NULL,        -- when it came to its state
		accepted_at INTEGER NOT NULL,
		updated_at INTEGER NOT NULL,
		finished_at INTEGER NOT NULL,  -- 0 while there is no result
		context TEXT NOT NULL,
		summary TEXT NOT NULL,
		why TEXT NOT NULL,
		succeeded INTEGER,             -- NULL while there is no result
		code INTEGER NOT NULL,
		text TEXT NOT NULL,
		serial TEXT NOT NULL,
		ca TEXT NOT NULL,
		retryable INTEGER NOT NULL,
		unanswered INTEGER NOT NULL,
		refused INTEGER NOT NULL,      -- 1: the source refused the report for good
		content BLOB,
		work BLOB,
		payload BLOB
	)`,
	`CREATE INDEX jobs_key ON jobs (job_key)`,
	`CREATE INDEX jobs_waiting ON jobs (held, next_at) WHERE ready = 0`,
	`CREATE INDEX jobs_ready ON jobs (source, queue) WHERE ready = 1`,
	`CREATE INDEX jobs_pending ON jobs (source, state, since) WHERE state < 3`,
	`CREATE INDEX jobs_succeeded ON jobs (source, kind, finished_at) WHERE succeeded = 1`,

	// Certificates that were issued elsewhere, by the tenants they are for.
	`CREATE TABLE imported (
		id INTEGER PRIMARY KEY,
		serial_key INTEGER NOT NULL,   -- of ca and serial
		ca TEXT NOT NULL,
		serial TEXT NOT NULL,
		tenant TEXT NOT NULL,
		imported_at INTEGER NOT NULL
	)`,
	`CREATE INDEX imported_serial ON imported (serial_key)`,
}

// sweptJobs is the migration that brought SweepJobs. A job that stays when it
// is swept has the SHA-256 of its content in the place of it.
var sweptJobs = []string{
	`ALTER TABLE jobs ADD COLUMN swept INTEGER NOT NULL DEFAULT 0`,
	`CREATE INDEX jobs_over ON jobs (since) WHERE state = 3 AND swept = 0`,
}
