#include "privatefolder.h"

#include <aclapi.h>
#include <sddl.h>
#include <stdio.h>
#include <wchar.h>

/* process_user reads whom the process acts for. */
static BOOL process_user(BYTE *room, DWORD size, PSID *sid)
{
	HANDLE token;
	BOOL ok;

	if (!OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &token))
		return FALSE;
	ok = GetTokenInformation(token, TokenUser, room, size, &size);
	CloseHandle(token);
	*sid = ok ? ((TOKEN_USER *)(void *)room)->User.Sid : NULL;
	return ok;
}

static BOOL make(const wchar_t *path, PSID user)
{
	SECURITY_ATTRIBUTES attributes = {sizeof attributes, NULL, FALSE};
	wchar_t *text = NULL, sddl[512];
	BOOL ok = FALSE;
	DWORD error;

	if (!ConvertSidToStringSidW(user, &text))
		return FALSE;
	sddl[511] = 0;
	_snwprintf(sddl, 511, L"D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;FA;;;%ls)", text);
	LocalFree(text);
	if (!ConvertStringSecurityDescriptorToSecurityDescriptorW(sddl, SDDL_REVISION_1, &attributes.lpSecurityDescriptor, NULL))
		return FALSE;
	ok = CreateDirectoryW(path, &attributes);
	error = GetLastError();
	LocalFree(attributes.lpSecurityDescriptor);
	SetLastError(error);
	return ok;
}

static BOOL trusted(const wchar_t *path, PSID user)
{
	DWORD attributes = GetFileAttributesW(path);
	PSECURITY_DESCRIPTOR descriptor = NULL;
	PSID owner = NULL;
	BOOL ok;

	if (attributes == INVALID_FILE_ATTRIBUTES || !(attributes & FILE_ATTRIBUTE_DIRECTORY) || (attributes & FILE_ATTRIBUTE_REPARSE_POINT))
		return FALSE;
	if (GetNamedSecurityInfoW((wchar_t *)path, SE_FILE_OBJECT, OWNER_SECURITY_INFORMATION, &owner, NULL, NULL, NULL, &descriptor) != ERROR_SUCCESS)
		return FALSE;
	ok = owner && (EqualSid(owner, user) || IsWellKnownSid(owner, WinLocalSystemSid) || IsWellKnownSid(owner, WinBuiltinAdministratorsSid));
	LocalFree(descriptor);
	return ok;
}

BOOL private_folder(const wchar_t *path)
{
	BYTE room[sizeof(TOKEN_USER) + SECURITY_MAX_SID_SIZE] __attribute__((aligned(8)));
	PSID user;

	if (!process_user(room, sizeof room, &user))
		return FALSE;
	return make(path, user) || (GetLastError() == ERROR_ALREADY_EXISTS && trusted(path, user));
}
