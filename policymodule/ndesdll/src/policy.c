/* The five methods of INDESPolicy. Arguments are checked here; C has no
 * exceptions that could leave a method. */
#include "policy.h"

#include <stdlib.h>
#include <wchar.h>

#include "encoding.h"
#include "identity.h"
#include "owed.h"
#include "pendingfile.h"

static struct policy *of(NDESPolicy *face) { return (struct policy *)face; }

static HRESULT STDMETHODCALLTYPE query(NDESPolicy *self, REFIID iid, void **out)
{
	if (!out)
		return E_POINTER;
	*out = NULL;
	if (!iid || (!IsEqualIID(iid, &IID_IUnknown) && !IsEqualIID(iid, &IID_NDESPolicy)))
		return E_NOINTERFACE;
	InterlockedIncrement(&of(self)->references);
	*out = self;
	return S_OK;
}

static ULONG STDMETHODCALLTYPE add(NDESPolicy *self)
{
	return (ULONG)InterlockedIncrement(&of(self)->references);
}

static void shut(struct policy *p)
{
	owed_stop(p);
	if (p->ready)
		http_close(&p->http);
	p->ready = FALSE;
	pending_free(&p->pending);
}

static ULONG STDMETHODCALLTYPE drop(NDESPolicy *self)
{
	struct policy *p = of(self);
	LONG left = InterlockedDecrement(&p->references);

	if (left == 0) {
		shut(p);
		CloseHandle(p->stop);
		free(p);
		module_release();
	}
	return (ULONG)left;
}

static HRESULT STDMETHODCALLTYPE initialize(NDESPolicy *self)
{
	struct policy *p = of(self);
	struct identity was;
	HRESULT hr = identity_process(&was);

	if (FAILED(hr))
		return hr;
	AcquireSRWLockExclusive(&p->use);
	shut(p);
	ResetEvent(p->stop);
	hr = config_read(&p->config);
	log_line(LOG_INFO, "Calling Initialize ...");
	if (SUCCEEDED(hr))
		hr = http_open(&p->http, &p->config);
	p->ready = SUCCEEDED(hr);
	if (p->ready) {
		pendingfile_open(p->config.log_file, p->folder);
		owed_start(p);
	}
	log_line(SUCCEEDED(hr) ? LOG_INFO : LOG_ERROR, "Exiting Initialize with 0x%lx", (unsigned long)hr);
	ReleaseSRWLockExclusive(&p->use);
	identity_restore(&was);
	return hr;
}

static HRESULT STDMETHODCALLTYPE uninitialize(NDESPolicy *self)
{
	struct policy *p = of(self);
	struct identity was;
	HRESULT hr = identity_process(&was);

	if (FAILED(hr))
		return hr;
	SetEvent(p->stop);
	AcquireSRWLockExclusive(&p->use);
	shut(p);
	ReleaseSRWLockExclusive(&p->use);
	log_line(LOG_INFO, "Exiting Uninitialize with 0x0");
	identity_restore(&was);
	return S_OK;
}

/* Challenges that Intune accepts are made by Intune; one from here would only
 * fail later. */
static HRESULT STDMETHODCALLTYPE generate_challenge(NDESPolicy *self, PCWSTR wanted_template, PCWSTR params, PWSTR *challenge)
{
	struct identity was;
	HRESULT hr;

	(void)self;
	(void)wanted_template;
	(void)params;
	if (!challenge)
		return E_POINTER;
	*challenge = NULL;
	hr = identity_process(&was);
	if (FAILED(hr))
		return hr;
	log_line(LOG_WARNING, "GenerateChallenge is refused: challenges come from Intune.");
	identity_restore(&was);
	return E_NOTIMPL;
}

/* read_blob accepts a blob that is absent in either of the two ways. */
static HRESULT read_blob(const NDES_BLOB *blob, struct slice *out)
{
	*out = (struct slice){NULL, 0};
	if (!blob || (blob->cb == 0 && !blob->pb))
		return S_OK;
	if (!blob->pb || blob->cb == 0 || blob->cb > BLOB_BYTES)
		return E_INVALIDARG;
	*out = (struct slice){blob->pb, blob->cb};
	return S_OK;
}

static HRESULT read_wide(PCWSTR text, struct bytes *out, struct slice *as)
{
	size_t n = text ? utf16_length(text, WIRE_TRANSACTION) : 0;

	out->most = WIRE_TRANSACTION;
	if (n > WIRE_TRANSACTION || !utf8_add(out, text, n))
		return E_INVALIDARG;
	*as = (struct slice){out->at, out->length};
	return S_OK;
}

/* enter begins a call; leave must follow when it succeeds. */
static HRESULT enter(struct policy *p, struct identity *was)
{
	HRESULT hr = identity_process(was);

	if (FAILED(hr))
		return hr;
	AcquireSRWLockShared(&p->use);
	if (p->ready)
		return S_OK;
	ReleaseSRWLockShared(&p->use);
	identity_restore(was);
	return HRESULT_FROM_WIN32(ERROR_NOT_READY);
}

static void leave(struct policy *p, struct identity *was)
{
	ReleaseSRWLockShared(&p->use);
	identity_restore(was);
}

static HRESULT STDMETHODCALLTYPE verify_request(NDESPolicy *self, NDES_BLOB *request, NDES_BLOB *signer, PCWSTR used_template, PCWSTR transaction, BOOL *verified)
{
	struct bytes template_text = {0}, transaction_text = {0};
	struct question q = {0};
	struct identity was;
	BOOL granted = FALSE;
	HRESULT hr;

	if (!verified)
		return E_POINTER;
	*verified = FALSE;
	hr = enter(of(self), &was);
	if (FAILED(hr))
		return hr;
	log_line(LOG_INFO, "Calling VerifyRequest ...");
	hr = read_blob(request, &q.csr);
	if (SUCCEEDED(hr) && q.csr.length == 0)
		hr = E_INVALIDARG;
	if (SUCCEEDED(hr))
		hr = read_blob(signer, &q.renewal);
	if (SUCCEEDED(hr))
		hr = read_wide(used_template, &template_text, &q.template);
	if (SUCCEEDED(hr))
		hr = read_wide(transaction, &transaction_text, &q.transaction);
	if (SUCCEEDED(hr) && q.transaction.length == 0)
		hr = E_INVALIDARG;
	if (SUCCEEDED(hr))
		hr = policy_ask(of(self), &q, &granted);
	else
		log_line(LOG_ERROR, "NDES asks about nothing that can be asked: request, certificate, template or transaction ID is missing or too large.");
	bytes_free(&template_text);
	bytes_free(&transaction_text);
	log_line(LOG_INFO, "Exiting VerifyRequest with 0x%lx", (unsigned long)hr);
	leave(of(self), &was);
	*verified = SUCCEEDED(hr) && granted;
	return hr;
}

/* read_outcome reads what NDES tells. S_FALSE: there is nothing to tell yet. */
static HRESULT read_outcome(int disposition, LONG last_hresult, const NDES_BLOB *certificate, struct outcome *o)
{
	HRESULT hr = read_blob(certificate, &o->certificate);

	if (FAILED(hr))
		return hr;
	o->hresult = last_hresult;
	switch (disposition) {
	case DISPOSITION_SUCCESS:
		return o->certificate.length > 0 ? S_OK : E_INVALIDARG;
	case DISPOSITION_FAILURE:
		o->certificate = (struct slice){NULL, 0};
		return S_OK;
	case DISPOSITION_PENDING:
	case DISPOSITION_PENDING_CHALLENGE:
		return S_FALSE;
	}
	return E_INVALIDARG;
}

/* The challenge is not looked at: the request that is remembered holds it. It
 * is null on a renewal. */
static HRESULT STDMETHODCALLTYPE notify(NDESPolicy *self, PCWSTR challenge, PCWSTR transaction, int disposition, LONG last_hresult, NDES_BLOB *certificate)
{
	struct bytes transaction_text = {0};
	struct outcome o = {0};
	struct identity was;
	HRESULT hr = enter(of(self), &was);

	(void)challenge;
	if (FAILED(hr))
		return hr;
	log_line(LOG_INFO, "Calling Notifyrequest ...");
	hr = read_wide(transaction, &transaction_text, &o.transaction);
	if (SUCCEEDED(hr) && o.transaction.length == 0)
		hr = E_INVALIDARG;
	if (SUCCEEDED(hr))
		hr = read_outcome(disposition, last_hresult, certificate, &o);
	if (hr == S_OK)
		hr = policy_tell(of(self), &o);
	else if (hr == S_FALSE)
		log_line(LOG_INFO, "The request is pending at the CA; there is nothing to tell yet.");
	else
		log_line(LOG_ERROR, "NDES tells nothing that can be told: disposition %d, or certificate or transaction ID is missing or too large.", disposition);
	if (hr == S_FALSE)
		hr = S_OK;
	bytes_free(&transaction_text);
	log_line(SUCCEEDED(hr) ? LOG_INFO : LOG_ERROR, "Exiting Notify with 0x%lx", (unsigned long)hr);
	leave(of(self), &was);
	return hr;
}

static const NDESPolicyVtbl methods = {query, add, drop, initialize, uninitialize, generate_challenge, verify_request, notify};

HRESULT policy_create(REFIID iid, void **object)
{
	struct policy *p = calloc(1, sizeof *p);
	HRESULT hr;

	if (!p)
		return E_OUTOFMEMORY;
	p->stop = CreateEventW(NULL, TRUE, FALSE, NULL);
	if (!p->stop) {
		free(p);
		return E_OUTOFMEMORY;
	}
	p->face.lpVtbl = &methods;
	p->references = 1;
	InitializeSRWLock(&p->use);
	InitializeSRWLock(&p->pending_lock);
	module_hold();
	hr = query(&p->face, iid, object);
	drop(&p->face);
	return hr;
}
