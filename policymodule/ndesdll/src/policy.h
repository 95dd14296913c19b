/* What one object holds, and the two questions it puts. */
#ifndef NDESPOLICY_POLICY_H
#define NDESPOLICY_POLICY_H

#include "config.h"
#include "http.h"
#include "ndespolicy.h"
#include "pending.h"

enum { BLOB_BYTES = 1 << 20 }; /* of a request or certificate */

struct policy {
	NDESPolicy face; /* first: a pointer to one is a pointer to the other */
	LONG references;

	/* Calls hold `use` shared, Initialize and Uninitialize exclusively, so
	 * that nothing is closed under a call. `stop` ends waits. */
	SRWLOCK use;
	HANDLE stop;
	BOOL ready;
	struct config config;
	struct http http;
	wchar_t folder[MAX_PATH]; /* of requests on disk; "": memory only */
	HANDLE worker;            /* tells what is owed; ends before http is closed */

	SRWLOCK pending_lock; /* guards pending */
	struct pending pending;
};

/* policy_ask asks for a verdict; verified is TRUE only when it is granted. */
HRESULT policy_ask(struct policy *p, const struct question *q, BOOL *verified);

/* policy_tell tells an outcome of which the request is looked up. */
HRESULT policy_tell(struct policy *p, struct outcome *o);

/* fate is what an answer means for an outcome that was told. */
enum fate {
	FATE_TAKEN,
	FATE_REFUSED,  /* for good; the connector revokes */
	FATE_LATER,    /* try again soon */
	FATE_MENDABLE, /* a wrong Url or client certificate: try again much later */
	FATE_HOPELESS
};

enum fate fate_of(const struct answer *a);

/* now_seconds is the time in seconds since 1970. */
int64_t now_seconds(void);

#endif
