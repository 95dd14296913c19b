#include "owed.h"

#include <stdio.h>
#include <wchar.h>

#include "pendingfile.h"
#include "sealed.h"

enum { PAUSE = 60 * 1000, LONGEST = 60 * 60 * 1000 }; /* ms between two rounds */

/* Nobody knows the transaction of a file that is found. */
static const struct slice bound = {(const uint8_t *)"owed", 4};

BOOL owed_keep(struct policy *p, const struct outcome *o, const struct bytes *body)
{
	wchar_t path[MAX_PATH];

	return p->folder[0] && pendingfile_path(p->folder, o->transaction, &o->csr, L"owed", path) &&
	       sealed_write(path, bound, (struct slice){body->at, body->length});
}

void owed_forget(struct policy *p, const struct outcome *o)
{
	wchar_t path[MAX_PATH];

	if (p->folder[0] && pendingfile_path(p->folder, o->transaction, &o->csr, L"owed", path))
		DeleteFileW(path);
}

/* tell tells what one file holds. FALSE: it is still owed. */
static BOOL tell(struct policy *p, const wchar_t *path)
{
	struct bytes body = {0};
	struct answer a = {0};
	enum fate fate;
	BOOL done = FALSE;

	if (!sealed_read(path, bound, &body)) {
		bytes_free(&body);
		return FALSE;
	}
	if (SUCCEEDED(http_post(&p->http, WIRE_NOTIFY, &body, p->config.timeout, &a))) {
		fate = fate_of(&a);
		done = fate != FATE_LATER && fate != FATE_MENDABLE;
		log_line(fate == FATE_TAKEN ? LOG_INFO : LOG_ERROR, "An outcome that was owed: the registration point answers with status %lu; %s.",
			 (unsigned long)a.status, fate == FATE_TAKEN ? "it is told" :
			 fate == FATE_REFUSED ? "it is refused for good, and the connector has a certificate that it refuses revoked" :
			 done ? "it will not be taken" : "it is still owed");
	}
	bytes_free(&a.body);
	bytes_free(&body);
	if (done)
		DeleteFileW(path);
	return done;
}

/* round tells what is owed, until told to stop. It returns how many were
 * taken; one that is not taken does not hold up the others. */
static int round_of(struct policy *p)
{
	wchar_t path[MAX_PATH];
	WIN32_FIND_DATAW found;
	HANDLE h;
	int taken = 0;

	path[MAX_PATH - 1] = 0;
	_snwprintf(path, MAX_PATH - 1, L"%ls\\*.owed", p->folder);
	h = FindFirstFileW(path, &found);
	if (h == INVALID_HANDLE_VALUE)
		return 0;
	do {
		_snwprintf(path, MAX_PATH - 1, L"%ls\\%ls", p->folder, found.cFileName);
		taken += tell(p, path);
	} while (WaitForSingleObject(p->stop, 0) == WAIT_TIMEOUT && FindNextFileW(h, &found));
	FindClose(h);
	return taken;
}

static DWORD WINAPI work(void *arg)
{
	struct policy *p = arg;
	DWORD pause = 0, next = PAUSE;

	while (WaitForSingleObject(p->stop, pause) == WAIT_TIMEOUT) {
		next = round_of(p) > 0 || next > LONGEST / 2 ? PAUSE : next;
		pause = next;
		next *= 2;
	}
	return 0;
}

void owed_start(struct policy *p)
{
	if (!p->folder[0])
		return;
	p->worker = CreateThread(NULL, 0, work, p, 0, NULL);
	if (!p->worker)
		log_line(LOG_WARNING, "What is owed is not told: error %lu.", (unsigned long)GetLastError());
}

void owed_stop(struct policy *p)
{
	if (!p->worker)
		return;
	SetEvent(p->stop);
	WaitForSingleObject(p->worker, INFINITE);
	CloseHandle(p->worker);
	p->worker = NULL;
}
