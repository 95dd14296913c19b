#include "wire.h"

#include <stdio.h>
#include <string.h>

#include "encoding.h"
#include "json.h"

static void text_member(struct bytes *out, const char *name, const char *text)
{
	json_member(out, name);
	json_string(out, text, strlen(text));
}

static void octets_member(struct bytes *out, const char *name, struct slice s)
{
	json_member(out, name);
	json_base64(out, s.at, s.length);
}

static void begin(struct bytes *out, const struct asker *who,
		  struct slice transaction, struct slice csr)
{
	bytes_text(out, "{");
	if (*who->tenant)
		text_member(out, "tenant", who->tenant);
	text_member(out, "endpoint", who->endpoint);
	octets_member(out, "transactionId", transaction);
	octets_member(out, "certificateRequest", csr);
}

int wire_question(struct bytes *out, const struct asker *who,
		  const struct question *q)
{
	begin(out, who, q->transaction, q->csr);
	if (q->template.length > 0) {
		json_member(out, "template");
		json_string(out, q->template.at, q->template.length);
	}
	if (q->renewal.length > 0)
		octets_member(out, "renewalCertificate", q->renewal);
	return bytes_text(out, "}");
}

int wire_outcome(struct bytes *out, const struct asker *who,
		 const struct outcome *o)
{
	char text[64];

	begin(out, who, o->transaction, o->csr);
	text_member(out, "outcome", o->certificate.length > 0 ? "issued" : "failed");
	if (o->certificate.length > 0) {
		octets_member(out, "certificate", o->certificate);
		text_member(out, "issuingCa", who->issuing_ca);
		return bytes_text(out, "}");
	}
	snprintf(text, sizeof text, "%ld", (long)o->hresult);
	json_member(out, "hresult");
	bytes_text(out, text);
	snprintf(text, sizeof text, "NDES issued no certificate: 0x%08lx",
		 (unsigned long)(uint32_t)o->hresult);
	text_member(out, "description", text);
	return bytes_text(out, "}");
}

enum verdict wire_verdict(const struct bytes *body)
{
	char verdict[16];

	if (json_text(body->at, body->length, "verdict", verdict,
		      sizeof verdict) != JSON_FOUND)
		return VERDICT_UNREADABLE;
	if (strcmp(verdict, "granted") == 0)
		return VERDICT_GRANTED;
	if (strcmp(verdict, "refused") == 0)
		return VERDICT_REFUSED;
	return VERDICT_UNREADABLE;
}

void wire_rule(const struct bytes *body, char *rule, size_t room)
{
	char text[128];

	rule[0] = 0;
	if (json_text(body->at, body->length, "rule", text, sizeof text) ==
	    JSON_FOUND)
		printable(rule, room, text, strlen(text));
}
