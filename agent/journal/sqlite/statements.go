package sqlite

// statement names one of the prepared statements.
type statement int

const (
	beginTransaction statement = iota
	commitTransaction
	rollbackTransaction
	entryByID
	entriesByRequest
	entryByChallenge
	newestByRequest
	newestBySerial
	insertEntry
	updateEntry
	rangeOfEntries
	rangeOfOpenEntries
	dueEntries
	claimEntry
	releaseEntries
	insertDebt
	dropDebts
	notificationOwed
	nextLane
	readyDebts
	promoteDebts
	lateSuccesses
	lateFailures
	debtStat
	owedDebts
	debtsOf
	claimDebt
	debtByID
	deleteDebt
	postponeDebt
	extendDebt
	releaseDebts
	wipeCSR
	insertCertificate
	certificateBySerial
	certificateByCSR
	revokeCertificate
	revokedCertificates
	nextCRLNumber
	insertParked
	parkedByID
	parkedByCSR
	decideParked
	completeParked
	insertChallenge
	challengeByID
	spendChallenge
	sweepChallenges
	anyChallenge
	anyGrant
	addOutstanding
	takeOutstanding
	countOutstanding
	countOfEndpoint
	countOfPrincipal
	sweepOutstanding
	insertVerdict
	verdictByKey
	settleVerdict
	sweepVerdicts
	insertGrant
	grantByChallenge
	touchGrant
	sweepGrants
	highestIDs
	insertOpening
	openingByName
	anyWitnessed
	markWitnessed
	lastRestore
	sweepOpenings
	firstOfJobs
)

// entryColumns are read by scanEntry, in this order.
const entryColumns = `e.id, e.state, e.token, e.next_at, e.created_at, e.updated_at, e.endpoint, e.tenant, e.transaction_id,
	e.signer_key, e.signer_id, e.csr_digest, e.csr_key, e.names, e.challenge_id, e.ca, e.template, e.subject,
	e.max_validity, e.notify, e.give_up, e.attempts, e.submitted_at, e.resubmitted, e.ca_request_id, e.serial,
	e.failure_rule, e.failure_info, e.failure_hresult, e.failure_text, e.certificate, e.sealed_csr`

// debtColumns are read by scanDebt, before entryColumns.
const debtColumns = `d.id, d.kind, d.attempts, d.since, d.token, d.why`

// restoreFloor is the last restore in milliseconds since 1970, 0 without one.
const restoreFloor = `SELECT coalesce(max(at), 0) / 1000000 FROM openings WHERE restored = 1`

const certificateColumns = `serial, der, csr_digest, issued_at, not_after, revoked_at, reason`

var statements = with([lastStatement]string{
	beginTransaction:    `BEGIN IMMEDIATE`,
	commitTransaction:   `COMMIT`,
	rollbackTransaction: `ROLLBACK`,

	entryByID: `SELECT ` + entryColumns + ` FROM entries e WHERE e.id = ?`,
	entriesByRequest: `SELECT id, created_at, signer_id, csr_digest, csr_key, names, challenge_id FROM entries
		WHERE request_key = ? AND endpoint = ? AND transaction_id = ? AND signer_key = ? ORDER BY id DESC`,
	entryByChallenge: `SELECT id, created_at, endpoint, csr_key, names FROM entries
		WHERE challenge_key = ? AND challenge_id = ?`,
	newestByRequest: `SELECT ` + entryColumns + ` FROM entries e
		WHERE e.request_key = ? AND e.endpoint = ? AND e.transaction_id = ? AND e.signer_key = ? ORDER BY e.id DESC LIMIT 1`,
	newestBySerial: `SELECT ` + entryColumns + ` FROM entries e
		WHERE e.serial = ? AND e.serial <> '' AND e.ca = ? ORDER BY e.id DESC LIMIT 1`,
	insertEntry: `INSERT INTO entries (request_key, challenge_key, state, token, held, next_at, created_at, updated_at,
		endpoint, tenant, transaction_id, signer_key, signer_id, csr_digest, csr_key, names, challenge_id,
		ca, template, subject, max_validity, notify, give_up,
		attempts, submitted_at, resubmitted, ca_request_id, serial,
		failure_rule, failure_info, failure_hresult, failure_text, sealed_csr)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?,  ?, ?, ?, ?, ?, ?, ?, ?, ?,  ?, ?, ?, ?, ?, ?,  0, ?, 0, '', '',  ?, ?, ?, ?, ?)`,
	updateEntry: `UPDATE entries SET state = ?, held = ?, next_at = ?, updated_at = ?, give_up = ?, attempts = ?, submitted_at = ?, resubmitted = ?,
		ca_request_id = ?, serial = ?, failure_rule = ?, failure_info = ?, failure_hresult = ?, failure_text = ?,
		certificate = coalesce(?, certificate), sealed_csr = iif(?, NULL, sealed_csr) WHERE id = ?`,
	rangeOfEntries:     `SELECT coalesce((SELECT min(id) FROM entries), 0), coalesce((SELECT max(id) FROM entries), 0)`,
	rangeOfOpenEntries: `SELECT coalesce(min(id), 0), coalesce(max(id), 0) FROM entries INDEXED BY entries_due WHERE next_at IS NOT NULL`,
	dueEntries:         `SELECT id FROM entries WHERE next_at IS NOT NULL AND next_at <= ? ORDER BY next_at LIMIT ?`,
	claimEntry: `UPDATE entries SET token = ?4, held = 1, next_at = ?1
		WHERE id = ?2 AND next_at IS NOT NULL AND (next_at <= ?3 OR held = 0)`,
	releaseEntries: `UPDATE entries SET token = token + 1, held = 0, next_at = ? WHERE next_at IS NOT NULL AND held = 1`,

	// An entry owes at most a few things: its index is named where the planner
	// would take the kind's, which is as long as the backlog.
	insertDebt: `INSERT INTO debts (entry, kind, neighbour, give_up, urgency, ready, held, next_at, token, attempts, since, why)
		VALUES (?, ?, ?, ?, 0, 0, 0, ?, ?, 0, ?, '')`,
	dropDebts:        `DELETE FROM debts INDEXED BY debts_entry WHERE entry = ? AND kind = ?`,
	notificationOwed: `SELECT 1 FROM debts INDEXED BY debts_entry WHERE entry = ? AND kind IN (1, 2)`,
	promoteDebts: `UPDATE debts SET ready = 1, held = 0, urgency = iif(kind = 1, -id, id) WHERE id IN
		(SELECT id FROM debts WHERE ready = 0 AND next_at <= ? ORDER BY next_at DESC LIMIT ?)`,
	nextLane: `SELECT neighbour FROM debts INDEXED BY debts_lane WHERE ready = 1 AND kind = ? AND neighbour >= ? ORDER BY neighbour LIMIT 1`,
	readyDebts: `SELECT id, since FROM debts WHERE ready = 1 AND kind = ? AND neighbour = ? AND next_at <= ?
		ORDER BY urgency LIMIT ?`,
	lateSuccesses: `SELECT id FROM debts INDEXED BY debts_late WHERE kind = 1 AND give_up <= ?1 AND (held = 0 OR next_at <= ?1) ORDER BY give_up LIMIT ?2`,
	lateFailures:  `SELECT id FROM debts INDEXED BY debts_kind WHERE kind = 2 AND since < ?2 AND (held = 0 OR next_at <= ?1) ORDER BY since LIMIT ?3`,
	debtStat:      `SELECT count(*), coalesce(min(since), 0) FROM debts WHERE kind = ?`,
	owedDebts:     `SELECT ` + debtColumns + `, ` + entryColumns + ` FROM debts d JOIN entries e ON e.id = d.entry WHERE d.id < ? ORDER BY d.id DESC LIMIT ?`,
	debtsOf:       `SELECT id FROM debts INDEXED BY debts_entry WHERE entry = ? AND kind = ? AND (held = 0 OR next_at <= ?) ORDER BY id`,
	claimDebt:     `UPDATE debts SET token = ?, held = 1, ready = 0, next_at = ? WHERE id = ?`,
	debtByID:      `SELECT ` + debtColumns + `, ` + entryColumns + ` FROM debts d JOIN entries e ON e.id = d.entry WHERE d.id = ?`,
	deleteDebt:    `DELETE FROM debts WHERE id = ?`,
	postponeDebt:  `UPDATE debts SET token = token + 1, held = 0, ready = 0, next_at = ?, attempts = attempts + 1, why = ? WHERE id = ?`,
	extendDebt:    `UPDATE debts INDEXED BY debts_entry SET give_up = ? WHERE entry = ? AND kind = 1`,
	releaseDebts:  `UPDATE debts SET token = token + 1, held = 0, ready = 0, next_at = ? WHERE held = 1`,
	wipeCSR:       `UPDATE entries SET sealed_csr = NULL WHERE id = ? AND sealed_csr IS NOT NULL`,

	insertCertificate: `INSERT INTO certificates (serial_key, csr_key, ca, serial, csr_digest, issued_at, not_after, revoked_at, reason, der)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
	certificateBySerial: `SELECT ` + certificateColumns + ` FROM certificates WHERE serial_key = ? AND ca = ? AND serial = ?`,
	certificateByCSR: `SELECT ` + certificateColumns + ` FROM certificates
		WHERE issued_at >= ? AND csr_key = ? AND ca = ? AND csr_digest = ? ORDER BY issued_at DESC LIMIT 1`,
	revokeCertificate: `UPDATE certificates SET revoked_at = ?, reason = ? WHERE serial_key = ? AND ca = ? AND serial = ?`,
	revokedCertificates: `SELECT ` + certificateColumns + ` FROM certificates
		WHERE revoked_at IS NOT NULL AND ca = ? AND not_after >= ? ORDER BY not_after`,
	// A restored copy has forgotten the numbers since, and they must not go
	// backwards: it counts on from the millisecond of the restore.
	nextCRLNumber: `INSERT INTO crl_numbers (ca, number) VALUES (?, 1 + (` + restoreFloor + `))
		ON CONFLICT (ca) DO UPDATE SET number = 1 + max(number, (` + restoreFloor + `)) RETURNING number`,
	insertParked: `INSERT INTO parked (ca, csr, csr_digest, template, validity, max_validity, state, why, serial, at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL, ?) RETURNING id`,
	parkedByID: `SELECT id, csr, csr_digest, template, validity, max_validity, state, why, serial, at FROM parked
		WHERE id = ? AND ca = ?`,
	parkedByCSR: `SELECT id FROM parked WHERE ca = ? AND csr_digest = ? AND at >= ? ORDER BY id DESC LIMIT 1`,
	// Whoever is denied needs no CSR any more, nor does whoever has a certificate.
	decideParked:   `UPDATE parked SET state = ?1, why = ?2, csr = iif(?1 = 'denied', NULL, csr) WHERE id = ?3`,
	completeParked: `UPDATE parked SET state = ?, serial = ?, csr = NULL WHERE id = ?`,

	insertChallenge: `INSERT INTO challenges (challenge_key, challenge_id, endpoint, principal, made, expires, unspent)
		VALUES (?, ?, ?, ?, ?, ?, ?)`,
	challengeByID: `SELECT endpoint, principal, made, expires FROM challenges
		WHERE challenge_key = ? AND challenge_id = ? AND endpoint = ?`,
	spendChallenge: `UPDATE challenges SET unspent = 0 WHERE challenge_key = ? AND challenge_id = ? AND unspent = 1
		RETURNING endpoint, principal, expires`,
	sweepChallenges: `DELETE FROM challenges WHERE id IN
		(SELECT id FROM challenges WHERE expires < ? ORDER BY expires LIMIT ?)`,
	anyChallenge: `SELECT EXISTS (SELECT 1 FROM challenges WHERE id > 0)`,
	anyGrant:     `SELECT EXISTS (SELECT 1 FROM grants WHERE id > 0)`,
	addOutstanding: `INSERT INTO outstanding (scope, slot, n) VALUES (?, ?, 1)
		ON CONFLICT (scope, slot) DO UPDATE SET n = n + 1`,
	takeOutstanding:  `UPDATE outstanding SET n = n - 1 WHERE scope = ? AND slot = ?`,
	countOutstanding: `SELECT coalesce(sum(n), 0) FROM outstanding WHERE scope = ? AND slot > ?`,
	countOfEndpoint: `SELECT count(*) FROM challenges
		WHERE expires > ? AND expires < ? AND unspent = 1 AND endpoint = ?`,
	countOfPrincipal: `SELECT count(*) FROM challenges
		WHERE expires > ? AND expires < ? AND unspent = 1 AND endpoint = ? AND principal = ?`,
	sweepOutstanding: `DELETE FROM outstanding WHERE slot < ?`,

	insertVerdict: `INSERT INTO verdicts (verdict_key, caller, tenant, transaction_id, csr_digest, challenge_id, csr_key, names, at,
		outcome, thumbprint, outcome_at, changed_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, '', zeroblob(32), 0, ?9)`,
	verdictByKey: `SELECT id, challenge_id, csr_key, names, at, outcome, thumbprint, outcome_at FROM verdicts
		WHERE verdict_key = ? AND caller = ? AND tenant = ? AND transaction_id = ? AND csr_digest = ?`,
	settleVerdict: `UPDATE verdicts SET outcome = ?1, thumbprint = ?2, outcome_at = ?3, changed_at = max(changed_at, ?3) WHERE id = ?4`,
	sweepVerdicts: `DELETE FROM verdicts WHERE id IN
		(SELECT id FROM verdicts WHERE changed_at < ? ORDER BY changed_at LIMIT ?)`,
	insertGrant: `INSERT INTO grants (challenge_key, challenge_id, caller, tenant, csr_key, names, changed_at)
		VALUES (?, ?, ?, ?, ?, ?, ?)`,
	grantByChallenge: `SELECT id, caller, tenant, csr_key, names, thumbprint FROM grants WHERE challenge_key = ? AND challenge_id = ?`,
	touchGrant:       `UPDATE grants SET changed_at = max(changed_at, ?), thumbprint = coalesce(thumbprint, ?) WHERE id = ?`,
	sweepGrants: `DELETE FROM grants WHERE id IN
		(SELECT id FROM grants WHERE changed_at < ? ORDER BY changed_at LIMIT ?)
		AND id < (SELECT max(id) FROM grants)`,

	highestIDs:    `SELECT coalesce((SELECT max(id) FROM entries), 0), coalesce((SELECT max(id) FROM grants), 0)`,
	insertOpening: `INSERT INTO openings (name, at, witnessed, restored) VALUES (?, ?, ?, ?)`,
	openingByName: `SELECT id FROM openings WHERE name = ?`,
	anyWitnessed:  `SELECT EXISTS (SELECT 1 FROM openings WHERE witnessed = 1)`,
	markWitnessed: `UPDATE openings SET witnessed = 1 WHERE id = ?`,
	lastRestore:   `SELECT coalesce(max(at), 0) FROM openings WHERE restored = 1`,
	sweepOpenings: `DELETE FROM openings WHERE id < ? AND restored = 0`,
}, statementsOfJobs)
