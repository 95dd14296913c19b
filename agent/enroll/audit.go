package enroll

import (
	"context"
	"encoding/hex"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/internal/eventid"
	"github.com/certconnector/certconnector/internal/pkcs10"
	"github.com/certconnector/certconnector/policymodule"
	"github.com/certconnector/certconnector/scep/scephttp"
)

const (
	badRequest     = policymodule.BadRequest
	hresultRefused = ca.HResultTemplateDenied // our own rules said no
)

// maxAuditText bounds what one name of a device adds to an audit line, in
// octets.
const maxAuditText = 512

// The verdicts of audit lines.
const (
	verdictGranted = "granted"
	verdictRefused = "refused"
)

// evidence is what an audit line tells of a request beyond what the journal
// has: after a restart the source is not known any more.
type evidence struct {
	source netip.Addr
	csr    *pkcs10.Request // nil when it is not at hand
	module string
}

func (p *Endpoint) evidence(ctx context.Context, csr *pkcs10.Request) evidence {
	return evidence{source: scephttp.Source(ctx), csr: csr, module: p.ModuleKind}
}

// auditFields say which request a line is about, without a secret.
func auditFields(in journal.Intent, from evidence) []zap.Field {
	fields := make([]zap.Field, 0, 24)
	fields = append(fields, zap.String("endpoint", in.Endpoint))
	if from.source.IsValid() {
		fields = append(fields, zap.Stringer("source", from.source))
	}
	fields = append(fields,
		zap.String("transaction_id", clean(in.TransactionID)),
		zap.String("subject", clean(in.Subject)),
	)
	if from.csr != nil && from.csr.RawSAN != nil {
		fields = append(fields, zap.String("san", altNames(from.csr)))
	}
	fields = append(fields,
		zap.String("csr_sha256", hex.EncodeToString(in.CSRDigest[:])),
		zap.String("ca", in.CA),
		zap.String("template", in.Template),
	)
	if from.module != "" {
		fields = append(fields, zap.String("module", from.module))
	}
	if in.ChallengeID != "" {
		fields = append(fields, zap.String("challenge_id", hex.EncodeToString([]byte(in.ChallengeID[:min(8, len(in.ChallengeID))]))))
	}
	return fields
}

// auditEntry writes one line about an entry's new state.
func (r *Registration) auditEntry(what, verdict string, e journal.Entry, from evidence, more ...zap.Field) {
	fields := append(auditFields(e.Intent, from),
		zap.Int64("entry", e.ID), zap.Stringer("state", e.State), zap.String("verdict", verdict), zap.String("notify", notifyState(e)))
	if e.Serial != "" {
		fields = append(fields, zap.String("serial", e.Serial))
	}
	if e.CARequestID != "" {
		fields = append(fields, zap.String("ca_request_id", clean(e.CARequestID)))
	}
	if e.Failure != nil {
		fields = append(fields, zap.String("rule", e.Failure.Rule), zap.String("detail", clean(e.Failure.Text)))
	}
	r.audit.Info(what, append(fields, more...)...)
}

// notifyState says how the party that vouched stands with an entry.
func notifyState(e journal.Entry) string {
	if !e.Notify {
		return "none" // nobody is owed news
	}
	switch e.State {
	case journal.Issued, journal.Withheld, journal.Failed:
		return "owed"
	case journal.Released:
		return "taken"
	case journal.Abandoned:
		return "given up"
	}
	return "not due"
}

// isRenewal reports whether a request was signed with a certificate: see
// signerID.
func isRenewal(in journal.Intent) bool { return in.SignerID != in.SignerKey }

// refusalEvents are the events of Microsoft's products that a refusal is
// nearest to: of a challenge, of a renewal, or of what NDES' CA would have
// refused. vouching says that the module was the one that refused.
func refusalEvents(in journal.Intent, rule policymodule.Reason, vouching bool) []zap.Field {
	event := eventid.SubmissionRefused
	switch {
	case isRenewal(in):
		event = eventid.RenewalFailed
	case rule == RuleSubject, rule == RuleSAN, rule == RuleExtKeyUsage:
	case vouching, rule == RuleChallengeUsed, rule == RuleRestored:
		event = eventid.ChallengeRefused
	}
	fields := []zap.Field{event.Field()}
	if vouchedByIntune(in) {
		fields = append(fields, eventid.VerifyFailed.Field())
	}
	return fields
}

// endEvents are the events of a request that ended after its submission.
func endEvents(e journal.Entry) []zap.Field {
	var fields []zap.Field
	switch {
	case e.State == journal.Abandoned: // the CA did its part
	case isRenewal(e.Intent):
		fields = append(fields, eventid.RenewalFailed.Field())
	default:
		fields = append(fields, eventid.SubmissionRefused.Field())
	}
	switch {
	case !vouchedByIntune(e.Intent):
	case e.State == journal.Abandoned:
		fields = append(fields, eventid.NotNotified.Field())
	default:
		fields = append(fields, eventid.IssueFailed.Field())
	}
	return fields
}

// vouchedByIntune reports whether the numbers of Microsoft's connector apply:
// a tenant is asked, or somebody is owed the outcome.
func vouchedByIntune(in journal.Intent) bool { return in.Tenant != "" || in.Notify }

// intuneEvent is the field of an event where these numbers apply.
func intuneEvent(in journal.Intent, event eventid.Intune) zap.Field {
	if !vouchedByIntune(in) {
		return zap.Skip()
	}
	return event.Field()
}

// altNames writes requested names for people, as "dns:a.example, upn:b@c".
func altNames(csr *pkcs10.Request) string {
	names, err := csr.SubjectAltNames()
	if err != nil {
		return "unreadable"
	}
	var b strings.Builder
	add := func(kind, value string) {
		if b.Len() > maxAuditText {
			return // clean cuts it off
		}
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		b.WriteString(kind)
		b.WriteByte(':')
		b.WriteString(value)
	}
	for _, list := range []struct {
		kind   string
		values []string
	}{{"dns", names.DNS}, {"email", names.Email}, {"upn", names.UPN}, {"uri", names.URI}} {
		for _, v := range list.values {
			add(list.kind, v)
		}
	}
	for _, ip := range names.IP {
		add("ip", ip.String())
	}
	for _, other := range names.Others {
		if other.Type == nil {
			add("other", hex.EncodeToString(other.Raw[:min(len(other.Raw), 16)]))
			continue
		}
		add("other", other.Type.String())
	}
	return clean(b.String())
}

// clean returns a device's text as it is when it is printable and of sane
// length, and quoted and cut off when it could play with a terminal or a log.
func clean(s string) string {
	plain := len(s) <= maxAuditText && utf8.ValidString(s)
	for _, c := range s[:min(len(s), maxAuditText)] {
		if !plain {
			break
		}
		plain = strconv.IsPrint(c)
	}
	if plain {
		return s
	}
	quoted := strconv.QuoteToASCII(s[:min(len(s), maxAuditText)])
	return quoted[:min(len(quoted), 2*maxAuditText)]
}
