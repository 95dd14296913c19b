/* Base64 (RFC 4648, section 4), UTF-16 to UTF-8, hexadecimal digits, and text
 * of a stranger made fit for a log. Portable. */
#ifndef NDESPOLICY_ENCODING_H
#define NDESPOLICY_ENCODING_H

#include "bytes.h"

/* base64_add appends the padded base64 of some bytes, without line ends. */
int base64_add(struct bytes *out, const uint8_t *from, size_t length);

/* utf16_length counts the units before the NUL; most + 1 when there are more
 * than most, without looking at them. */
size_t utf16_length(const uint16_t *text, size_t most);

/* utf8_add appends the UTF-8 of UTF-16. A surrogate without its partner is an
 * error: two different texts must not become one. */
int utf8_add(struct bytes *out, const uint16_t *text, size_t length);

/* hex_read reads exactly `want` octets of hexadecimal digits. Blanks, colons
 * and the invisible marks that Windows' certificate dialog puts in front of a
 * thumbprint are passed over. */
int hex_read(uint8_t *out, size_t want, const uint16_t *text);

/* hex_write writes 2 * length digits and a NUL. */
void hex_write(char *out, const uint8_t *from, size_t length);

/* printable copies a text for a log: what is no printable ASCII becomes "?",
 * what does not fit is cut off with "...". room is 8 or more. */
void printable(char *out, size_t room, const void *from, size_t length);

#endif
