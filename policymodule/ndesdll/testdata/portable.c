/* Drives the portable sources by lines of text, so that Go's own encoders can
 * judge them: a command and its words, octets as hexadecimal digits, "-" for
 * none. Each line is answered with one line. For tests only. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../src/address.h"
#include "../src/encoding.h"
#include "../src/json.h"
#include "../src/pending.h"
#include "../src/reasons.h"
#include "../src/wire.h"

enum { WORDS = 8, SEEDS = 64 };

static struct slice words[WORDS];
static int count;
static struct pending table;

static void print_hex(const uint8_t *at, size_t length)
{
	if (length == 0)
		printf("-");
	for (size_t i = 0; i < length; i++)
		printf("%02x", at[i]);
}

/* exact copies into memory of just that size, so that the sanitizer sees a
 * step beyond it. */
static uint8_t *exact(const uint8_t *from, size_t length)
{
	uint8_t *at = malloc(length ? length : 1);

	if (length)
		memcpy(at, from, length);
	return at;
}

static int nibble(char c)
{
	return c <= '9' ? c & 15 : ((c & 7) + 9) & 15;
}

static struct slice octets(const char *hex)
{
	size_t n = strcmp(hex, "-") == 0 ? 0 : strlen(hex) / 2;
	uint8_t *at = malloc(n ? n : 1);

	for (size_t i = 0; i < n; i++)
		at[i] = (uint8_t)(nibble(hex[2 * i]) << 4 | nibble(hex[2 * i + 1]));
	return (struct slice){at, n};
}

/* text16 makes UTF-16 of little endian octets, with a NUL. */
static uint16_t *text16(struct slice s)
{
	uint16_t *t = calloc(s.length / 2 + 1, sizeof *t);

	for (size_t i = 0; i < s.length / 2; i++)
		t[i] = (uint16_t)(s.at[2 * i] | s.at[2 * i + 1] << 8);
	return t;
}

static char *text8(struct slice s)
{
	char *t = calloc(s.length + 1, 1);

	memcpy(t, s.at, s.length);
	return t;
}

static void print_bytes(struct bytes *b, int ok)
{
	if (ok)
		print_hex(b->at, b->length);
	else
		printf("error");
	bytes_free(b);
}

static void do_json(void)
{
	char *name = text8(words[1]), value[64];
	enum json_found f = json_text(words[2].at, words[2].length, name, value, sizeof value);

	free(name);
	if (f == JSON_FOUND) {
		printf("found ");
		print_hex((uint8_t *)value, strlen(value));
	} else {
		printf(f == JSON_BAD ? "bad" : "absent");
	}
}

static void do_keys(void)
{
	struct slice serial = {0}, key;

	if (request_key(words[1].at, words[1].length, &key)) {
		printf("request ");
		print_hex(key.at, key.length);
	} else if (certificate_key(words[1].at, words[1].length, &serial, &key)) {
		printf("certificate ");
		print_hex(serial.at, serial.length);
		printf(" ");
		print_hex(key.at, key.length);
	} else {
		printf("error");
	}
}

static void do_body(int question)
{
	struct bytes out = {0};
	char *tenant = text8(words[1]), *endpoint = text8(words[2]), *ca = text8(words[6]);
	struct asker who = {tenant, endpoint, ca};
	int ok;

	if (question)
		ok = wire_question(&out, &who, &(struct question){words[3], words[4], words[5], words[7]});
	else
		ok = wire_outcome(&out, &who, &(struct outcome){words[3], words[4], words[5], (int32_t)0x80094800});
	free(tenant);
	free(endpoint);
	free(ca);
	print_bytes(&out, ok);
}

static void do_verdict(void)
{
	struct bytes body = {0};
	char rule[40];

	bytes_add(&body, words[1].at, words[1].length);
	printf("%d ", (int)wire_verdict(&body));
	wire_rule(&body, rule, sizeof rule);
	print_hex((uint8_t *)rule, strlen(rule));
	bytes_free(&body);
}

static void do_address(void)
{
	uint16_t *url = text16(words[1]);
	struct address a;
	const char *wrong = address_read(&a, url);

	free(url);
	if (wrong) {
		printf("error %s", wrong);
		return;
	}
	for (const uint16_t *h = a.host; *h; h++)
		putchar(*h);
	printf(" %u ", a.port);
	for (const uint16_t *b = a.base; *b; b++)
		putchar(*b);
}

static void do_text(const char *what)
{
	struct bytes out = {0};
	uint16_t *t = text16(words[1]);
	size_t n = words[1].length / 2;
	uint8_t twenty[20];
	char line[40];

	if (strcmp(what, "utf8") == 0) {
		print_bytes(&out, utf8_add(&out, t, n));
	} else if (strcmp(what, "hex20") == 0) {
		print_bytes(&out, hex_read(twenty, 20, t) && bytes_add(&out, twenty, 20));
	} else if (strcmp(what, "base64") == 0) {
		print_bytes(&out, base64_add(&out, words[1].at, words[1].length));
	} else {
		printable(line, sizeof line, words[1].at, words[1].length);
		printf("%s", line);
	}
	free(t);
}

static void do_reason(const char *number)
{
	uint32_t n = (uint32_t)strtoul(number, NULL, 0);
	char flags[300];

	secure_flags(flags, sizeof flags, n);
	printf("%s|%s|%s|%s", reason_of_error(n)->name, reason_of_error(n)->way_out, reason_of_status(n)->name, flags);
}

static void do_pending(const char *what, int64_t now)
{
	const struct pending_entry *e;
	int kept;

	if (strcmp(what, "keep") == 0) {
		kept = pending_keep(&table, words[1], words[2], words[3].length > 0, now);
		printf("%d %zu", kept, table.count);
	} else if (strcmp(what, "find") == 0) {
		e = pending_find(&table, words[1], words[2].length ? &words[2] : NULL, now);
		if (e)
			print_hex(e->csr.at, e->csr.length);
		else
			printf("none");
	} else {
		pending_forget(&table, words[1], words[2]);
		printf("%zu %zu", table.count, table.bytes);
	}
}

/* try gives octets to everything that reads a stranger's. */
static void try(const uint8_t *from, size_t length)
{
	uint8_t *at = exact(from, length);
	struct slice serial, key;
	struct address a;
	struct bytes out = {0}, body = {.at = at, .length = length};
	uint16_t *t = text16((struct slice){at, length});
	char value[32], line[40];
	uint8_t digest[32];

	if (request_key(at, length, &key))
		base64_add(&out, key.at, key.length);
	bytes_free(&out);
	if (certificate_key(at, length, &serial, &key)) {
		base64_add(&out, serial.at, serial.length);
		base64_add(&out, key.at, key.length);
	}
	bytes_free(&out);
	json_text(at, length, "verdict", value, sizeof value);
	wire_verdict(&body);
	wire_rule(&body, line, sizeof line);
	printable(line, sizeof line, at, length);
	address_read(&a, t);
	hex_read(digest, sizeof digest, t);
	utf8_add(&out, t, length / 2);
	bytes_free(&out);
	json_base64(&out, at, length);
	bytes_free(&out);
	free(t);
	free(at);
}

static uint32_t state;

static uint32_t roll(uint32_t below)
{
	state ^= state << 13;
	state ^= state >> 17;
	state ^= state << 5;
	return state % below;
}

/* fuzz mutates the seeds so many times. */
static void fuzz(struct slice *seeds, int seed_count, long rounds, uint32_t seed)
{
	state = seed | 1;
	for (long round = 0; round < rounds; round++) {
		struct slice s = seeds[roll((uint32_t)seed_count)];
		size_t n = roll(8) == 0 ? roll((uint32_t)s.length + 1) : s.length;
		uint8_t *at = exact(s.at, s.length);

		for (uint32_t i = roll(5); i > 0 && n > 0; i--) {
			uint8_t *o = at + roll((uint32_t)n);
			*o = roll(2) ? (uint8_t)roll(256) : (uint8_t)(*o ^ 1u << roll(8));
		}
		try(at, n);
		free(at);
	}
	printf("%ld", rounds);
}

static void call(char **w, struct slice *seeds, int *seed_count)
{
	if (strcmp(w[0], "json") == 0)
		do_json();
	else if (strcmp(w[0], "keys") == 0)
		do_keys();
	else if (strcmp(w[0], "question") == 0 || strcmp(w[0], "outcome") == 0)
		do_body(w[0][0] == 'q');
	else if (strcmp(w[0], "verdict") == 0)
		do_verdict();
	else if (strcmp(w[0], "address") == 0)
		do_address();
	else if (strcmp(w[0], "reason") == 0)
		do_reason(w[1]);
	else if (strcmp(w[0], "keep") == 0 || strcmp(w[0], "find") == 0 || strcmp(w[0], "forget") == 0)
		do_pending(w[0], atoll(w[4]));
	else if (strcmp(w[0], "fuzz") == 0)
		fuzz(seeds, *seed_count, atol(w[1]), (uint32_t)strtoul(w[2], NULL, 10));
	else if (strcmp(w[0], "seed") == 0 && *seed_count < SEEDS)
		seeds[(*seed_count)++] = octets(w[1]);
	else
		do_text(w[0]);
}

int main(void)
{
	static char line[1 << 20];
	static struct slice seeds[SEEDS];
	int seed_count = 0;

	while (fgets(line, sizeof line, stdin)) {
		static char none[] = "-";
		char *w[WORDS];

		count = 0;
		for (char *at = strtok(line, " \r\n"); at && count < WORDS; at = strtok(NULL, " \r\n"))
			w[count++] = at;
		for (int i = count; i < WORDS; i++)
			w[i] = none;
		for (int i = 0; i < WORDS; i++)
			words[i] = octets(w[i]);
		call(w, seeds, &seed_count);
		printf("\n");
		fflush(stdout);
		for (int i = 0; i < WORDS; i++)
			free((void *)words[i].at);
	}
	for (int i = 0; i < seed_count; i++)
		free((void *)seeds[i].at);
	pending_free(&table);
	return 0;
}
