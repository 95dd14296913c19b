#include "bytes.h"

#include <stdlib.h>
#include <string.h>

void wipe(void *at, size_t length)
{
	volatile uint8_t *p = at;
	while (length-- > 0)
		*p++ = 0;
}

/* grow moves the run; realloc would leave a copy that nobody wipes. */
static int grow(struct bytes *b, size_t need)
{
	size_t most = b->most ? b->most : BYTES_MOST;
	size_t room = b->room ? b->room : 256;
	uint8_t *at;

	if (need > most)
		return 0;
	while (room < need)
		room *= 2;
	at = malloc(room);
	if (!at)
		return 0;
	if (b->at) {
		memcpy(at, b->at, b->length);
		wipe(b->at, b->room);
		free(b->at);
	}
	b->at = at;
	b->room = room;
	return 1;
}

int bytes_add(struct bytes *b, const void *from, size_t length)
{
	if (b->failed)
		return 0;
	if (length == 0)
		return 1;
	if (length > SIZE_MAX - b->length ||
	    (b->length + length > b->room && !grow(b, b->length + length))) {
		b->failed = 1;
		return 0;
	}
	memcpy(b->at + b->length, from, length);
	b->length += length;
	return 1;
}

int bytes_text(struct bytes *b, const char *text)
{
	return bytes_add(b, text, strlen(text));
}

void bytes_free(struct bytes *b)
{
	if (b->at) {
		wipe(b->at, b->room);
		free(b->at);
	}
	b->at = NULL;
	b->length = b->room = 0;
	b->failed = 0;
}
