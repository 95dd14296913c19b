/* regsvr32: the class, its names, and NDES' one policy module. The DLL is for
 * 64-bit Windows only, as NDES is. */
#include <wchar.h>
#include <olectl.h>

#include "config.h"
#include "ndespolicy.h"

#define CLASSES L"SOFTWARE\\Classes\\"
#define CLASS_KEY CLASSES L"CLSID\\" CLASS_TEXT

static LSTATUS set(const wchar_t *key, const wchar_t *name, const wchar_t *value)
{
	return RegSetKeyValueW(HKEY_LOCAL_MACHINE, key, name, REG_SZ, value,
			       (DWORD)((wcslen(value) + 1) * sizeof *value));
}

enum owner { NOBODY, OURS, ANOTHER };

/* registered tells whose policy module NDES loads. */
static enum owner registered(void)
{
	wchar_t text[256];
	DWORD size = sizeof text;
	LSTATUS s = RegGetValueW(HKEY_LOCAL_MACHINE, MODULES_KEY, L"Policy",
				 RRF_RT_REG_SZ, NULL, text, &size);

	if (s == ERROR_FILE_NOT_FOUND || (s == ERROR_SUCCESS && text[0] == 0))
		return NOBODY;
	if (s == ERROR_SUCCESS && (_wcsicmp(text, PROGID_TEXT) == 0 || _wcsicmp(text, PROGID_ANY) == 0))
		return OURS;
	return ANOTHER;
}

static LSTATUS register_class(const wchar_t *path)
{
	static const struct {
		const wchar_t *key, *name, *value;
	} rows[] = {
		{CLASS_KEY, NULL, CLASS_NAME},
		{CLASS_KEY L"\\InprocServer32", L"ThreadingModel", L"Both"},
		{CLASS_KEY L"\\ProgID", NULL, PROGID_TEXT},
		{CLASS_KEY L"\\VersionIndependentProgID", NULL, PROGID_ANY},
		{CLASSES PROGID_TEXT, NULL, CLASS_NAME},
		{CLASSES PROGID_TEXT L"\\CLSID", NULL, CLASS_TEXT},
		{CLASSES PROGID_ANY, NULL, CLASS_NAME},
		{CLASSES PROGID_ANY L"\\CLSID", NULL, CLASS_TEXT},
		{CLASSES PROGID_ANY L"\\CurVer", NULL, PROGID_TEXT},
	};
	LSTATUS s = set(CLASS_KEY L"\\InprocServer32", NULL, path);

	for (size_t i = 0; i < sizeof rows / sizeof *rows && s == ERROR_SUCCESS; i++)
		s = set(rows[i].key, rows[i].name, rows[i].value);
	return s;
}

static LSTATUS unregister_class(void)
{
	static const wchar_t *const keys[] = {CLASSES PROGID_ANY, CLASSES PROGID_TEXT, CLASS_KEY};
	LSTATUS worst = ERROR_SUCCESS;

	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
		LSTATUS s = RegDeleteTreeW(HKEY_LOCAL_MACHINE, keys[i]);
		if (s != ERROR_SUCCESS && s != ERROR_FILE_NOT_FOUND)
			worst = s;
	}
	return worst;
}

/* Another module stays: NDES has one, and who asks it must decide. */
STDAPI DllRegisterServer(void)
{
	wchar_t path[MAX_PATH];
	struct config c;
	DWORD n = GetModuleFileNameW(module_instance, path, MAX_PATH);
	LSTATUS s;

	config_log(&c);
	if (n == 0 || n == MAX_PATH)
		return HRESULT_FROM_WIN32(ERROR_BAD_PATHNAME);
	if (registered() == ANOTHER) {
		log_line(LOG_ERROR, "Not registered: NDES has another policy module. Unregister that one first, then delete the value Policy under MSCEP\\Modules.");
		return HRESULT_FROM_WIN32(ERROR_ALREADY_ASSIGNED);
	}
	s = register_class(path);
	if (s == ERROR_SUCCESS)
		s = set(MODULES_KEY, L"Policy", PROGID_TEXT);
	if (s != ERROR_SUCCESS) {
		log_line(LOG_ERROR, "Not registered: error %ld. Run regsvr32 as an administrator.", (long)s);
		if (registered() != OURS)
			unregister_class();
		return HRESULT_FROM_WIN32((DWORD)s);
	}
	log_line(LOG_INFO, "Registered as NDES' policy module. Restart IIS.");
	return S_OK;
}

/* The configuration stays, as the log does: it is the operator's. */
STDAPI DllUnregisterServer(void)
{
	struct config c;
	LSTATUS s = ERROR_SUCCESS, t;

	config_log(&c);
	if (registered() == OURS)
		s = RegDeleteKeyValueW(HKEY_LOCAL_MACHINE, MODULES_KEY, L"Policy");
	t = unregister_class();
	if (s == ERROR_SUCCESS)
		s = t;
	if (s != ERROR_SUCCESS) {
		log_line(LOG_ERROR, "Not unregistered: error %ld. Run regsvr32 as an administrator.", (long)s);
		return HRESULT_FROM_WIN32((DWORD)s);
	}
	log_line(LOG_INFO, "Unregistered. Restart IIS.");
	return S_OK;
}
