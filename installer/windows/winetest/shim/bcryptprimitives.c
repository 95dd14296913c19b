/*
 * Stands in for bcryptprimitives.dll on Wine before version 9, which has none:
 * Go's runtime asks it for random octets and ends without it. For tests only.
 */
#include <windows.h>

BOOLEAN NTAPI SystemFunction036(PVOID, ULONG); /* RtlGenRandom of advapi32 */

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE octets, SIZE_T count)
{
	while (count > 0) {
		ULONG part = count > 0x10000000 ? 0x10000000 : (ULONG)count;
		if (!SystemFunction036(octets, part))
			return FALSE;
		octets += part;
		count -= part;
	}
	return TRUE;
}
