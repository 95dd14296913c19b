#include "reasons.h"

#include <stdio.h>
#include <string.h>

static const struct reason errors[] = {
	{0x80090331, "SEC_E_ALGORITHM_MISMATCH", "the two sides have no TLS version or cipher suite in common; allow TLS 1.2 on this machine"},
	{5, "ERROR_ACCESS_DENIED", "give the application pool's account Read on the client certificate's private key, or Modify on the log's folder"},
	{12002, "ERROR_WINHTTP_TIMEOUT", "the registration point does not answer in time; look whether it runs, or raise TimeoutMs"},
	{12007, "ERROR_WINHTTP_NAME_NOT_RESOLVED", "the host in Url is not known; mend Url or DNS"},
	{12029, "ERROR_WINHTTP_CANNOT_CONNECT", "nothing listens at Url, or a firewall is between; start the registration point, mend host and port"},
	{12030, "ERROR_WINHTTP_CONNECTION_ERROR", "the connection was cut off; look into the registration point's log, and whether both sides speak TLS 1.2"},
	{12037, "ERROR_WINHTTP_SECURE_CERT_DATE_INVALID", "the server certificate has expired or is not valid yet; renew it, or mend this machine's clock"},
	{12038, "ERROR_WINHTTP_SECURE_CERT_CN_INVALID", "the server certificate is for another name; use a name in Url that stands in it"},
	{12044, "ERROR_WINHTTP_CLIENT_AUTH_CERT_NEEDED", "the server wants another client certificate; mend ClientCertThumbprint"},
	{12045, "ERROR_WINHTTP_SECURE_INVALID_CA", "the server certificate's root is not trusted; put it into the machine's Trusted Root Certification Authorities, intermediates into Intermediate"},
	{12057, "ERROR_WINHTTP_SECURE_CERT_REV_FAILED", "revocation of the server certificate cannot be checked; make its CRL reachable, or set CheckRevocation to 0"},
	{12152, "ERROR_WINHTTP_INVALID_SERVER_RESPONSE", "what answered is no registration point; mend Url"},
	{12157, "ERROR_WINHTTP_SECURE_CHANNEL_ERROR", "TLS failed; look for an untrusted or mismatching server certificate, and for TLS 1.2 on both sides"},
	{12169, "ERROR_WINHTTP_SECURE_INVALID_CERT", "the server certificate is malformed; make another"},
	{12170, "ERROR_WINHTTP_SECURE_CERT_REVOKED", "the server certificate is revoked; give the registration point another"},
	{12175, "ERROR_WINHTTP_SECURE_FAILURE", "the server certificate is refused; the WINHTTP_CALLBACK_STATUS_FLAG line before this one says why"},
	{12179, "ERROR_WINHTTP_SECURE_CERT_WRONG_USAGE", "the server certificate is not for Server Authentication; make another"},
	{12185, "ERROR_WINHTTP_CLIENT_CERT_NO_PRIVATE_KEY", "the client certificate has no private key here; import it with its key into the machine's Personal store"},
	{12186, "ERROR_WINHTTP_CLIENT_CERT_NO_ACCESS_PRIVATE_KEY", "the application pool's account cannot use the client certificate's key; give it Read (Manage Private Keys)"},
};

static const struct reason statuses[] = {
	{400, "Bad Request", "the registration point cannot read the body; bring both sides to one version"},
	{403, "Forbidden", "the registration point does not know this client certificate: issuer, Client Authentication, DNS name or pin, or the tenant is not allowed to this front end"},
	{404, "Not Found", "no registration point is at Url; give it without /CertificateRegistrationSvc"},
	{409, "Conflict", "refused for good"},
	{413, "Content Too Large", "the request is larger than the registration point reads"},
	{415, "Unsupported Media Type", "something between here and the registration point changes requests"},
	{429, "Too Many Requests", "wait"},
	{500, "Internal Server Error", "look into the registration point's log"},
	{502, "Bad Gateway", "a proxy does not reach the registration point"},
	{503, "Service Unavailable", "the registration point or the cloud behind it cannot answer now; devices try again"},
	{504, "Gateway Timeout", "a proxy does not reach the registration point in time"},
};

static const struct reason unknown = {0, "unknown", "look the number up; see the registration point's log for the same time"};

static const struct reason *look_up(const struct reason *rows, size_t count,
				    uint32_t number)
{
	for (size_t i = 0; i < count; i++)
		if (rows[i].number == number)
			return rows + i;
	return &unknown;
}

const struct reason *reason_of_error(uint32_t error)
{
	return look_up(errors, sizeof errors / sizeof *errors, error);
}

const struct reason *reason_of_status(uint32_t status)
{
	return look_up(statuses, sizeof statuses / sizeof *statuses, status);
}

void secure_flags(char *out, size_t room, uint32_t flags)
{
	static const struct {
		uint32_t bit;
		const char *name;
	} names[] = {
		{0x00000001, "CERT_REV_FAILED"},
		{0x00000002, "INVALID_CERT"},
		{0x00000004, "CERT_REVOKED"},
		{0x00000008, "INVALID_CA"},
		{0x00000010, "CERT_CN_INVALID"},
		{0x00000020, "CERT_DATE_INVALID"},
		{0x00000040, "CERT_WRONG_USAGE"},
		{0x80000000, "SECURITY_CHANNEL_ERROR"},
	};
	size_t used = 0;

	out[0] = 0;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		int n;

		if (!(flags & names[i].bit) || used + 1 >= room)
			continue;
		n = snprintf(out + used, room - used, "%sWINHTTP_CALLBACK_STATUS_FLAG_%s",
			     used ? " " : "", names[i].name);
		used = n < 0 ? room : used + (size_t)n;
	}
	if (!out[0])
		snprintf(out, room, "0x%08lx", (unsigned long)flags);
}
