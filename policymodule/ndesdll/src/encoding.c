#include "encoding.h"

#include <string.h>

int base64_add(struct bytes *out, const uint8_t *from, size_t length)
{
	static const char digits[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	size_t i;

	for (i = 0; i < length; i += 3) {
		size_t rest = length - i;
		uint32_t v = (uint32_t)from[i] << 16;
		char four[4];

		if (rest > 1)
			v |= (uint32_t)from[i + 1] << 8;
		if (rest > 2)
			v |= from[i + 2];
		four[0] = digits[v >> 18];
		four[1] = digits[v >> 12 & 63];
		four[2] = rest > 1 ? digits[v >> 6 & 63] : '=';
		four[3] = rest > 2 ? digits[v & 63] : '=';
		if (!bytes_add(out, four, sizeof four))
			return 0;
	}
	return !out->failed;
}

size_t utf16_length(const uint16_t *text, size_t most)
{
	size_t n = 0;

	while (n <= most && text[n] != 0)
		n++;
	return n;
}

static int code_point_add(struct bytes *out, uint32_t c)
{
	uint8_t o[4];
	size_t n;

	if (c < 0x80) {
		o[0] = (uint8_t)c;
		n = 1;
	} else if (c < 0x800) {
		o[0] = (uint8_t)(0xc0 | c >> 6);
		n = 2;
	} else if (c < 0x10000) {
		o[0] = (uint8_t)(0xe0 | c >> 12);
		n = 3;
	} else {
		o[0] = (uint8_t)(0xf0 | c >> 18);
		n = 4;
	}
	for (size_t i = 1; i < n; i++)
		o[i] = (uint8_t)(0x80 | (c >> (6 * (n - 1 - i)) & 63));
	return bytes_add(out, o, n);
}

int utf8_add(struct bytes *out, const uint16_t *text, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		uint32_t c = text[i];

		if (c >= 0xd800 && c < 0xe000) {
			if (c >= 0xdc00 || i + 1 == length ||
			    text[i + 1] < 0xdc00 || text[i + 1] >= 0xe000)
				return 0;
			c = 0x10000 + ((c - 0xd800) << 10) + (text[++i] - 0xdc00u);
		}
		if (!code_point_add(out, c))
			return 0;
	}
	return !out->failed;
}

static int hex_digit(uint16_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

static int passed_over(uint16_t c)
{
	return c == ' ' || c == '\t' || c == ':' || c == 0x00a0 ||
	       c == 0x200e || c == 0x200f || c == 0xfeff;
}

int hex_read(uint8_t *out, size_t want, const uint16_t *text)
{
	size_t n = 0;

	for (; *text; text++) {
		int d = hex_digit(*text);

		if (d < 0 && passed_over(*text))
			continue;
		if (d < 0 || n == 2 * want)
			return 0;
		if (n % 2 == 0)
			out[n / 2] = (uint8_t)(d << 4);
		else
			out[n / 2] |= (uint8_t)d;
		n++;
	}
	return n == 2 * want;
}

void hex_write(char *out, const uint8_t *from, size_t length)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < length; i++) {
		*out++ = digits[from[i] >> 4];
		*out++ = digits[from[i] & 15];
	}
	*out = 0;
}

void printable(char *out, size_t room, const void *from, size_t length)
{
	const uint8_t *in = from;
	size_t n = length < room ? length : room - 4;

	for (size_t i = 0; i < n; i++)
		out[i] = in[i] >= 0x20 && in[i] < 0x7f ? (char)in[i] : '?';
	if (n < length) {
		memcpy(out + n, "...", 3);
		n += 3;
	}
	out[n] = 0;
}
