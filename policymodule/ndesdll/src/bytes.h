/* A growing run of bytes with a limit. It is wiped when it is freed, for a
 * request carries its challenge. Portable. */
#ifndef NDESPOLICY_BYTES_H
#define NDESPOLICY_BYTES_H

#include <stddef.h>
#include <stdint.h>

struct bytes {
	uint8_t *at;
	size_t length;
	size_t room;
	size_t most; /* 0: BYTES_MOST */
	int failed;  /* out of memory or beyond the limit; stays so */
};

#define BYTES_MOST ((size_t)16 << 20)

/* bytes_add appends; it returns 0, and fails for good, when there is no room. */
int bytes_add(struct bytes *b, const void *from, size_t length);

/* bytes_text appends a text that ends in a NUL, without the NUL. */
int bytes_text(struct bytes *b, const char *text);

/* bytes_free wipes and frees; the run is empty and whole again. */
void bytes_free(struct bytes *b);

/* wipe overwrites memory in a way that no compiler leaves out. */
void wipe(void *at, size_t length);

#endif
