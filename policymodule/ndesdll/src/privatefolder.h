/* A folder that only this account, the system and administrators may open. */
#ifndef NDESPOLICY_PRIVATEFOLDER_H
#define NDESPOLICY_PRIVATEFOLDER_H

#include <windows.h>

/* private_folder makes the folder, or sees that one that is there belongs to
 * somebody who may have made it: any user may make folders in ProgramData. */
BOOL private_folder(const wchar_t *path);

#endif
