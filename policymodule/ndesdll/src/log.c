#include "log.h"

#include <stdarg.h>
#include <stdio.h>
#include <wchar.h>

static SRWLOCK lock = SRWLOCK_INIT;
static wchar_t file[MAX_PATH];
static enum log_level most = LOG_INFO;

void make_parents(const wchar_t *path)
{
	wchar_t folder[MAX_PATH];

	for (size_t i = 0; path[i] && i + 1 < MAX_PATH; i++) {
		if (path[i] == L'\\' && i > 2) {
			folder[i] = 0;
			CreateDirectoryW(folder, NULL);
		}
		folder[i] = path[i];
	}
}

void log_open(const wchar_t *path, enum log_level level)
{
	AcquireSRWLockExclusive(&lock);
	_snwprintf(file, MAX_PATH, L"%ls", path);
	file[MAX_PATH - 1] = 0;
	most = level;
	make_parents(file);
	ReleaseSRWLockExclusive(&lock);
}

/* rotate moves a full file away; another process may have done so already. */
static void rotate(void)
{
	WIN32_FILE_ATTRIBUTE_DATA facts;
	wchar_t old[MAX_PATH + 2];

	if (!GetFileAttributesExW(file, GetFileExInfoStandard, &facts) ||
	    (facts.nFileSizeHigh == 0 && facts.nFileSizeLow < LOG_BYTES))
		return;
	_snwprintf(old, MAX_PATH + 2, L"%ls.1", file);
	old[MAX_PATH + 1] = 0;
	MoveFileExW(file, old, MOVEFILE_REPLACE_EXISTING);
}

static void write_line(const char *line, DWORD length)
{
	DWORD written;
	HANDLE h;

	rotate();
	h = CreateFileW(file, FILE_APPEND_DATA,
			FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE,
			NULL, OPEN_ALWAYS, FILE_ATTRIBUTE_NORMAL, NULL);
	if (h == INVALID_HANDLE_VALUE) {
		OutputDebugStringA(line);
		return;
	}
	WriteFile(h, line, length, &written, NULL);
	CloseHandle(h);
}

void log_line(enum log_level level, const char *format, ...)
{
	static const char *const names[] = {"ERROR", "WARN ", "INFO ", "DEBUG"};
	DWORD error = GetLastError();
	char line[1024];
	SYSTEMTIME t;
	va_list args;
	int n, m;

	GetSystemTime(&t);
	n = snprintf(line, sizeof line,
		     "%04u-%02u-%02uT%02u:%02u:%02u.%03uZ [%lu:%lu] %s ",
		     t.wYear, t.wMonth, t.wDay, t.wHour, t.wMinute, t.wSecond,
		     t.wMilliseconds, (unsigned long)GetCurrentProcessId(),
		     (unsigned long)GetCurrentThreadId(), names[level]);
	va_start(args, format);
	m = vsnprintf(line + n, sizeof line - (size_t)n - 2, format, args);
	va_end(args);
	n = m < 0 || n + m > (int)sizeof line - 3 ? (int)sizeof line - 3 : n + m;
	line[n++] = '\r';
	line[n++] = '\n';
	line[n] = 0;
	AcquireSRWLockExclusive(&lock);
	if (level <= most && file[0])
		write_line(line, (DWORD)n);
	ReleaseSRWLockExclusive(&lock);
	SetLastError(error);
}
