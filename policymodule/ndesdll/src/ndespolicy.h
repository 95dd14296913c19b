/* INDESPolicy as Microsoft Learn documents it (certpol.h, which mingw-w64
 * lacks), and the names this class is registered by. */
#ifndef NDESPOLICY_NDESPOLICY_H
#define NDESPOLICY_NDESPOLICY_H

#include <windows.h>
#include <objbase.h>

#define MODULES_KEY L"SOFTWARE\\Microsoft\\Cryptography\\MSCEP\\Modules"
#define CONFIG_KEY MODULES_KEY L"\\CertConnectorPolicy"
#define CAINFO_KEY L"SOFTWARE\\Microsoft\\Cryptography\\MSCEP\\CAInfo"

#define CLASS_TEXT L"{5A0D7C1E-93F4-4B8E-A6B2-71C64D2E9F03}"
#define CLASS_NAME L"certconnector policy module for NDES"
#define PROGID_TEXT L"certconnector.NDESPolicy.1"
#define PROGID_ANY L"certconnector.NDESPolicy"

extern const GUID CLSID_CertConnectorPolicy;
extern const GUID IID_NDESPolicy;

typedef struct {
	ULONG cb;
	BYTE *pb;
} NDES_BLOB; /* CERTTRANSBLOB */

/* X509SCEPDisposition */
enum {
	DISPOSITION_UNKNOWN = -1,
	DISPOSITION_SUCCESS = 0,
	DISPOSITION_FAILURE = 2,
	DISPOSITION_PENDING = 3,
	DISPOSITION_PENDING_CHALLENGE = 11
};

typedef struct NDESPolicy NDESPolicy;

typedef struct {
	HRESULT(STDMETHODCALLTYPE *QueryInterface)(NDESPolicy *, REFIID, void **);
	ULONG(STDMETHODCALLTYPE *AddRef)(NDESPolicy *);
	ULONG(STDMETHODCALLTYPE *Release)(NDESPolicy *);
	HRESULT(STDMETHODCALLTYPE *Initialize)(NDESPolicy *);
	HRESULT(STDMETHODCALLTYPE *Uninitialize)(NDESPolicy *);
	HRESULT(STDMETHODCALLTYPE *GenerateChallenge)(NDESPolicy *, PCWSTR wanted_template, PCWSTR params, PWSTR *challenge);
	HRESULT(STDMETHODCALLTYPE *VerifyRequest)(NDESPolicy *, NDES_BLOB *request, NDES_BLOB *signer, PCWSTR used_template, PCWSTR transaction, BOOL *verified);
	HRESULT(STDMETHODCALLTYPE *Notify)(NDESPolicy *, PCWSTR challenge, PCWSTR transaction, int disposition, LONG last_hresult, NDES_BLOB *certificate);
} NDESPolicyVtbl;

struct NDESPolicy {
	const NDESPolicyVtbl *lpVtbl;
};

/* module_instance is this DLL; module_hold counts what keeps it loaded. */
extern HINSTANCE module_instance;
void module_hold(void);
void module_release(void);

/* policy_create makes an object with one reference. */
HRESULT policy_create(REFIID iid, void **object);

#endif
