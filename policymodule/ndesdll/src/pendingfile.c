#include "pendingfile.h"

#include <stdio.h>
#include <string.h>
#include <wchar.h>

#include "encoding.h"
#include "http.h"
#include "log.h"
#include "pending.h"
#include "privatefolder.h"
#include "sealed.h"

enum { NAME = 2 * 16 };

/* name_half is half of a file's name: digits of a digest, for a transaction ID
 * may hold anything. */
static BOOL name_half(struct slice of, wchar_t out[NAME + 1])
{
	char text[NAME + 1];
	BYTE digest[32];

	if (!sha256(of.at, of.length, digest))
		return FALSE;
	hex_write(text, digest, 16);
	for (int i = 0; i <= NAME; i++)
		out[i] = (wchar_t)text[i];
	return TRUE;
}

BOOL pendingfile_path(const wchar_t *folder, struct slice transaction, const struct slice *csr, const wchar_t *ending, wchar_t path[MAX_PATH])
{
	wchar_t first[NAME + 1], second[NAME + 1] = L"*";

	if (!name_half(transaction, first) || (csr && !name_half(*csr, second)))
		return FALSE;
	path[MAX_PATH - 1] = 0;
	_snwprintf(path, MAX_PATH, L"%ls\\%ls-%ls.%ls", folder, first, second, ending);
	return path[MAX_PATH - 1] == 0;
}

/* age is how many seconds ago a file was written. */
static LONGLONG age(const FILETIME *written)
{
	FILETIME now;
	ULARGE_INTEGER a, b;

	GetSystemTimeAsFileTime(&now);
	a.LowPart = now.dwLowDateTime;
	a.HighPart = now.dwHighDateTime;
	b.LowPart = written->dwLowDateTime;
	b.HighPart = written->dwHighDateTime;
	return (LONGLONG)(a.QuadPart - b.QuadPart) / 10000000;
}

static void delete_old(const wchar_t *folder)
{
	wchar_t path[MAX_PATH];
	WIN32_FIND_DATAW found;
	HANDLE h;

	path[MAX_PATH - 1] = 0;
	_snwprintf(path, MAX_PATH - 1, L"%ls\\*", folder);
	h = FindFirstFileW(path, &found);
	if (h == INVALID_HANDLE_VALUE)
		return;
	do {
		if ((found.dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY) || age(&found.ftLastWriteTime) < PENDING_LIFE)
			continue;
		_snwprintf(path, MAX_PATH - 1, L"%ls\\%ls", folder, found.cFileName);
		if (wcsstr(found.cFileName, L".owed"))
			log_line(LOG_ERROR, "An outcome that was owed for 7 days is given up.");
		DeleteFileW(path);
	} while (FindNextFileW(h, &found));
	FindClose(h);
}

void pendingfile_open(const wchar_t *log_file, wchar_t folder[MAX_PATH])
{
	const wchar_t *end = wcsrchr(log_file, L'\\');
	/* A file's name, its ending and two separators must fit behind it. */
	size_t most = MAX_PATH - 2 * NAME - 8 - 8;

	folder[0] = 0;
	if (end && (size_t)(end - log_file) < most) {
		_snwprintf(folder, MAX_PATH, L"%.*ls\\pending", (int)(end - log_file), log_file);
		if (!private_folder(folder))
			folder[0] = 0;
	}
	if (folder[0])
		delete_old(folder);
	else
		log_line(LOG_WARNING, "The folder pending next to the log cannot be used; outcomes of requests that are under way while the application pool restarts cannot be told.");
}

void pendingfile_keep(const wchar_t *folder, struct slice transaction, struct slice csr)
{
	wchar_t path[MAX_PATH];

	if (!pendingfile_path(folder, transaction, &csr, L"bin", path) || !sealed_write(path, transaction, csr))
		log_line(LOG_WARNING, "The request cannot be kept on disk: error %lu.", (unsigned long)GetLastError());
}

/* unseal reads a request and sees that it holds the key. */
static BOOL unseal(const wchar_t *path, struct slice transaction, const struct slice *key, struct bytes *csr)
{
	struct slice own;

	return sealed_read(path, transaction, csr) &&
	       (!key || (request_key(csr->at, csr->length, &own) && slice_equal(own, *key)));
}

BOOL pendingfile_find(const wchar_t *folder, struct slice transaction, const struct slice *key, struct bytes *csr)
{
	wchar_t pattern[MAX_PATH], path[MAX_PATH];
	FILETIME newest = {0, 0};
	WIN32_FIND_DATAW found;
	BOOL any = FALSE;
	HANDLE h;

	if (!pendingfile_path(folder, transaction, NULL, L"bin", pattern))
		return FALSE;
	h = FindFirstFileW(pattern, &found);
	if (h == INVALID_HANDLE_VALUE)
		return FALSE;
	do {
		struct bytes one = {0};

		path[MAX_PATH - 1] = 0;
		_snwprintf(path, MAX_PATH - 1, L"%ls\\%ls", folder, found.cFileName);
		if ((any && CompareFileTime(&found.ftLastWriteTime, &newest) <= 0) || !unseal(path, transaction, key, &one)) {
			bytes_free(&one);
			continue;
		}
		bytes_free(csr);
		*csr = one;
		newest = found.ftLastWriteTime;
		any = TRUE;
	} while (FindNextFileW(h, &found));
	FindClose(h);
	return any;
}

void pendingfile_forget(const wchar_t *folder, struct slice transaction, struct slice csr)
{
	wchar_t path[MAX_PATH];

	if (pendingfile_path(folder, transaction, &csr, L"bin", path))
		DeleteFileW(path);
}
