#include <winsock2.h>

#include "http.h"

#include <string.h>

#include "encoding.h"
#include "reasons.h"

/* Older headers lack the flag of TLS 1.3; older Windows lacks TLS 1.3. */
#ifndef WINHTTP_FLAG_SECURE_PROTOCOL_TLS1_3
#define WINHTTP_FLAG_SECURE_PROTOCOL_TLS1_3 0x00002000
#endif

static HRESULT last_error(const char *doing)
{
	DWORD error = GetLastError();
	const struct reason *r;

	if (error == WSAETIMEDOUT) /* the socket's own timeout came first */
		error = ERROR_WINHTTP_TIMEOUT;
	r = reason_of_error(error);
	log_line(LOG_ERROR, "%s Error %lu (%s): %s.", doing, (unsigned long)error, r->name, r->way_out);
	return error ? HRESULT_FROM_WIN32(error) : E_FAIL;
}

static BOOL set_number(HINTERNET h, DWORD option, DWORD value)
{
	return WinHttpSetOption(h, option, &value, sizeof value);
}

/* seen is called while a request is sent; it says why TLS failed. */
static void CALLBACK seen(HINTERNET h, DWORD_PTR context, DWORD status, LPVOID info, DWORD length)
{
	char names[512];

	(void)h;
	(void)context;
	if (status != WINHTTP_CALLBACK_STATUS_SECURE_FAILURE || !info || length < sizeof(DWORD))
		return;
	secure_flags(names, sizeof names, *(const DWORD *)info);
	log_line(LOG_ERROR, "The server's certificate is refused: %s.", names);
}

HRESULT http_open(struct http *h, const struct config *c)
{
	HRESULT hr;

	memset(h, 0, sizeof *h);
	h->config = c;
	hr = find_certificate(c->thumbprint, &h->certificate);
	if (FAILED(hr))
		return hr;
	h->session = WinHttpOpen(L"certconnector-ndespolicy/1",
				 c->machine_proxy ? WINHTTP_ACCESS_TYPE_DEFAULT_PROXY : WINHTTP_ACCESS_TYPE_NO_PROXY,
				 WINHTTP_NO_PROXY_NAME, WINHTTP_NO_PROXY_BYPASS, 0);
	if (!h->session)
		goto failed;
	if (!set_number(h->session, WINHTTP_OPTION_SECURE_PROTOCOLS,
			WINHTTP_FLAG_SECURE_PROTOCOL_TLS1_2 | WINHTTP_FLAG_SECURE_PROTOCOL_TLS1_3) &&
	    !set_number(h->session, WINHTTP_OPTION_SECURE_PROTOCOLS, WINHTTP_FLAG_SECURE_PROTOCOL_TLS1_2))
		goto failed;
	WinHttpSetStatusCallback(h->session, seen, WINHTTP_CALLBACK_FLAG_SECURE_FAILURE, 0);
	h->connection = WinHttpConnect(h->session, (const wchar_t *)c->address.host, c->address.port, 0);
	if (h->connection)
		return S_OK;
failed:
	hr = last_error("WinHTTP cannot be used.");
	http_close(h);
	return hr;
}

void http_close(struct http *h)
{
	if (h->connection)
		WinHttpCloseHandle(h->connection);
	if (h->session)
		WinHttpCloseHandle(h->session);
	if (h->certificate)
		CertFreeCertificateContext(h->certificate);
	memset(h, 0, sizeof *h);
}

/* prepare makes a request and switches off all that WinHTTP would do of its
 * own accord: following redirects, logging on, keeping cookies. */
static HINTERNET prepare(struct http *h, const char *method, DWORD within)
{
	wchar_t path[sizeof h->config->address.base / 2 + 128];
	size_t n = 0;
	HINTERNET r;

	for (const uint16_t *b = h->config->address.base; *b; b++)
		path[n++] = *b;
	for (const char *m = method; *m; m++)
		path[n++] = (wchar_t)*m;
	path[n] = 0;
	r = WinHttpOpenRequest(h->connection, L"POST", path, NULL, WINHTTP_NO_REFERER,
			       WINHTTP_DEFAULT_ACCEPT_TYPES, WINHTTP_FLAG_SECURE);
	if (!r)
		return NULL;
	/* Some Windows versions lack these two; the total is watched besides. */
	set_number(r, WINHTTP_OPTION_RECEIVE_RESPONSE_TIMEOUT, within);
	set_number(r, WINHTTP_OPTION_MAX_RESPONSE_HEADER_SIZE, 16 << 10);
	if (WinHttpSetTimeouts(r, (int)within, (int)within, (int)within, (int)within) &&
	    set_number(r, WINHTTP_OPTION_DISABLE_FEATURE,
		       WINHTTP_DISABLE_REDIRECTS | WINHTTP_DISABLE_COOKIES | WINHTTP_DISABLE_AUTHENTICATION) &&
	    set_number(r, WINHTTP_OPTION_AUTOLOGON_POLICY, WINHTTP_AUTOLOGON_SECURITY_LEVEL_HIGH) &&
	    (!h->config->check_revocation ||
	     set_number(r, WINHTTP_OPTION_ENABLE_FEATURE, WINHTTP_ENABLE_SSL_REVOCATION)) &&
	    WinHttpSetOption(r, WINHTTP_OPTION_CLIENT_CERT_CONTEXT, (void *)h->certificate, sizeof(CERT_CONTEXT)))
		return r;
	WinHttpCloseHandle(r);
	return NULL;
}

static DWORD header_number(HINTERNET r, DWORD which)
{
	DWORD v = 0, size = sizeof v;

	return WinHttpQueryHeaders(r, which | WINHTTP_QUERY_FLAG_NUMBER, WINHTTP_HEADER_NAME_BY_INDEX,
				   &v, &size, WINHTTP_NO_HEADER_INDEX) ? v : 0;
}

/* read_body reads at most HTTP_ANSWER octets before the deadline. */
static HRESULT read_body(HINTERNET r, ULONGLONG deadline, struct bytes *body)
{
	BYTE part[4096];
	DWORD n;

	body->most = HTTP_ANSWER;
	for (;;) {
		if (GetTickCount64() > deadline) {
			SetLastError(ERROR_WINHTTP_TIMEOUT);
			return last_error("The answer takes too long.");
		}
		if (!WinHttpReadData(r, part, sizeof part, &n))
			return last_error("Failed to read the answer.");
		if (n == 0)
			return S_OK;
		if (!bytes_add(body, part, n)) {
			SetLastError(ERROR_WINHTTP_INVALID_SERVER_RESPONSE);
			return last_error("The answer is too long.");
		}
	}
}

/* exchange sends the headers first: with them the TLS handshake is done, and
 * a server that is not pinned gets no byte of the request. */
static HRESULT exchange(HINTERNET r, const struct config *c, const struct bytes *body,
			ULONGLONG deadline, struct answer *a)
{
	static const wchar_t headers[] = L"Content-Type: application/json\r\nAccept: application/json\r\n";
	ULONGLONG now;
	HRESULT hr;
	DWORD n;

	if (!WinHttpSendRequest(r, headers, (DWORD)-1L, WINHTTP_NO_REQUEST_DATA, 0, (DWORD)body->length, 0))
		return last_error("Failed to send http request.");
	hr = check_pins(r, c);
	if (FAILED(hr))
		return hr;
	if (!WinHttpWriteData(r, body->at, (DWORD)body->length, &n) || n != body->length)
		return last_error("Failed to send the body of the http request.");
	now = GetTickCount64();
	n = now < deadline ? (DWORD)(deadline - now) : 1;
	set_number(r, WINHTTP_OPTION_RECEIVE_RESPONSE_TIMEOUT, n);
	set_number(r, WINHTTP_OPTION_RECEIVE_TIMEOUT, n);
	if (!WinHttpReceiveResponse(r, NULL))
		return last_error("Failed to receive the http response.");
	a->status = header_number(r, WINHTTP_QUERY_STATUS_CODE);
	n = header_number(r, WINHTTP_QUERY_RETRY_AFTER);
	a->retry_after = n < 3600 ? n * 1000 : 3600000;
	return read_body(r, deadline, &a->body);
}

HRESULT http_post(struct http *h, const char *method, const struct bytes *body, DWORD within, struct answer *a)
{
	ULONGLONG deadline = GetTickCount64() + within;
	HINTERNET r = prepare(h, method, within);
	HRESULT hr;

	memset(a, 0, sizeof *a);
	if (!r)
		return last_error("The http request cannot be made.");
	hr = exchange(r, h->config, body, deadline, a);
	WinHttpCloseHandle(r);
	if (FAILED(hr))
		bytes_free(&a->body);
	return hr;
}
