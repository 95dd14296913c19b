/* POST to the registration point over mutual TLS, with WinHTTP. */
#ifndef NDESPOLICY_HTTP_H
#define NDESPOLICY_HTTP_H

#include <windows.h>
#include <wincrypt.h>
#include <winhttp.h>

#include "bytes.h"
#include "config.h"

enum { HTTP_ANSWER = 64 << 10 }; /* octets of an answer that are read */

/* http is one configured caller. It may be used by many threads. */
struct http {
	HINTERNET session, connection;
	PCCERT_CONTEXT certificate;
	const struct config *config;
};

struct answer {
	DWORD status;
	DWORD retry_after; /* ms; 0: the server named none */
	struct bytes body;
};

/* http_open finds the client certificate and makes a session. c outlives it. */
HRESULT http_open(struct http *h, const struct config *c);

/* http_post sends JSON and reads the answer, whatever its status, within so
 * many ms. Failures are logged with a way out. */
HRESULT http_post(struct http *h, const char *method, const struct bytes *body,
		  DWORD within, struct answer *a);

void http_close(struct http *h);

/* find_certificate finds a certificate in LocalMachine\MY by its SHA-1. */
HRESULT find_certificate(const BYTE thumbprint[20], PCCERT_CONTEXT *found);

/* check_pins compares the server's certificate with the pins, if there are. */
HRESULT check_pins(HINTERNET request, const struct config *c);

/* sha256 digests octets. */
BOOL sha256(const BYTE *from, size_t length, BYTE digest[32]);

#endif
