/* The configuration: values of the registry key CONFIG_KEY, read at
 * Initialize. A change needs a restart of IIS, as NDES' own settings do. */
#ifndef NDESPOLICY_CONFIG_H
#define NDESPOLICY_CONFIG_H

#include <windows.h>

#include "address.h"
#include "log.h"
#include "wire.h"

enum { CONFIG_PINS = 8 };

struct config {
	struct address address;
	char tenant[WIRE_NAME + 1];
	char endpoint[WIRE_NAME + 1];
	char issuing_ca[WIRE_NAME + 1];
	BYTE thumbprint[20];
	BYTE pins[CONFIG_PINS][32]; /* SHA-256 of certificate or public key */
	size_t pin_count;
	DWORD timeout;        /* ms, for one question */
	DWORD notify_timeout; /* ms, for all attempts to tell one outcome */
	BOOL check_revocation;
	BOOL machine_proxy;
	wchar_t log_file[MAX_PATH];
	enum log_level log_level;
};

/* config_log reads only where lines go and opens the log. */
void config_log(struct config *c);

/* config_read reads everything and logs each mistake. On failure nothing in c
 * may be used. */
HRESULT config_read(struct config *c);

#endif
