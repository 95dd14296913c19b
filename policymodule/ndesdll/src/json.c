#include "json.h"

#include <stdio.h>
#include <string.h>

#include "encoding.h"

int json_member(struct bytes *out, const char *name)
{
	int first = out->length > 0 && out->at[out->length - 1] == '{';

	return (first || bytes_text(out, ",")) &&
	       json_string(out, name, strlen(name)) && bytes_text(out, ":");
}

int json_string(struct bytes *out, const void *text, size_t length)
{
	const uint8_t *in = text;

	bytes_text(out, "\"");
	for (size_t i = 0; i < length; i++) {
		if (in[i] == '"' || in[i] == '\\') {
			bytes_text(out, "\\");
			bytes_add(out, in + i, 1);
		} else if (in[i] < 0x20 || in[i] == 0x7f) {
			char escape[8];
			snprintf(escape, sizeof escape, "\\u%04x", in[i]);
			bytes_text(out, escape);
		} else {
			bytes_add(out, in + i, 1);
		}
	}
	return bytes_text(out, "\"");
}

int json_base64(struct bytes *out, const uint8_t *from, size_t length)
{
	return bytes_text(out, "\"") && base64_add(out, from, length) &&
	       bytes_text(out, "\"");
}
