#include "pendingfile.h"

#include <stdio.h>
#include <string.h>
#include <wchar.h>

#include "encoding.h"
#include "http.h"
#include "privatefolder.h"
#include "log.h"
#include "pending.h"

enum { SEALED_BYTES = 1100 << 10, NAME = 2 * 16 };

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

static BOOL path_of(const wchar_t *folder, struct slice transaction, const struct slice *csr, const wchar_t *ending, wchar_t path[MAX_PATH])
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

static BOOL write_file(const wchar_t *path, const BYTE *from, DWORD length)
{
	HANDLE h = CreateFileW(path, GENERIC_WRITE, 0, NULL, CREATE_ALWAYS, FILE_ATTRIBUTE_NORMAL, NULL);
	DWORD n = 0;
	BOOL ok;

	if (h == INVALID_HANDLE_VALUE)
		return FALSE;
	ok = WriteFile(h, from, length, &n, NULL) && n == length && FlushFileBuffers(h);
	return CloseHandle(h) && ok;
}

void pendingfile_keep(const wchar_t *folder, struct slice transaction, struct slice csr)
{
	DATA_BLOB in = {(DWORD)csr.length, (BYTE *)csr.at}, out = {0, NULL};
	DATA_BLOB entropy = {(DWORD)transaction.length, (BYTE *)transaction.at};
	wchar_t path[MAX_PATH], writing[MAX_PATH], half[16];
	BOOL ok;

	/* Two threads may keep one request at once. */
	_snwprintf(half, 16, L"%lx.tmp", (unsigned long)GetCurrentThreadId());
	ok = path_of(folder, transaction, &csr, L"bin", path) && path_of(folder, transaction, &csr, half, writing) &&
	     CryptProtectData(&in, NULL, &entropy, NULL, NULL, CRYPTPROTECT_UI_FORBIDDEN | CRYPTPROTECT_LOCAL_MACHINE, &out);
	if (ok) {
		ok = write_file(writing, out.pbData, out.cbData) &&
		     MoveFileExW(writing, path, MOVEFILE_REPLACE_EXISTING | MOVEFILE_WRITE_THROUGH);
		LocalFree(out.pbData);
	}
	if (!ok)
		log_line(LOG_WARNING, "The request cannot be kept on disk: error %lu.", (unsigned long)GetLastError());
}

static BOOL read_file(const wchar_t *path, struct bytes *out)
{
	HANDLE h = CreateFileW(path, GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_DELETE, NULL, OPEN_EXISTING, FILE_ATTRIBUTE_NORMAL, NULL);
	BYTE part[4096];
	DWORD n = 0;
	BOOL ok;

	out->most = SEALED_BYTES;
	if (h == INVALID_HANDLE_VALUE)
		return FALSE;
	do
		ok = ReadFile(h, part, sizeof part, &n, NULL) && bytes_add(out, part, n);
	while (ok && n > 0);
	CloseHandle(h);
	return ok;
}

/* unseal reads a request and sees that it holds the key. */
static BOOL unseal(const wchar_t *path, struct slice transaction, const struct slice *key, struct bytes *csr)
{
	DATA_BLOB entropy = {(DWORD)transaction.length, (BYTE *)transaction.at}, in, out = {0, NULL};
	struct bytes sealed = {0};
	struct slice own;
	BOOL ok = FALSE;

	if (read_file(path, &sealed)) {
		in = (DATA_BLOB){(DWORD)sealed.length, sealed.at};
		ok = CryptUnprotectData(&in, NULL, &entropy, NULL, NULL, CRYPTPROTECT_UI_FORBIDDEN, &out);
	}
	if (ok) {
		ok = !key || (request_key(out.pbData, out.cbData, &own) && slice_equal(own, *key));
		ok = ok && bytes_add(csr, out.pbData, out.cbData);
		wipe(out.pbData, out.cbData);
		LocalFree(out.pbData);
	}
	bytes_free(&sealed);
	return ok;
}

BOOL pendingfile_find(const wchar_t *folder, struct slice transaction, const struct slice *key, struct bytes *csr)
{
	wchar_t pattern[MAX_PATH], path[MAX_PATH];
	FILETIME newest = {0, 0};
	WIN32_FIND_DATAW found;
	BOOL any = FALSE;
	HANDLE h;

	if (!path_of(folder, transaction, NULL, L"bin", pattern))
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

	if (path_of(folder, transaction, &csr, L"bin", path))
		DeleteFileW(path);
}
