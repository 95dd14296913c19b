/* As much of JSON (RFC 8259) as the registration point's body needs: an object
 * is written member by member, and a string is read from an object. Portable. */
#ifndef NDESPOLICY_JSON_H
#define NDESPOLICY_JSON_H

#include "bytes.h"

/* json_member begins a member: the comma unless it is the first, name, colon. */
int json_member(struct bytes *out, const char *name);

/* json_string writes UTF-8 as a string. Octets that are no UTF-8 are the
 * caller's mistake; they are written as they are. */
int json_string(struct bytes *out, const void *text, size_t length);

/* json_base64 writes the base64 of some bytes as a string. */
int json_base64(struct bytes *out, const uint8_t *from, size_t length);

enum json_found {
	JSON_BAD = -1,   /* no JSON object, the member twice, no string, or too long */
	JSON_ABSENT = 0, /* or null */
	JSON_FOUND = 1
};

/* json_text finds a string among the members of the outermost object. The
 * whole text must be JSON, at most 16 levels deep. value gets a NUL. */
enum json_found json_text(const void *text, size_t length, const char *name,
			  char *value, size_t room);

#endif
