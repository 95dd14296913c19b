/* A COM client that loads the policy module as NDES does and drives it by
 * lines of text: a command and its words, "-" for a null pointer, octets as
 * hexadecimal digits. Each line is answered with one line. For tests only. */
#define COBJMACROS
#include <initguid.h>

#include "../src/ndespolicy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>
#include <wincrypt.h>

DEFINE_GUID(CLSID_CertConnectorPolicy, 0x5A0D7C1E, 0x93F4, 0x4B8E, 0xA6, 0xB2, 0x71, 0xC6, 0x4D, 0x2E, 0x9F, 0x03);
DEFINE_GUID(IID_NDESPolicy, 0x13CA515D, 0x431D, 0x46CC, 0x8C, 0x2E, 0x1D, 0xA2, 0x69, 0xBB, 0xD6, 0x25);

enum { WORDS = 8, JOBS = 64 };

static NDESPolicy *policy;

static void answer(HRESULT hr, long value)
{
	printf("%08lx %ld\n", (unsigned long)hr, value);
	fflush(stdout);
}

static BYTE *octets(const char *hex, ULONG *length)
{
	size_t n = strlen(hex) / 2;
	BYTE *out = malloc(n + 1);

	for (size_t i = 0; i < n; i++) {
		unsigned v = 0;
		sscanf(hex + 2 * i, "%2x", &v);
		out[i] = (BYTE)v;
	}
	*length = (ULONG)n;
	return out;
}

static NDES_BLOB *blob(const char *hex)
{
	NDES_BLOB *b;

	if (strcmp(hex, "-") == 0)
		return NULL;
	b = calloc(1, sizeof *b);
	if (strcmp(hex, "empty") == 0)
		return b;
	if (strcmp(hex, "huge") == 0) { /* more than is read */
		b->cb = 0x7fffffff;
		b->pb = (BYTE *)b;
		return b;
	}
	if (strcmp(hex, "hollow") == 0) {
		b->cb = 16;
		return b;
	}
	b->pb = octets(hex, &b->cb);
	return b;
}

static void blob_free(NDES_BLOB *b)
{
	if (b && b->pb != (BYTE *)b)
		free(b->pb);
	free(b);
}

/* wide makes a wide text; "long" is one without end in sight. */
static wchar_t *wide(const char *text)
{
	size_t n = strcmp(text, "long") == 0 ? 100000 : strlen(text);
	wchar_t *w;

	if (strcmp(text, "-") == 0)
		return NULL;
	w = calloc(n + 1, sizeof *w);
	for (size_t i = 0; i < n; i++)
		w[i] = n == 100000 ? L'x' : strcmp(text, "surrogate") == 0 ? (wchar_t)0xd800 : (wchar_t)(BYTE)text[i];
	return w;
}

static HRESULT create(BOOL by_class)
{
	wchar_t text[256];
	DWORD size = sizeof text;
	CLSID id = CLSID_CertConnectorPolicy;
	HRESULT hr = S_OK;
	LSTATUS s;

	if (!by_class) {
		s = RegGetValueW(HKEY_LOCAL_MACHINE, MODULES_KEY, L"Policy", RRF_RT_REG_SZ, NULL, text, &size);
		hr = s == ERROR_SUCCESS ? CLSIDFromProgID(text, &id) : HRESULT_FROM_WIN32((DWORD)s);
	}
	if (FAILED(hr))
		return hr;
	return CoCreateInstance(&id, NULL, CLSCTX_INPROC_SERVER, &IID_NDESPolicy, (void **)&policy);
}

static HRESULT verify(char **w, BOOL *ok)
{
	NDES_BLOB *csr = blob(w[1]), *signer = blob(w[2]);
	wchar_t *t = wide(w[3]), *transaction = wide(w[4]);
	HRESULT hr;

	*ok = 7;
	hr = policy->lpVtbl->VerifyRequest(policy, csr, signer, t, transaction, ok);
	blob_free(csr);
	blob_free(signer);
	free(t);
	free(transaction);
	return hr;
}

/* notify: transaction, disposition, HRESULT, certificate. The challenge is
 * null, as on a renewal. */
static HRESULT notify(char **w)
{
	NDES_BLOB *certificate = blob(w[4]);
	wchar_t *transaction = wide(w[1]);
	HRESULT hr = policy->lpVtbl->Notify(policy, NULL, transaction, atoi(w[2]), (LONG)strtoul(w[3], NULL, 16), certificate);

	blob_free(certificate);
	free(transaction);
	return hr;
}

static struct job {
	char line[16384];
	char *words[WORDS];
	HRESULT hr;
	BOOL ok;
} jobs[JOBS];
static int job_count;

static DWORD WINAPI work(void *arg)
{
	struct job *j = arg;

	j->hr = strcmp(j->words[0], "verify") == 0 ? verify(j->words, &j->ok) : notify(j->words);
	return 0;
}

/* run starts a thread for each job and waits; the answer tells how many calls
 * failed and how many were granted. */
static void run(void)
{
	HANDLE threads[JOBS];
	int failed = 0, granted = 0;

	for (int i = 0; i < job_count; i++)
		threads[i] = CreateThread(NULL, 0, work, &jobs[i], 0, NULL);
	WaitForMultipleObjects((DWORD)job_count, threads, TRUE, INFINITE);
	for (int i = 0; i < job_count; i++) {
		CloseHandle(threads[i]);
		failed += FAILED(jobs[i].hr);
		granted += jobs[i].ok == TRUE;
	}
	job_count = 0;
	answer((HRESULT)failed, granted);
}

static LSTATUS set_text(const wchar_t *key, const char *name, const char *text)
{
	wchar_t *n = wide(name), *t = wide(text);
	LSTATUS s = t ? RegSetKeyValueW(HKEY_LOCAL_MACHINE, key, n, REG_SZ, t, (DWORD)(2 * wcslen(t) + 2))
		      : RegDeleteKeyValueW(HKEY_LOCAL_MACHINE, key, n);

	free(n);
	free(t);
	return s;
}

static LSTATUS set_number(const char *name, DWORD v)
{
	wchar_t *n = wide(name);
	LSTATUS s = RegSetKeyValueW(HKEY_LOCAL_MACHINE, CONFIG_KEY, n, REG_DWORD, &v, sizeof v);

	free(n);
	return s;
}

static DWORD add_certificate(const wchar_t *name, PCCERT_CONTEXT cert)
{
	HCERTSTORE store = CertOpenStore(CERT_STORE_PROV_SYSTEM_W, 0, 0, CERT_SYSTEM_STORE_LOCAL_MACHINE, name);
	DWORD error = 0;

	if (!store || !CertAddCertificateContextToStore(store, cert, CERT_STORE_ADD_REPLACE_EXISTING, NULL))
		error = GetLastError();
	if (store)
		CertCloseStore(store, 0);
	return error;
}

static DWORD add_root(const char *hex)
{
	ULONG n;
	BYTE *der = octets(hex, &n);
	PCCERT_CONTEXT cert = CertCreateCertificateContext(X509_ASN_ENCODING, der, n);
	DWORD error = cert ? add_certificate(L"ROOT", cert) : GetLastError();

	free(der);
	return error;
}

/* add_client imports certificate and key, a CAPI PRIVATEKEYBLOB. The key goes
 * into a container of the user although the certificate is the machine's:
 * Wine's TLS finds no other. */
static DWORD add_client(const char *container, const char *cert_hex, const char *key_hex)
{
	ULONG cert_length, key_length;
	BYTE *cert_der = octets(cert_hex, &cert_length), *key = octets(key_hex, &key_length);
	PCCERT_CONTEXT cert = CertCreateCertificateContext(X509_ASN_ENCODING, cert_der, cert_length);
	wchar_t *name = wide(container);
	CRYPT_KEY_PROV_INFO info = {name, (wchar_t *)MS_ENH_RSA_AES_PROV_W, PROV_RSA_AES, 0, 0, NULL, AT_KEYEXCHANGE};
	HCRYPTPROV provider = 0;
	HCRYPTKEY imported = 0;
	DWORD error = 0;

	if (!cert || !CryptAcquireContextW(&provider, name, MS_ENH_RSA_AES_PROV_W, PROV_RSA_AES, CRYPT_NEWKEYSET) ||
	    !CryptImportKey(provider, key, key_length, 0, CRYPT_EXPORTABLE, &imported) ||
	    !CertSetCertificateContextProperty(cert, CERT_KEY_PROV_INFO_PROP_ID, 0, &info))
		error = GetLastError();
	if (imported)
		CryptDestroyKey(imported);
	if (provider)
		CryptReleaseContext(provider, 0);
	if (!error)
		error = add_certificate(L"MY", cert);
	free(name);
	free(cert_der);
	free(key);
	return error;
}

/* impersonated asks while the thread acts for a user, and tells whether it
 * still does. */
static void impersonated(char **w)
{
	HANDLE token = NULL;
	BOOL ok, still;
	HRESULT hr;

	if (!ImpersonateSelf(SecurityImpersonation)) {
		answer(HRESULT_FROM_WIN32(GetLastError()), -1);
		return;
	}
	hr = verify(w, &ok);
	still = OpenThreadToken(GetCurrentThread(), TOKEN_QUERY, TRUE, &token);
	if (still)
		CloseHandle(token);
	RevertToSelf();
	answer(hr, ok + 10 * still);
}

static void nulls(void)
{
	HRESULT a = policy->lpVtbl->VerifyRequest(policy, NULL, NULL, NULL, NULL, NULL);
	HRESULT b = policy->lpVtbl->GenerateChallenge(policy, NULL, NULL, NULL);
	HRESULT c = policy->lpVtbl->QueryInterface(policy, &IID_IUnknown, NULL);
	void *out = policy;
	HRESULT d = policy->lpVtbl->QueryInterface(policy, &IID_IClassFactory, &out);

	answer(a == E_POINTER && b == E_POINTER && c == E_POINTER && d == E_NOINTERFACE && !out ? S_OK : E_FAIL, 0);
}

static void generate(void)
{
	wchar_t *challenge = (wchar_t *)1;
	HRESULT hr = policy->lpVtbl->GenerateChallenge(policy, L"Template", L"", &challenge);

	answer(hr, challenge == NULL);
}

static void release(void)
{
	ULONG left = policy->lpVtbl->Release(policy);

	policy = NULL;
	CoFreeUnusedLibrariesEx(0, 0);
	answer(S_OK, (long)left);
}

static void call(char **w)
{
	BOOL ok = 7;
	HRESULT hr;

	if (strcmp(w[0], "create") == 0) {
		answer(create(w[1][0] == 'c'), 0);
	} else if (strcmp(w[0], "set") == 0) {
		answer(set_text(CONFIG_KEY, w[1], w[2]), 0);
	} else if (strcmp(w[0], "setmodule") == 0) {
		answer(set_text(MODULES_KEY, "Policy", w[1]), 0);
	} else if (strcmp(w[0], "setca") == 0) {
		answer(set_text(CAINFO_KEY, "Configuration", w[1]), 0);
	} else if (strcmp(w[0], "setnumber") == 0) {
		answer(set_number(w[1], (DWORD)strtoul(w[2], NULL, 10)), 0);
	} else if (strcmp(w[0], "root") == 0) {
		answer((HRESULT)add_root(w[1]), 0);
	} else if (strcmp(w[0], "client") == 0) {
		answer((HRESULT)add_client(w[1], w[2], w[3]), 0);
	} else if (!policy) {
		answer(E_UNEXPECTED, -1);
	} else if (strcmp(w[0], "init") == 0) {
		answer(policy->lpVtbl->Initialize(policy), 0);
	} else if (strcmp(w[0], "uninit") == 0) {
		answer(policy->lpVtbl->Uninitialize(policy), 0);
	} else if (strcmp(w[0], "release") == 0) {
		release();
	} else if (strcmp(w[0], "generate") == 0) {
		generate();
	} else if (strcmp(w[0], "nulls") == 0) {
		nulls();
	} else if (strcmp(w[0], "verify") == 0) {
		hr = verify(w, &ok);
		answer(hr, ok);
	} else if (strcmp(w[0], "notify") == 0) {
		answer(notify(w), 0);
	} else if (strcmp(w[0], "impersonated") == 0) {
		impersonated(w);
	} else {
		answer(E_NOTIMPL, -1);
	}
}

static int split(char *line, char **words)
{
	static char none[] = "-";
	int n = 0;

	for (char *at = strtok(line, " \r\n"); at && n < WORDS; at = strtok(NULL, " \r\n"))
		words[n++] = at;
	for (int i = n; i < WORDS; i++)
		words[i] = none;
	return n;
}

int main(void)
{
	static char line[1 << 20];
	char *words[WORDS];

	CoInitializeEx(NULL, COINIT_MULTITHREADED);
	while (fgets(line, sizeof line, stdin)) {
		if (strncmp(line, "run", 3) == 0) {
			run();
		} else if (strncmp(line, "job ", 4) == 0 && job_count < JOBS && strlen(line) < sizeof jobs[0].line) {
			strcpy(jobs[job_count].line, line + 4);
			jobs[job_count].ok = FALSE;
			split(jobs[job_count].line, jobs[job_count].words);
			job_count++;
		} else if (split(line, words) > 0) {
			call(words);
		}
	}
	CoUninitialize();
	return 0;
}
