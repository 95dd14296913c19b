/* Outcomes that the registration point did not take in time. NDES tells each
 * once, so they are kept on disk and told again until they are taken. */
#ifndef NDESPOLICY_OWED_H
#define NDESPOLICY_OWED_H

#include "policy.h"

/* owed_keep writes the body of a notification to disk. */
BOOL owed_keep(struct policy *p, const struct outcome *o, const struct bytes *body);

/* owed_forget deletes it: it was taken after all. */
void owed_forget(struct policy *p, const struct outcome *o);

/* owed_start starts the thread that tells what is owed; owed_stop ends it, and
 * waits at most for one attempt. */
void owed_start(struct policy *p);
void owed_stop(struct policy *p);

#endif
