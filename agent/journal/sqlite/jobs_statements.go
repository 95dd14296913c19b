package sqlite

// The statements of jobs and of who leads their sources.
const (
	sourceByName statement = firstOfJobs + iota
	insertSource
	leadSource
	resignSource
	recordPoll
	pauseSource
	resumeSource
	allSources
	workableSources
	pendingOfSource
	insertJob
	jobByKey
	reopenJob
	oweAgain
	adoptJob
	promoteJobs
	promoteStranded
	readyJobs
	claimJob
	jobByID
	holdOfJob
	saveJob
	postponeJob
	finishJob
	settleReport
	releaseJobs
	finishedJobs
	rangeOfJobs
	rangeOfPendingJobs
	sweepableJobs
	deleteJob
	thinJob
	insertImported
	importedBySerial
	lastStatement
)

// jobColumns are read by scanJob, in this order.
const jobColumns = `j.id, s.name, j.kind, j.context, iif(j.swept, NULL, j.content), j.summary, j.state, j.work, j.attempts, j.next_at, j.why,
	j.accepted_at, j.updated_at, j.token, j.succeeded, j.code, j.text, j.payload, j.serial, j.ca,
	j.retryable, j.unanswered, j.refused`

var statementsOfJobs = map[statement]string{
	sourceByName: `SELECT id, owner, epoch, until, last_poll FROM sources WHERE name = ?`,
	insertSource: `INSERT INTO sources (name, owner, epoch, until, last_poll, paused_at, paused_why, resumed_at)
		VALUES (?, '', 0, 0, 0, 0, '', 0)`,
	leadSource:   `UPDATE sources SET owner = ?, epoch = ?, until = ? WHERE id = ?`,
	resignSource: `UPDATE sources SET owner = '', until = 0 WHERE id = ?`,
	recordPoll:   `UPDATE sources SET last_poll = ? WHERE id = ?`,
	pauseSource:  `UPDATE sources SET paused_at = ?, paused_why = ? WHERE id = ? AND paused_at = 0`,
	resumeSource: `UPDATE sources SET paused_at = 0, paused_why = '', resumed_at = ? WHERE name = ? AND paused_at <> 0`,
	allSources: `SELECT id, name, owner, until, last_poll, paused_at, paused_why, resumed_at FROM sources
		ORDER BY name`,
	workableSources: `SELECT id FROM sources WHERE paused_at = 0`,
	pendingOfSource: `SELECT count(*), coalesce(min(since), 0) FROM jobs WHERE source = ? AND state = ? AND state < 3`,

	insertJob: `INSERT INTO jobs (job_key, source, own, kind, state, queue, ready, held, next_at, token, attempts,
		since, accepted_at, updated_at, finished_at, context, summary, why, code, text, serial, ca, retryable, unanswered, refused, content)
		VALUES (?1, ?2, ?3, ?4, 1, ?4, 1, 0, ?5, ?6, 0,  ?5, ?5, ?5, 0, ?7, ?8, '', 0, '', '', '', 0, 0, 0, ?9)`,
	jobByKey: `SELECT id, token, state, own, kind, retryable, unanswered, swept, content FROM jobs
		WHERE job_key = ? AND source = ? AND context = ?`,
	reopenJob: `UPDATE jobs SET own = 0, state = 1, queue = kind, ready = 1, held = 0, next_at = ?1, token = ?2, attempts = 0,
		since = ?1, updated_at = ?1, finished_at = 0, why = '', succeeded = NULL, code = 0, text = '', serial = '', ca = '',
		retryable = 0, unanswered = 0, refused = 0, work = NULL, payload = NULL WHERE id = ?3`,
	oweAgain: `UPDATE jobs SET own = 0, state = 2, queue = 0, ready = 1, held = 0, next_at = ?1, token = ?2, attempts = 0,
		since = ?1, updated_at = ?1, why = '', refused = 0 WHERE id = ?3`,
	adoptJob: `UPDATE jobs SET own = 0 WHERE id = ?`,
	promoteJobs: `UPDATE jobs SET ready = 1, held = 0 WHERE id IN
		(SELECT id FROM jobs WHERE ready = 0 AND held = ? AND next_at <= ? ORDER BY next_at LIMIT ?)`,
	promoteStranded: `UPDATE jobs SET ready = 1, held = 0 WHERE id IN
		(SELECT id FROM jobs WHERE ready = 0 AND held = ? AND next_at > ? ORDER BY next_at LIMIT ?)`,
	readyJobs: `SELECT id, token FROM jobs WHERE ready = 1 AND source = ? AND queue = ? ORDER BY id LIMIT ?`,
	claimJob:  `UPDATE jobs SET token = ?, held = 1, ready = 0, next_at = ? WHERE id = ?`,
	jobByID:   `SELECT ` + jobColumns + ` FROM jobs j JOIN sources s ON s.id = j.source WHERE j.id = ?`,
	holdOfJob: `SELECT state, own, token FROM jobs WHERE id = ?`,
	saveJob:   `UPDATE jobs SET work = ?, updated_at = ? WHERE id = ?`,
	postponeJob: `UPDATE jobs SET token = ?, held = 0, ready = 0, next_at = ?, attempts = attempts + 1, why = ?, updated_at = ?
		WHERE id = ?`,
	finishJob: `UPDATE jobs SET token = ?1, state = ?2, queue = ?3, ready = ?4, held = 0, next_at = ?5, attempts = 0, since = ?6,
		updated_at = ?6, finished_at = ?6, why = '', succeeded = ?7, code = ?8, text = ?9, serial = ?10, ca = ?11,
		retryable = ?12, unanswered = ?13, refused = 0, payload = ?14, work = NULL WHERE id = ?15`,
	settleReport: `UPDATE jobs SET token = ?1, state = 3, queue = NULL, ready = NULL, held = 0, next_at = 0, since = ?2,
		updated_at = ?2, why = '', refused = ?3, payload = NULL WHERE id = ?4`,
	releaseJobs: `UPDATE jobs SET token = token + 1, held = 0, ready = 1, next_at = ? WHERE ready = 0 AND held = 1`,
	finishedJobs: `SELECT count(*) FROM jobs
		WHERE succeeded = 1 AND source = ? AND kind = ? AND finished_at >= ?`,
	rangeOfJobs:        `SELECT coalesce((SELECT min(id) FROM jobs), 0), coalesce((SELECT max(id) FROM jobs), 0)`,
	rangeOfPendingJobs: `SELECT coalesce(min(id), 0), coalesce(max(id), 0) FROM jobs INDEXED BY jobs_pending WHERE state < 3`,

	sweepableJobs: `SELECT id, retryable = 0 AND (succeeded = 1 OR kind = 2 AND serial <> ''), content FROM jobs INDEXED BY jobs_over
		WHERE state = 3 AND swept = 0 AND since < ? AND id < (SELECT max(id) FROM jobs) ORDER BY since LIMIT ?`,
	deleteJob: `DELETE FROM jobs WHERE id = ?`,
	thinJob:   `UPDATE jobs SET swept = 1, content = ?, summary = '' WHERE id = ?`,

	insertImported:   `INSERT INTO imported (serial_key, ca, serial, tenant, imported_at) VALUES (?, ?, ?, ?, ?)`,
	importedBySerial: `SELECT tenant FROM imported WHERE serial_key = ? AND ca = ? AND serial = ? ORDER BY id`,
}

// with adds the statements of another table.
func with(all [lastStatement]string, more map[statement]string) [lastStatement]string {
	for id, sql := range more {
		all[id] = sql
	}
	return all
}
