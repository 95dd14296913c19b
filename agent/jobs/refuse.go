package jobs

import (
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/internal/eventid"
	"github.com/certconnector/certconnector/intune"
)

// notForTenant is what a tenant is told of a certificate that is not its own,
// whether somebody else has it or nobody: it must not find out which.
const notForTenant = "this connector did not issue the certificate for this tenant; if another system did: certconnector import-issued, or revocation.any_serial"

var errRestored = errors.New("not in the journal, which was restored from a backup and may have forgotten it")

// refuse ends a job with a code for the cloud.
func (r *Revoker) refuse(o *order, code intune.RevocationCode, text string) Ending {
	r.audit(o, r.Audit.Warn, "not revoked", zap.String("outcome", "refused"), zap.Stringer("code", code), zap.String("detail", text), eventid.RevokeRequestFailure.Field())
	return Done(journal.JobResult{Code: int(code), Text: text, Serial: o.serial, CA: o.ca.Name, Retryable: code.Retryable()})
}

// unanswered ends a job without a word to the cloud. When it is offered again
// it is looked at again: somebody may have imported it meanwhile.
func (r *Revoker) unanswered(o *order, text string) Ending {
	return Done(journal.JobResult{Code: int(intune.RevocationCertificateNotFoundError), Text: text, Unanswered: true, Retryable: true, Serial: o.serial, CA: o.ca.Name})
}

// foreign ends a request that means no CA of this connector. Whether the cloud
// offers it to another connector once we have said "not found" is not known.
func (r *Revoker) foreign(o *order) Ending {
	if o.tenant.OwnsTenant {
		return r.refuse(o, intune.RevocationCertificateNotFoundError, "no CA of this connector issued it, and no other connector serves the tenant")
	}
	r.audit(o, r.Audit.Info, "left to other connectors", zap.String("outcome", "unanswered"))
	return r.unanswered(o, "no certificate of a CA of this connector; left to others")
}

// unknown ends a request for a serial number that our CA may have issued, but
// not through us.
func (r *Revoker) unknown(o *order) Ending {
	if r.inDoubt() {
		r.audit(o, r.Audit.Error, "not revoked", zap.String("outcome", "unanswered"), zap.NamedError("detail", errRestored), eventid.RevokeRequestFailure.Field())
		r.Log.Error("a tenant wants a certificate revoked that the journal does not know; the journal was restored from a backup and may have forgotten it: "+
			"look the serial number up at the CA, and revoke it there or import it", append(o.fields(), zap.Time("restored_at", r.RestoredAt))...)
		return r.unanswered(o, errRestored.Error())
	}
	r.Log.Warn("a tenant wants a certificate revoked that this connector did not issue for it; certificates of another system can be imported (certconnector import-issued), or any_serial switched on",
		o.fields()...)
	return r.refuse(o, intune.RevocationCertificateNotFoundError, notForTenant)
}

func (r *Revoker) inDoubt() bool {
	return !r.RestoredAt.IsZero() && r.Clock().Before(r.RestoredAt.Add(r.RestoredDoubt))
}

// othersCertificate ends a request for a certificate that was issued for
// somebody else.
func (r *Revoker) othersCertificate(o *order) Ending {
	r.Log.Error("SECURITY: a tenant wants a certificate revoked that was issued for somebody else; it is refused", o.fields()...)
	r.audit(o, r.Audit.Error, "security: another tenant's certificate", zap.String("outcome", "refused"), eventid.RevokeRequestFailure.Field())
	return Done(journal.JobResult{Code: int(intune.RevocationCertificateNotFoundError), Text: notForTenant, Serial: o.serial, CA: o.ca.Name})
}

// fields say who asked for what.
func (o *order) fields() []zap.Field {
	fields := []zap.Field{
		zap.String("tenant", o.tenant.Name), zap.Int64("job", o.job.ID), digest(o.job), zap.Int("attempt", o.job.Attempts+1),
		zap.String("asked_serial", clean(o.asked.Serial)), zap.String("asked_issuer", clean(o.asked.Issuer)),
	}
	if o.asked.CAConfiguration != "" && o.asked.CAConfiguration != o.asked.Issuer {
		fields = append(fields, zap.String("asked_ca_configuration", clean(o.asked.CAConfiguration)))
	}
	if o.serial != "" {
		fields = append(fields, zap.String("serial", o.serial), zap.String("ca", o.ca.Name))
	}
	return append(fields, zap.Time("accepted_at", o.job.AcceptedAt.UTC().Truncate(time.Second)))
}

func (r *Revoker) audit(o *order, write func(string, ...zap.Field), what string, more ...zap.Field) {
	write(what, append(o.fields(), more...)...)
}
