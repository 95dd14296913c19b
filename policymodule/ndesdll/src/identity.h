/* Whose rights a call uses. IIS may call a module while the thread acts for
 * the anonymous user; the client certificate's key and the log belong to the
 * application pool's account. */
#ifndef NDESPOLICY_IDENTITY_H
#define NDESPOLICY_IDENTITY_H

#include <windows.h>

struct identity {
	HANDLE token; /* of the thread, NULL when it acted for nobody */
};

/* identity_process makes the thread act as its process. */
HRESULT identity_process(struct identity *was);

/* identity_restore gives the thread back what it had. A thread that cannot
 * have it back would go on with more rights than it came with: the process
 * ends, as Windows' own RPC runtime does then. */
void identity_restore(struct identity *was);

#endif
