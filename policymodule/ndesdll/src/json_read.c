#include <string.h>

#include "json.h"

#define DEEPEST 16

/* reader walks over the text once. Strings go into `value` when it is set. */
struct reader {
	const uint8_t *at, *end;
	char *value;
	size_t room, length;
	int fits;
};

static int any(struct reader *r, int depth);

static void blanks(struct reader *r)
{
	while (r->at < r->end && (*r->at == ' ' || *r->at == '\t' ||
				  *r->at == '\n' || *r->at == '\r'))
		r->at++;
}

static int take(struct reader *r, uint8_t c)
{
	blanks(r);
	if (r->at == r->end || *r->at != c)
		return 0;
	r->at++;
	return 1;
}

static void put(struct reader *r, uint8_t c)
{
	if (!r->value)
		return;
	/* A NUL would end the value early. */
	if (r->length + 1 >= r->room || c == 0) {
		r->fits = 0;
		return;
	}
	r->value[r->length++] = (char)c;
}

static int four_digits(struct reader *r, uint32_t *out)
{
	uint32_t v = 0;

	if (r->end - r->at < 4)
		return 0;
	for (int i = 0; i < 4; i++) {
		uint8_t c = *r->at++;
		if (c >= '0' && c <= '9')
			v = v << 4 | (uint32_t)(c - '0');
		else if ((c | 32) >= 'a' && (c | 32) <= 'f')
			v = v << 4 | (uint32_t)((c | 32) - 'a' + 10);
		else
			return 0;
	}
	*out = v;
	return 1;
}

static int escaped_unit(struct reader *r)
{
	uint32_t c, low;

	if (!four_digits(r, &c))
		return 0;
	if (c >= 0xdc00 && c < 0xe000)
		return 0;
	if (c >= 0xd800 && c < 0xdc00) {
		if (r->end - r->at < 6 || r->at[0] != '\\' || r->at[1] != 'u')
			return 0;
		r->at += 2;
		if (!four_digits(r, &low) || low < 0xdc00 || low >= 0xe000)
			return 0;
		c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
	}
	if (c < 0x80) {
		put(r, (uint8_t)c);
		return 1;
	}
	if (c >= 0x10000) {
		put(r, (uint8_t)(0xf0 | c >> 18));
		put(r, (uint8_t)(0x80 | (c >> 12 & 63)));
	} else if (c >= 0x800) {
		put(r, (uint8_t)(0xe0 | c >> 12));
	} else {
		put(r, (uint8_t)(0xc0 | c >> 6));
	}
	if (c >= 0x800)
		put(r, (uint8_t)(0x80 | (c >> 6 & 63)));
	put(r, (uint8_t)(0x80 | (c & 63)));
	return 1;
}

static int escape(struct reader *r)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	const char *found;
	uint8_t c;

	if (r->at == r->end)
		return 0;
	c = *r->at++;
	if (c == 'u')
		return escaped_unit(r);
	found = c ? strchr(from, c) : NULL;
	if (!found)
		return 0;
	put(r, (uint8_t)to[found - from]);
	return 1;
}

static int string(struct reader *r)
{
	r->length = 0;
	r->fits = 1;
	if (!take(r, '"'))
		return 0;
	while (r->at < r->end) {
		uint8_t c = *r->at++;

		if (c == '"')
			return 1;
		if (c < 0x20)
			return 0;
		if (c != '\\')
			put(r, c);
		else if (!escape(r))
			return 0;
	}
	return 0;
}

static int digits(struct reader *r)
{
	const uint8_t *from = r->at;

	while (r->at < r->end && *r->at >= '0' && *r->at <= '9')
		r->at++;
	return r->at > from;
}

static int number(struct reader *r)
{
	int zero;

	if (r->at < r->end && *r->at == '-')
		r->at++;
	zero = r->at < r->end && *r->at == '0';
	if (zero)
		r->at++;
	else if (!digits(r))
		return 0;
	if (r->at < r->end && *r->at == '.') {
		r->at++;
		if (!digits(r))
			return 0;
	}
	if (r->at < r->end && (*r->at | 32) == 'e') {
		r->at++;
		if (r->at < r->end && (*r->at == '+' || *r->at == '-'))
			r->at++;
		return digits(r);
	}
	return 1;
}

static int word(struct reader *r, const char *w)
{
	size_t n = strlen(w);

	if ((size_t)(r->end - r->at) < n || memcmp(r->at, w, n) != 0)
		return 0;
	r->at += n;
	return 1;
}

static int array(struct reader *r, int depth)
{
	if (!take(r, '['))
		return 0;
	if (take(r, ']'))
		return 1;
	do {
		if (!any(r, depth))
			return 0;
	} while (take(r, ','));
	return take(r, ']');
}

static int object(struct reader *r, int depth)
{
	if (!take(r, '{'))
		return 0;
	if (take(r, '}'))
		return 1;
	do {
		if (!string(r) || !take(r, ':') || !any(r, depth))
			return 0;
	} while (take(r, ','));
	return take(r, '}');
}

/* any passes over one value. Whether a string fits matters to no one here. */
static int any(struct reader *r, int depth)
{
	blanks(r);
	if (r->at == r->end || depth == DEEPEST)
		return 0;
	switch (*r->at) {
	case '{':
		return object(r, depth + 1);
	case '[':
		return array(r, depth + 1);
	case '"':
		return string(r);
	case 't':
		return word(r, "true");
	case 'f':
		return word(r, "false");
	case 'n':
		return word(r, "null");
	}
	return number(r);
}

/* member reads one member. When it is the one that is looked for, its string
 * goes into value. */
static int member(struct reader *r, const char *name, char *value, size_t room,
		  enum json_found *found)
{
	char key[64];
	int is, ok;

	r->value = key;
	r->room = sizeof key;
	if (!string(r))
		return 0;
	is = r->fits && r->length == strlen(name) &&
	     memcmp(key, name, r->length) == 0;
	r->value = NULL;
	if (!take(r, ':'))
		return 0;
	if (!is)
		return any(r, 1);
	if (*found != JSON_ABSENT)
		return 0;
	blanks(r);
	if (word(r, "null"))
		return 1;
	r->value = value;
	r->room = room;
	ok = string(r) && r->fits;
	r->value = NULL;
	if (ok) {
		value[r->length] = 0;
		*found = JSON_FOUND;
	}
	return ok;
}

enum json_found json_text(const void *text, size_t length, const char *name,
			  char *value, size_t room)
{
	struct reader r = {.at = text, .end = (const uint8_t *)text + length};
	enum json_found found = JSON_ABSENT;

	if (room == 0 || !take(&r, '{'))
		return JSON_BAD;
	value[0] = 0;
	if (!take(&r, '}')) {
		do {
			if (!member(&r, name, value, room, &found))
				return JSON_BAD;
		} while (take(&r, ','));
		if (!take(&r, '}'))
			return JSON_BAD;
	}
	blanks(&r);
	return r.at == r.end ? found : JSON_BAD;
}
