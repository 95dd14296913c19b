/* The registration point's address as it stands in the registry. Portable. */
#ifndef NDESPOLICY_ADDRESS_H
#define NDESPOLICY_ADDRESS_H

#include <stddef.h>
#include <stdint.h>

struct address {
	uint16_t host[256];
	uint16_t base[512]; /* path before the methods', without a slash at its end */
	uint16_t port;
};

/* address_read reads "https://host[:port][/base]". It returns NULL, or what is
 * wrong and how to mend it. */
const char *address_read(struct address *a, const uint16_t *url);

#endif
