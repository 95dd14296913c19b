/* The log file: lines of UTF-8, one rotation. It never fails a request. */
#ifndef NDESPOLICY_LOG_H
#define NDESPOLICY_LOG_H

#include <windows.h>

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG };

enum { LOG_BYTES = 5 << 20 }; /* then the file becomes <name>.1 */

/* log_open says where lines go from now on, and which. The file is opened for
 * each line, so that it may be moved or deleted at any time. */
void log_open(const wchar_t *path, enum log_level most);

/* log_line writes one line. No challenge, no request, no key may be in it, and
 * a stranger's text only after printable(). */
void log_line(enum log_level level, const char *format, ...)
	__attribute__((format(gnu_printf, 2, 3)));

/* make_parents makes the folders above a path. */
void make_parents(const wchar_t *path);

#endif
