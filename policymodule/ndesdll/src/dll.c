/* The DLL and its class factory. */
#include <initguid.h>

#include "ndespolicy.h"

DEFINE_GUID(CLSID_CertConnectorPolicy, 0x5A0D7C1E, 0x93F4, 0x4B8E, 0xA6, 0xB2, 0x71, 0xC6, 0x4D, 0x2E, 0x9F, 0x03);
DEFINE_GUID(IID_NDESPolicy, 0x13CA515D, 0x431D, 0x46CC, 0x8C, 0x2E, 0x1D, 0xA2, 0x69, 0xBB, 0xD6, 0x25);

HINSTANCE module_instance;
static LONG held;

void module_hold(void) { InterlockedIncrement(&held); }
void module_release(void) { InterlockedDecrement(&held); }

static HRESULT STDMETHODCALLTYPE factory_query(IClassFactory *self, REFIID iid, void **out)
{
	if (!out)
		return E_POINTER;
	*out = NULL;
	if (!iid || (!IsEqualIID(iid, &IID_IUnknown) && !IsEqualIID(iid, &IID_IClassFactory)))
		return E_NOINTERFACE;
	module_hold();
	*out = self;
	return S_OK;
}

/* The factory is one and lives as long as the DLL; its references only keep
 * the DLL loaded. */
static ULONG STDMETHODCALLTYPE factory_add(IClassFactory *self)
{
	(void)self;
	module_hold();
	return 2;
}

static ULONG STDMETHODCALLTYPE factory_drop(IClassFactory *self)
{
	(void)self;
	module_release();
	return 1;
}

static HRESULT STDMETHODCALLTYPE factory_create(IClassFactory *self, IUnknown *outer, REFIID iid, void **out)
{
	(void)self;
	if (!out)
		return E_POINTER;
	*out = NULL;
	if (outer)
		return CLASS_E_NOAGGREGATION;
	return policy_create(iid, out);
}

static HRESULT STDMETHODCALLTYPE factory_lock(IClassFactory *self, BOOL on)
{
	(void)self;
	if (on)
		module_hold();
	else
		module_release();
	return S_OK;
}

static IClassFactoryVtbl factory_methods = {factory_query, factory_add, factory_drop, factory_create, factory_lock};
static IClassFactory factory = {&factory_methods};

STDAPI DllGetClassObject(REFCLSID class_id, REFIID iid, void **out)
{
	if (!out)
		return E_POINTER;
	*out = NULL;
	if (!class_id || !IsEqualCLSID(class_id, &CLSID_CertConnectorPolicy))
		return CLASS_E_CLASSNOTAVAILABLE;
	return factory_query(&factory, iid, out);
}

STDAPI DllCanUnloadNow(void)
{
	return InterlockedCompareExchange(&held, 0, 0) ? S_FALSE : S_OK;
}

BOOL WINAPI DllMain(HINSTANCE instance, DWORD why, LPVOID reserved)
{
	(void)reserved;
	if (why == DLL_PROCESS_ATTACH) {
		module_instance = instance;
		DisableThreadLibraryCalls(instance);
	}
	return TRUE;
}
