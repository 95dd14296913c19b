#include "config.h"

#include <stdio.h>
#include <string.h>
#include <wchar.h>

#include "bytes.h"
#include "encoding.h"
#include "ndespolicy.h"

enum { TEXT = 2048 };

/* read_text reads a value; a value of several lines is joined by blanks. It
 * returns 0 when the value is absent, -1 when it is no text that fits. */
static int read_text(const wchar_t *key, const wchar_t *name, wchar_t *out,
		     DWORD units)
{
	DWORD size = (units - 2) * sizeof *out, type = 0, count;
	LSTATUS s;

	memset(out, 0, units * sizeof *out);
	s = RegGetValueW(HKEY_LOCAL_MACHINE, key, name,
			 RRF_RT_REG_SZ | RRF_RT_REG_MULTI_SZ, &type, out, &size);
	if (s == ERROR_FILE_NOT_FOUND)
		return 0;
	if (s != ERROR_SUCCESS) {
		memset(out, 0, units * sizeof *out);
		return -1;
	}
	count = size / sizeof *out;
	if (type == REG_MULTI_SZ)
		for (DWORD i = 0; i + 2 < count; i++)
			if (out[i] == 0)
				out[i] = L' ';
	return out[0] != 0;
}

static DWORD read_number(const wchar_t *name, DWORD absent, DWORD least, DWORD most)
{
	DWORD v = 0, size = sizeof v;
	LSTATUS s = RegGetValueW(HKEY_LOCAL_MACHINE, CONFIG_KEY, name,
				 RRF_RT_REG_DWORD, NULL, &v, &size);

	if (s == ERROR_FILE_NOT_FOUND)
		return absent;
	if (s == ERROR_SUCCESS && v >= least && v <= most)
		return v;
	log_line(LOG_WARNING, "Configuration: %ls is no DWORD from %lu to %lu; %lu is used.",
		 name, (unsigned long)least, (unsigned long)most, (unsigned long)absent);
	return absent;
}

void config_log(struct config *c)
{
	static const wchar_t usual[] = L"%ProgramData%\\certconnector\\ndespolicy\\ndespolicy.log";

	if (read_text(CONFIG_KEY, L"LogFile", c->log_file, MAX_PATH - 3) <= 0)
		ExpandEnvironmentStringsW(usual, c->log_file, MAX_PATH - 3);
	c->log_level = LOG_INFO;
	log_open(c->log_file, c->log_level);
	c->log_level = (enum log_level)read_number(L"LogLevel", LOG_INFO, LOG_ERROR, LOG_DEBUG);
	log_open(c->log_file, c->log_level);
}

/* read_name reads a short text as UTF-8. */
static int read_name(const wchar_t *key, const wchar_t *name, char *out)
{
	wchar_t text[TEXT];
	struct bytes utf8 = {.most = WIRE_NAME};
	int found = read_text(key, name, text, TEXT);

	out[0] = 0;
	if (found > 0 && utf8_add(&utf8, text, wcslen(text))) {
		memcpy(out, utf8.at, utf8.length);
		out[utf8.length] = 0;
	} else if (found != 0) {
		log_line(LOG_ERROR, "Configuration: %ls is no text of at most %d octets.", name, WIRE_NAME);
		found = -1;
	}
	bytes_free(&utf8);
	return found;
}

static int read_url(struct config *c)
{
	wchar_t text[TEXT];
	const char *wrong = "Url is missing; want https://host:port of the registration point";

	if (read_text(CONFIG_KEY, L"Url", text, TEXT) > 0)
		wrong = address_read(&c->address, text);
	if (wrong)
		log_line(LOG_ERROR, "Configuration: %s.", wrong);
	return wrong == NULL;
}

static int read_thumbprint(struct config *c)
{
	wchar_t text[TEXT];

	if (read_text(CONFIG_KEY, L"ClientCertThumbprint", text, TEXT) > 0 &&
	    hex_read(c->thumbprint, sizeof c->thumbprint, text))
		return 1;
	log_line(LOG_ERROR, "Configuration: ClientCertThumbprint is missing or not 40 hexadecimal digits; copy it from the certificate's details.");
	return 0;
}

/* read_pins reads pins that are parted by blanks, commas or semicolons. */
static int read_pins(struct config *c)
{
	wchar_t text[TEXT], *at = text, *state = NULL;
	int found = read_text(CONFIG_KEY, L"ServerPins", text, TEXT);

	c->pin_count = 0;
	if (found == 0)
		return 1;
	for (at = found > 0 ? wcstok_s(text, L" ,;", &state) : NULL; at; at = wcstok_s(NULL, L" ,;", &state)) {
		if (c->pin_count == CONFIG_PINS || !hex_read(c->pins[c->pin_count], 32, at))
			break;
		c->pin_count++;
	}
	if (at == NULL && c->pin_count > 0)
		return 1;
	/* An empty or unreadable list must not turn pinning off. */
	log_line(LOG_ERROR, "Configuration: ServerPins are not 1 to %d SHA-256 values of 64 hexadecimal digits; delete the value to go without.", CONFIG_PINS);
	return 0;
}

static int read_names(struct config *c)
{
	int ok = read_name(CONFIG_KEY, L"Tenant", c->tenant) >= 0;
	int found = read_name(CONFIG_KEY, L"Endpoint", c->endpoint);

	if (found == 0)
		log_line(LOG_ERROR, "Configuration: Endpoint is missing; want the name by which the registration point knows this NDES.");
	ok = ok && found > 0;
	found = read_name(CONFIG_KEY, L"IssuingCA", c->issuing_ca);
	if (found == 0)
		found = read_name(CAINFO_KEY, L"Configuration", c->issuing_ca);
	if (found == 0)
		log_line(LOG_ERROR, "Configuration: IssuingCA is missing and NDES names no CA (CAInfo, Configuration).");
	return ok && found > 0;
}

HRESULT config_read(struct config *c)
{
	int ok;

	memset(c, 0, sizeof *c);
	config_log(c);
	ok = read_url(c);
	ok &= read_names(c);
	ok &= read_thumbprint(c);
	ok &= read_pins(c);
	c->timeout = read_number(L"TimeoutMs", 30000, 1000, 600000);
	c->notify_timeout = read_number(L"NotifyTimeoutMs", 60000, 1000, 600000);
	c->check_revocation = read_number(L"CheckRevocation", 0, 0, 1) != 0;
	c->machine_proxy = read_number(L"UseMachineProxy", 0, 0, 1) != 0;
	return ok ? S_OK : HRESULT_FROM_WIN32(ERROR_BAD_CONFIGURATION);
}
