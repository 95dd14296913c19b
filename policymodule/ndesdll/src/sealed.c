#include "sealed.h"

#include <stdio.h>
#include <wchar.h>
#include <wincrypt.h>

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

BOOL sealed_write(const wchar_t *path, struct slice bound, struct slice content)
{
	DATA_BLOB in = {(DWORD)content.length, (BYTE *)content.at}, out = {0, NULL};
	DATA_BLOB entropy = {(DWORD)bound.length, (BYTE *)bound.at};
	wchar_t writing[MAX_PATH];
	BOOL ok;

	/* Two threads may write one file at once. */
	writing[MAX_PATH - 1] = 0;
	_snwprintf(writing, MAX_PATH - 1, L"%ls.%lx", path, (unsigned long)GetCurrentThreadId());
	if (!CryptProtectData(&in, NULL, &entropy, NULL, NULL, CRYPTPROTECT_UI_FORBIDDEN | CRYPTPROTECT_LOCAL_MACHINE, &out))
		return FALSE;
	ok = write_file(writing, out.pbData, out.cbData) &&
	     MoveFileExW(writing, path, MOVEFILE_REPLACE_EXISTING | MOVEFILE_WRITE_THROUGH);
	LocalFree(out.pbData);
	return ok;
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

BOOL sealed_read(const wchar_t *path, struct slice bound, struct bytes *content)
{
	DATA_BLOB entropy = {(DWORD)bound.length, (BYTE *)bound.at}, in, out = {0, NULL};
	struct bytes sealed = {0};
	BOOL ok = FALSE;

	if (read_file(path, &sealed)) {
		in = (DATA_BLOB){(DWORD)sealed.length, sealed.at};
		ok = CryptUnprotectData(&in, NULL, &entropy, NULL, NULL, CRYPTPROTECT_UI_FORBIDDEN, &out);
	}
	if (ok) {
		ok = bytes_add(content, out.pbData, out.cbData);
		wipe(out.pbData, out.cbData);
		LocalFree(out.pbData);
	}
	bytes_free(&sealed);
	return ok;
}
