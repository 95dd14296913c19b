#include "der.h"

#include <string.h>

enum { INTEGER = 0x02, SEQUENCE = 0x30, VERSION = 0xa0 };

/* next takes one element with this tag off the front of `from`: whole with its
 * header, inner without. */
static int next(struct slice *from, uint8_t tag, struct slice *whole,
		struct slice *inner)
{
	size_t header = 2, length;

	if (from->length < 2 || from->at[0] != tag)
		return 0;
	length = from->at[1];
	if (length >= 0x80) {
		size_t n = length & 0x7f;

		if (n == 0 || n > 4 || from->length < 2 + n || from->at[2] == 0)
			return 0;
		length = 0;
		for (size_t i = 0; i < n; i++)
			length = length << 8 | from->at[2 + i];
		if (length < 0x80)
			return 0;
		header += n;
	}
	if (length > from->length - header)
		return 0;
	*whole = (struct slice){from->at, header + length};
	*inner = (struct slice){from->at + header, length};
	from->at += header + length;
	from->length -= header + length;
	return 1;
}

/* opened returns the inside of the first element of a signed object. */
static int opened(const uint8_t *der, size_t length, struct slice *inside)
{
	struct slice all = {der, length}, whole, outer;

	return next(&all, SEQUENCE, &whole, &outer) && all.length == 0 &&
	       next(&outer, SEQUENCE, &whole, inside);
}

int request_key(const uint8_t *der, size_t length, struct slice *key)
{
	struct slice in, whole, inner;

	return opened(der, length, &in) &&
	       next(&in, INTEGER, &whole, &inner) &&  /* version */
	       next(&in, SEQUENCE, &whole, &inner) && /* subject */
	       next(&in, SEQUENCE, key, &inner);
}

int certificate_key(const uint8_t *der, size_t length, struct slice *serial,
		    struct slice *key)
{
	struct slice in, whole, inner;

	if (!opened(der, length, &in))
		return 0;
	if (in.length > 0 && in.at[0] == VERSION &&
	    !next(&in, VERSION, &whole, &inner))
		return 0;
	return next(&in, INTEGER, &whole, serial) &&
	       next(&in, SEQUENCE, &whole, &inner) && /* signature */
	       next(&in, SEQUENCE, &whole, &inner) && /* issuer */
	       next(&in, SEQUENCE, &whole, &inner) && /* validity */
	       next(&in, SEQUENCE, &whole, &inner) && /* subject */
	       next(&in, SEQUENCE, key, &inner);
}

int slice_equal(struct slice a, struct slice b)
{
	return a.length == b.length && memcmp(a.at, b.at, a.length) == 0;
}
