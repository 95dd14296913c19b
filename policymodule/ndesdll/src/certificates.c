/* The client certificate in the machine's store, and the server's pins. */
#include <string.h>

#include "der.h"
#include "encoding.h"
#include "http.h"

BOOL sha256(const BYTE *from, size_t length, BYTE digest[32])
{
	DWORD size = 32;

	return CryptHashCertificate(0, CALG_SHA_256, 0, from, (DWORD)length, digest, &size) && size == 32;
}

HRESULT find_certificate(const BYTE thumbprint[20], PCCERT_CONTEXT *found)
{
	CRYPT_HASH_BLOB hash = {20, (BYTE *)thumbprint};
	HCERTSTORE store;
	DWORD error;
	LONG time;

	*found = NULL;
	store = CertOpenStore(CERT_STORE_PROV_SYSTEM_W, 0, 0,
			      CERT_SYSTEM_STORE_LOCAL_MACHINE | CERT_STORE_READONLY_FLAG | CERT_STORE_OPEN_EXISTING_FLAG, L"MY");
	if (!store) {
		error = GetLastError();
		log_line(LOG_ERROR, "The machine's certificate store MY cannot be opened: error %lu.", (unsigned long)error);
		return HRESULT_FROM_WIN32(error);
	}
	*found = CertFindCertificateInStore(store, X509_ASN_ENCODING, 0, CERT_FIND_SHA1_HASH, &hash, NULL);
	CertCloseStore(store, 0);
	if (!*found) {
		log_line(LOG_ERROR, "The client certificate is not in the machine's Personal store; import it with its key, or mend ClientCertThumbprint.");
		return CRYPT_E_NOT_FOUND;
	}
	time = CertVerifyTimeValidity(NULL, (*found)->pCertInfo);
	if (time != 0)
		log_line(LOG_WARNING, "The client certificate %s; the registration point will refuse it.",
			 time > 0 ? "has expired" : "is not valid yet");
	return S_OK;
}

static BOOL pinned(PCCERT_CONTEXT cert, const struct config *c)
{
	struct slice serial, key;
	BYTE whole[32], spki[32];

	if (!certificate_key(cert->pbCertEncoded, cert->cbCertEncoded, &serial, &key) ||
	    !sha256(cert->pbCertEncoded, cert->cbCertEncoded, whole) ||
	    !sha256(key.at, key.length, spki))
		return FALSE;
	for (size_t i = 0; i < c->pin_count; i++)
		if (memcmp(c->pins[i], whole, 32) == 0 || memcmp(c->pins[i], spki, 32) == 0)
			return TRUE;
	return FALSE;
}

HRESULT check_pins(HINTERNET request, const struct config *c)
{
	PCCERT_CONTEXT cert = NULL;
	DWORD size = sizeof cert;
	BOOL ok;

	if (c->pin_count == 0)
		return S_OK;
	if (!WinHttpQueryOption(request, WINHTTP_OPTION_SERVER_CERT_CONTEXT, &cert, &size) || !cert)
		return HRESULT_FROM_WIN32(ERROR_WINHTTP_SECURE_FAILURE);
	ok = pinned(cert, c);
	CertFreeCertificateContext(cert);
	if (ok)
		return S_OK;
	log_line(LOG_ERROR, "The server's certificate is trusted but not pinned; nothing was sent. Mend ServerPins if the certificate was renewed.");
	return TRUST_E_SUBJECT_NOT_TRUSTED;
}
