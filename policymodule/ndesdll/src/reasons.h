/* What error numbers mean and what to do about them. Portable. */
#ifndef NDESPOLICY_REASONS_H
#define NDESPOLICY_REASONS_H

#include <stddef.h>
#include <stdint.h>

/* reason is one row: a number, its name in Microsoft's headers, a way out. */
struct reason {
	uint32_t number;
	const char *name;
	const char *way_out;
};

/* reason_of_error finds a WinHTTP or Windows error; never NULL. */
const struct reason *reason_of_error(uint32_t error);

/* reason_of_status finds an HTTP status of the registration point. */
const struct reason *reason_of_status(uint32_t status);

/* secure_flags writes the names of WINHTTP_CALLBACK_STATUS_FLAG_... bits. */
void secure_flags(char *out, size_t room, uint32_t flags);

#endif
