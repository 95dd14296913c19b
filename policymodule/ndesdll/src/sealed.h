/* Files sealed with the machine's DPAPI key, so that any worker process of this
 * machine can read them, under whatever account. */
#ifndef NDESPOLICY_SEALED_H
#define NDESPOLICY_SEALED_H

#include <windows.h>

#include "bytes.h"
#include "der.h"

enum { SEALED_BYTES = 4 << 20 };

/* sealed_write writes durably and in one step. Who reads must know `bound`. */
BOOL sealed_write(const wchar_t *path, struct slice bound, struct slice content);

BOOL sealed_read(const wchar_t *path, struct slice bound, struct bytes *content);

#endif
