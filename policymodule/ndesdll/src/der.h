/* As much of DER (X.690) as is needed to see that a certificate answers a
 * request: both hold the same SubjectPublicKeyInfo. Portable. */
#ifndef NDESPOLICY_DER_H
#define NDESPOLICY_DER_H

#include <stddef.h>
#include <stdint.h>

/* slice lies within the bytes it was found in. */
struct slice {
	const uint8_t *at;
	size_t length;
};

/* request_key finds the SubjectPublicKeyInfo of a PKCS #10 request (RFC 2986,
 * section 4). What stands behind the request is an error. */
int request_key(const uint8_t *der, size_t length, struct slice *key);

/* certificate_key finds serial number and SubjectPublicKeyInfo of a
 * certificate (RFC 5280, section 4.1). */
int certificate_key(const uint8_t *der, size_t length, struct slice *serial,
		    struct slice *key);

int slice_equal(struct slice a, struct slice b);

#endif
