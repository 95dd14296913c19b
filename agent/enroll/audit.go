package enroll

import (
	"encoding/hex"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/policymodule"
)

const (
	badRequest     = policymodule.BadRequest
	hresultRefused = ca.HResultTemplateDenied // our own rules said no
)

// auditFields say which request a line is about, without a secret.
func auditFields(in journal.Intent) []zap.Field {
	fields := []zap.Field{
		zap.String("endpoint", in.Endpoint),
		zap.String("transaction_id", in.TransactionID),
		zap.String("subject", in.Subject),
		zap.String("csr_sha256", hex.EncodeToString(in.CSRDigest[:])),
		zap.String("ca", in.CA),
		zap.String("template", in.Template),
	}
	if in.ChallengeID != "" {
		fields = append(fields, zap.String("challenge_id", hex.EncodeToString([]byte(in.ChallengeID[:min(8, len(in.ChallengeID))]))))
	}
	return fields
}

// auditEntry writes one line about an entry's new state.
func (r *Registration) auditEntry(what string, e journal.Entry) {
	fields := append(auditFields(e.Intent), zap.Int64("entry", e.ID), zap.Stringer("state", e.State))
	if e.Serial != "" {
		fields = append(fields, zap.String("serial", e.Serial))
	}
	if e.Failure != nil {
		fields = append(fields, zap.String("rule", e.Failure.Rule), zap.String("detail", e.Failure.Text))
	}
	r.audit.Info(what, fields...)
}
