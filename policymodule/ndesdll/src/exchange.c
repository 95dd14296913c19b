/* The two questions to the registration point, and what is kept between them. */
#include <string.h>

#include "encoding.h"
#include "owed.h"
#include "pendingfile.h"
#include "policy.h"
#include "reasons.h"

int64_t now_seconds(void)
{
	FILETIME t;
	ULARGE_INTEGER v;

	GetSystemTimeAsFileTime(&t);
	v.LowPart = t.dwLowDateTime;
	v.HighPart = t.dwHighDateTime;
	return (int64_t)(v.QuadPart / 10000000) - 11644473600;
}

static struct asker asker(const struct policy *p)
{
	return (struct asker){p->config.tenant, p->config.endpoint, p->config.issuing_ca};
}

/* status_failure is what NDES gets of a status that was not expected: the
 * HTTP_E_STATUS_... of winerror.h. */
static HRESULT status_failure(const struct answer *a)
{
	const struct reason *r = reason_of_status(a->status);
	char rule[80];

	wire_rule(&a->body, rule, sizeof rule);
	log_line(LOG_ERROR, "The registration point answers with status %lu (%s)%s%s: %s.", (unsigned long)a->status,
		 r->name, *rule ? ", rule " : "", rule, r->way_out);
	return MAKE_HRESULT(SEVERITY_ERROR, 25 /* FACILITY_HTTP */, a->status & 0xffff);
}

/* keep remembers a request for Notify, in memory and on disk. */
static HRESULT keep(struct policy *p, const struct question *q, int granted)
{
	int kept;

	AcquireSRWLockExclusive(&p->pending_lock);
	kept = pending_keep(&p->pending, q->transaction, q->csr, granted, now_seconds());
	ReleaseSRWLockExclusive(&p->pending_lock);
	if (granted && p->folder[0])
		pendingfile_keep(p->folder, q->transaction, q->csr);
	return kept ? S_OK : E_OUTOFMEMORY;
}

static HRESULT read_verdict(struct policy *p, const struct question *q, const struct answer *a, BOOL *verified)
{
	char rule[80];
	HRESULT hr;

	if (a->status != 201)
		return status_failure(a);
	switch (wire_verdict(&a->body)) {
	case VERDICT_GRANTED:
		/* A request that is forgotten could never be told of. */
		hr = keep(p, q, 1);
		if (FAILED(hr))
			return hr;
		log_line(LOG_INFO, "Verify challenge returns true");
		*verified = TRUE;
		return S_OK;
	case VERDICT_REFUSED:
		keep(p, q, 0);
		wire_rule(&a->body, rule, sizeof rule);
		log_line(LOG_WARNING, "Verify challenge returns false (rule %s)", *rule ? rule : "not named");
		return S_OK;
	default:
		log_line(LOG_ERROR, "The answer holds no verdict; what is at Url is no registration point of this version.");
		return HRESULT_FROM_WIN32(ERROR_WINHTTP_INVALID_SERVER_RESPONSE);
	}
}

static void log_transaction(struct slice transaction)
{
	char text[96];

	printable(text, sizeof text, transaction.at, transaction.length);
	log_line(LOG_INFO, "Transaction ID %s", text);
}

/* again tells whether a question may be put once more at once: a connection
 * that was kept and has died meanwhile. */
static BOOL again(HRESULT hr)
{
	return hr == HRESULT_FROM_WIN32(ERROR_WINHTTP_CONNECTION_ERROR) ||
	       hr == HRESULT_FROM_WIN32(ERROR_WINHTTP_RESEND_REQUEST);
}

HRESULT policy_ask(struct policy *p, const struct question *q, BOOL *verified)
{
	ULONGLONG deadline = GetTickCount64() + p->config.timeout, now;
	struct asker who = asker(p);
	struct bytes body = {0};
	struct answer a = {0};
	HRESULT hr = E_OUTOFMEMORY;

	*verified = FALSE;
	log_transaction(q->transaction);
	if (wire_question(&body, &who, q)) {
		log_line(LOG_INFO, "Sending request to certificate registration point.");
		hr = http_post(&p->http, WIRE_VERIFY, &body, p->config.timeout, &a);
		now = GetTickCount64();
		if (again(hr) && now + 500 < deadline)
			hr = http_post(&p->http, WIRE_VERIFY, &body, (DWORD)(deadline - now), &a);
	}
	if (SUCCEEDED(hr))
		hr = read_verdict(p, q, &a, verified);
	bytes_free(&body);
	bytes_free(&a.body);
	return hr;
}

/* look_up copies the request that an outcome is of. S_FALSE: the request was
 * refused, nobody waits for its outcome. */
static HRESULT look_up(struct policy *p, const struct outcome *o, struct bytes *csr)
{
	struct slice serial, key;
	BOOL issued = o->certificate.length > 0;
	const struct pending_entry *e;
	HRESULT hr = HRESULT_FROM_WIN32(ERROR_NOT_FOUND);

	if (issued && !certificate_key(o->certificate.at, o->certificate.length, &serial, &key)) {
		log_line(LOG_ERROR, "NDES tells of something that is no certificate.");
		return E_INVALIDARG;
	}
	AcquireSRWLockExclusive(&p->pending_lock);
	e = pending_find(&p->pending, o->transaction, issued ? &key : NULL, now_seconds());
	if (e && !e->granted && !issued)
		hr = S_FALSE;
	else if (e && e->granted)
		hr = bytes_add(csr, e->csr.at, e->csr.length) ? S_OK : E_OUTOFMEMORY;
	ReleaseSRWLockExclusive(&p->pending_lock);
	if (hr == HRESULT_FROM_WIN32(ERROR_NOT_FOUND) && p->folder[0] &&
	    pendingfile_find(p->folder, o->transaction, issued ? &key : NULL, csr))
		hr = S_OK;
	return hr;
}

static void forget(struct policy *p, const struct outcome *o)
{
	AcquireSRWLockExclusive(&p->pending_lock);
	pending_forget(&p->pending, o->transaction, o->csr);
	ReleaseSRWLockExclusive(&p->pending_lock);
	if (p->folder[0])
		pendingfile_forget(p->folder, o->transaction, o->csr);
	owed_forget(p, o);
}

/* log_untold names the certificate that is out and of which nobody was told. */
static void log_untold(const struct outcome *o, const char *why)
{
	struct slice serial, key;
	char text[2 * 32 + 1] = "unknown";

	if (o->certificate.length == 0) {
		log_line(LOG_ERROR, "The failure was not told: %s.", why);
		return;
	}
	if (certificate_key(o->certificate.at, o->certificate.length, &serial, &key) && serial.length <= 32)
		hex_write(text, serial.at, serial.length);
	log_line(LOG_ERROR, "The certificate with serial number %s is released, but not told: %s.", text, why);
}

enum fate fate_of(const struct answer *a)
{
	char rule[80];

	switch (a->status) {
	case 202:
	case 204:
		return FATE_TAKEN;
	case 409:
		return FATE_REFUSED;
	case 400:
	case 413:
	case 415:
		return FATE_HOPELESS;
	case 401:
	case 403:
	case 404:
	case 407:
		wire_rule(&a->body, rule, sizeof rule);
		return strcmp(rule, "notify_without_verdict") == 0 ? FATE_HOPELESS : FATE_MENDABLE;
	}
	return FATE_LATER;
}

/* put_off keeps an outcome to be told later. */
static void put_off(struct policy *p, const struct outcome *o, const struct bytes *body)
{
	log_untold(o, owed_keep(p, o, body) ? "it is kept and told later" :
		   "it cannot be kept; revoke the certificate by hand if it must not be used");
}

/* told reads the answer to an outcome. S_FALSE: try again. */
static HRESULT told(struct policy *p, const struct outcome *o, const struct bytes *body, const struct answer *a)
{
	HRESULT hr;

	switch (fate_of(a)) {
	case FATE_TAKEN:
		if (a->status == 202)
			log_line(LOG_INFO, "The outcome is recorded and will be told.");
		return S_OK;
	case FATE_REFUSED:
		log_untold(o, "it is refused for good, and the connector has a certificate that it refuses revoked");
		status_failure(a);
		return HRESULT_FROM_WIN32(ERROR_REQUEST_REFUSED);
	case FATE_LATER:
		status_failure(a);
		return S_FALSE;
	case FATE_MENDABLE: /* by an administrator, not by waiting here */
		hr = status_failure(a);
		put_off(p, o, body);
		return hr;
	default:
		log_untold(o, "the registration point will not take it; revoke the certificate by hand if it must not be used");
		return status_failure(a);
	}
}

/* deliver tries until the outcome is taken, refused, or the time is over. The
 * registration point knows an outcome that comes twice. */
static HRESULT deliver(struct policy *p, const struct bytes *body, const struct outcome *o)
{
	ULONGLONG deadline = GetTickCount64() + p->config.notify_timeout, now;
	DWORD pause = 1000;

	for (;;) {
		struct answer a = {0};
		DWORD left, wait;
		HRESULT hr;

		now = GetTickCount64();
		left = now < deadline ? (DWORD)(deadline - now) : 1;
		hr = http_post(&p->http, WIRE_NOTIFY, body, left < p->config.timeout ? left : p->config.timeout, &a);
		wait = SUCCEEDED(hr) && a.retry_after > pause ? a.retry_after : pause;
		hr = SUCCEEDED(hr) ? told(p, o, body, &a) : S_FALSE;
		bytes_free(&a.body);
		if (hr != S_FALSE)
			return hr;
		if (GetTickCount64() + wait >= deadline ||
		    WaitForSingleObject(p->stop, wait) != WAIT_TIMEOUT) {
			log_line(LOG_ERROR, "The time to tell the outcome is over (NotifyTimeoutMs).");
			put_off(p, o, body);
			return HRESULT_FROM_WIN32(ERROR_WINHTTP_TIMEOUT);
		}
		pause = pause < 8000 ? 2 * pause : pause;
		log_line(LOG_WARNING, "Telling the outcome once more.");
	}
}

HRESULT policy_tell(struct policy *p, struct outcome *o)
{
	struct asker who = asker(p);
	struct bytes csr = {0}, body = {0};
	HRESULT hr;

	log_transaction(o->transaction);
	hr = look_up(p, o, &csr);
	if (hr == S_FALSE) {
		log_line(LOG_INFO, "The request was refused; nobody waits for its outcome.");
		hr = S_OK;
	} else if (hr == S_OK) {
		o->csr = (struct slice){csr.at, csr.length};
		hr = wire_outcome(&body, &who, o) ? deliver(p, &body, o) : E_OUTOFMEMORY;
		if (SUCCEEDED(hr) || hr == HRESULT_FROM_WIN32(ERROR_REQUEST_REFUSED))
			forget(p, o);
	} else if (hr == HRESULT_FROM_WIN32(ERROR_NOT_FOUND)) {
		log_untold(o, "no granted request is remembered that it answers; revoke the certificate by hand if it must not be used");
	}
	bytes_free(&csr);
	bytes_free(&body);
	return hr;
}
