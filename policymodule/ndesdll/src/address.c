#include "address.h"

#include <string.h>

static int is_host(uint16_t c, int bracket)
{
	if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') ||
	    (c >= 'A' && c <= 'F') || c == '.')
		return 1;
	if (bracket)
		return c == ':';
	return (c >= 'g' && c <= 'z') || (c >= 'G' && c <= 'Z') || c == '-';
}

static int is_path(uint16_t c)
{
	return c > 0x20 && c < 0x7f && !strchr("?#\\\"<>^`{|}", c);
}

static const uint16_t *scheme(const uint16_t *url)
{
	static const char want[] = "https://";

	for (const char *w = want; *w; w++, url++) {
		uint16_t c = *url;
		if (c >= 'A' && c <= 'Z')
			c = (uint16_t)(c + 32);
		if (c != (uint8_t)*w)
			return NULL;
	}
	return url;
}

const char *address_read(struct address *a, const uint16_t *url)
{
	size_t n = 0;
	uint32_t port = 443;
	int bracket;

	memset(a, 0, sizeof *a);
	url = scheme(url);
	if (!url)
		return "Url must begin with https://";
	bracket = *url == '[';
	if (bracket)
		url++;
	while (n + 1 < sizeof a->host / sizeof *a->host && is_host(*url, bracket))
		a->host[n++] = *url++;
	if (n == 0 || (bracket && *url++ != ']'))
		return "Url names no host; want https://host or https://host:port";
	if (*url == ':') {
		port = 0;
		while (*++url >= '0' && *url <= '9' && port <= 0xffff)
			port = 10 * port + (uint32_t)(*url - '0');
		if (port == 0 || port > 0xffff)
			return "Url has a port that is none; want 1 to 65535";
	}
	if (*url != 0 && *url != '/')
		return "Url has characters that no host name has";
	for (n = 0; is_path(*url); url++) {
		if (n + 1 == sizeof a->base / sizeof *a->base)
			return "Url is too long";
		a->base[n++] = *url;
	}
	if (*url != 0)
		return "Url has a query, a fragment or characters that must be escaped";
	while (n > 0 && a->base[n - 1] == '/')
		a->base[--n] = 0;
	a->port = (uint16_t)port;
	return NULL;
}
