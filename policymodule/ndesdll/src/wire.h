/* The bodies that are exchanged with the registration point. They are our own;
 * only paths and statuses are those of Microsoft's. Portable. */
#ifndef NDESPOLICY_WIRE_H
#define NDESPOLICY_WIRE_H

#include "bytes.h"
#include "der.h"

#define WIRE_VERIFY "/CertificateRegistrationSvc/Certificate/VerifyRequest"
#define WIRE_NOTIFY "/CertificateRegistrationSvc/Certificate/Notify"

enum {
	WIRE_TRANSACTION = 255, /* octets of a transaction ID, as the server has it */
	WIRE_NAME = 255         /* octets of a tenant, endpoint, template or CA */
};

/* asker says who asks: the same in every body. Texts are UTF-8. */
struct asker {
	const char *tenant; /* "": the first of the front end's tenants */
	const char *endpoint;
	const char *issuing_ca;
};

struct question {
	struct slice transaction; /* UTF-8 */
	struct slice csr;         /* DER */
	struct slice template;    /* UTF-8, may be empty */
	struct slice renewal;     /* DER of the signer's certificate, or empty */
};

struct outcome {
	struct slice transaction;
	struct slice csr;
	struct slice certificate; /* DER; empty: failed */
	int32_t hresult;          /* of a failure */
};

int wire_question(struct bytes *out, const struct asker *who,
		  const struct question *q);
int wire_outcome(struct bytes *out, const struct asker *who,
		 const struct outcome *o);

enum verdict { VERDICT_UNREADABLE, VERDICT_REFUSED, VERDICT_GRANTED };

/* wire_verdict reads the answer to a question. Whatever is not surely a grant
 * is none. */
enum verdict wire_verdict(const struct bytes *body);

/* wire_rule finds the rule that an answer names, for the log; "" when none. */
void wire_rule(const struct bytes *body, char *rule, size_t room);

#endif
