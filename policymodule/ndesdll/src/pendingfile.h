/* Granted requests on disk, so that a recycled application pool can still tell
 * what became of them. Each is a file of its own next to the log, sealed with
 * the machine's DPAPI key and bound to its transaction ID; the folder is open
 * to the application pool's account, the system and administrators only. */
#ifndef NDESPOLICY_PENDINGFILE_H
#define NDESPOLICY_PENDINGFILE_H

#include <windows.h>

#include "bytes.h"
#include "der.h"

/* pendingfile_open makes the folder next to the log and deletes what is too
 * old. folder becomes "" when it cannot be used: then memory must do. */
void pendingfile_open(const wchar_t *log_file, wchar_t folder[MAX_PATH]);

/* pendingfile_path makes the name of a file: of a transaction, and of one
 * request or of any. */
BOOL pendingfile_path(const wchar_t *folder, struct slice transaction, const struct slice *csr, const wchar_t *ending, wchar_t path[MAX_PATH]);

/* pendingfile_keep writes a request durably. A failure is logged, no more. */
void pendingfile_keep(const wchar_t *folder, struct slice transaction, struct slice csr);

/* pendingfile_find reads the newest request of a transaction, with a key the
 * newest that holds it. */
BOOL pendingfile_find(const wchar_t *folder, struct slice transaction, const struct slice *key, struct bytes *csr);

void pendingfile_forget(const wchar_t *folder, struct slice transaction, struct slice csr);

#endif
