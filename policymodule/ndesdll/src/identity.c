#include "identity.h"

#include "log.h"

HRESULT identity_process(struct identity *was)
{
	DWORD error;

	was->token = NULL;
	if (!OpenThreadToken(GetCurrentThread(), TOKEN_IMPERSONATE | TOKEN_QUERY,
			     TRUE, &was->token)) {
		error = GetLastError();
		was->token = NULL;
		return error == ERROR_NO_TOKEN ? S_OK : HRESULT_FROM_WIN32(error);
	}
	if (RevertToSelf())
		return S_OK;
	error = GetLastError();
	CloseHandle(was->token);
	was->token = NULL;
	return HRESULT_FROM_WIN32(error);
}

void identity_restore(struct identity *was)
{
	BOOL restored;

	if (!was->token)
		return;
	restored = SetThreadToken(NULL, was->token);
	CloseHandle(was->token);
	was->token = NULL;
	if (!restored) {
		log_line(LOG_ERROR, "The thread cannot act for its user again: error %lu. The process ends.",
			 (unsigned long)GetLastError());
		TerminateProcess(GetCurrentProcess(), ERROR_CANNOT_IMPERSONATE);
	}
}
