#include "pending.h"

#include <stdlib.h>
#include <string.h>

/* entry_new makes an entry and both its texts in one piece of memory. */
static struct pending_entry *entry_new(struct slice transaction,
				       struct slice csr, int granted,
				       int64_t now)
{
	struct pending_entry *e;
	uint8_t *text;

	e = malloc(sizeof *e + transaction.length + csr.length);
	if (!e)
		return NULL;
	text = (uint8_t *)(e + 1);
	memcpy(text, transaction.at, transaction.length);
	memcpy(text + transaction.length, csr.at, csr.length);
	e->transaction = (struct slice){text, transaction.length};
	e->csr = (struct slice){text + transaction.length, csr.length};
	e->since = now;
	e->granted = granted;
	return e;
}

static void drop(struct pending *p, size_t i)
{
	struct pending_entry *e = p->entries[i];

	p->bytes -= e->csr.length;
	p->count--;
	memmove(p->entries + i, p->entries + i + 1,
		(p->count - i) * sizeof *p->entries);
	wipe(e, sizeof *e + e->transaction.length + e->csr.length);
	free(e);
}

static void drop_old(struct pending *p, int64_t now)
{
	while (p->count > 0 && now - p->entries[0]->since >= PENDING_LIFE)
		drop(p, 0);
}

int pending_keep(struct pending *p, struct slice transaction, struct slice csr,
		 int granted, int64_t now)
{
	struct pending_entry *e;

	if (!p->entries)
		p->entries = calloc(PENDING_ENTRIES, sizeof *p->entries);
	if (!p->entries || csr.length > PENDING_BYTES)
		return 0;
	e = entry_new(transaction, csr, granted, now);
	if (!e)
		return 0;
	pending_forget(p, transaction, csr);
	drop_old(p, now);
	while (p->count == PENDING_ENTRIES ||
	       (p->count > 0 && p->bytes > PENDING_BYTES - csr.length))
		drop(p, 0);
	p->entries[p->count++] = e;
	p->bytes += csr.length;
	return 1;
}

const struct pending_entry *pending_find(struct pending *p,
					 struct slice transaction,
					 const struct slice *key, int64_t now)
{
	drop_old(p, now);
	for (size_t i = p->count; i-- > 0;) {
		struct pending_entry *e = p->entries[i];
		struct slice own;

		if (!slice_equal(e->transaction, transaction))
			continue;
		if (!key || (request_key(e->csr.at, e->csr.length, &own) &&
			     slice_equal(own, *key)))
			return e;
	}
	return NULL;
}

void pending_forget(struct pending *p, struct slice transaction,
		    struct slice csr)
{
	for (size_t i = p->count; i-- > 0;)
		if (slice_equal(p->entries[i]->transaction, transaction) &&
		    slice_equal(p->entries[i]->csr, csr))
			drop(p, i);
}

void pending_free(struct pending *p)
{
	while (p->count > 0)
		drop(p, p->count - 1);
	free(p->entries);
	p->entries = NULL;
}
