/* The requests that were asked about and whose outcome is not told yet.
 * INDESPolicy::Notify names transaction and certificate but not the request,
 * which the registration point needs. Portable; the caller holds a lock. */
#ifndef NDESPOLICY_PENDING_H
#define NDESPOLICY_PENDING_H

#include "bytes.h"
#include "der.h"

enum {
	PENDING_ENTRIES = 4096,             /* the oldest goes first */
	PENDING_BYTES = 16 << 20,           /* of all requests together */
	PENDING_LIFE = 7 * 24 * 60 * 60     /* seconds: a CA manager may take days */
};

struct pending_entry {
	struct slice transaction; /* UTF-8 */
	struct slice csr;         /* DER */
	int64_t since;            /* seconds */
	int granted;
};

struct pending {
	struct pending_entry **entries; /* oldest first */
	size_t count;
	size_t bytes;
};

/* pending_keep remembers a copy. The same request of the same transaction is
 * renewed, not doubled. 0: out of memory. */
int pending_keep(struct pending *p, struct slice transaction, struct slice csr,
		 int granted, int64_t now);

/* pending_find returns the newest entry of a transaction, with a key the
 * newest whose request holds that key, or NULL. It is good until the next call. */
const struct pending_entry *pending_find(struct pending *p,
					 struct slice transaction,
					 const struct slice *key, int64_t now);

/* pending_forget drops one request. */
void pending_forget(struct pending *p, struct slice transaction,
		    struct slice csr);

void pending_free(struct pending *p);

#endif
