package jobs

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/internal/pkcs10"
)

// issueWork is what an issuance job keeps while it is open.
type issueWork struct {
	Sealed      []byte `json:"sealed"` // issueSecret
	Certificate []byte `json:"certificate,omitempty"`
}

// issueSecret is sealed with the local key, and opens for its job only.
type issueSecret struct {
	Key []byte `json:"key"` // PKCS #8
	CSR []byte `json:"csr"`
}

// label binds sealed work to its job: in another row it does not open.
func (a *assignment) label() string {
	return fmt.Sprintf("issuance job\x00%d:%s%s", len(a.Source), a.Source, a.journaled.Context)
}

func (a *assignment) seal(key crypto.Signer, csr []byte) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, errors.New("the key cannot be encoded")
	}
	plain, err := json.Marshal(issueSecret{Key: der, CSR: csr})
	if err != nil {
		return nil, errors.New("the key cannot be encoded")
	}
	return json.Marshal(issueWork{Sealed: a.Sealer.Seal(a.label(), plain)})
}

// withCertificate returns the work with the certificate added.
func (a *assignment) withCertificate() ([]byte, error) {
	var w issueWork
	if err := json.Unmarshal(a.journaled.Work, &w); err != nil {
		return nil, errors.New("the saved work cannot be read")
	}
	w.Certificate = a.certificate.Raw
	return json.Marshal(w)
}

// open reads what seal and withCertificate wrote. The certificate is there
// even when the key is lost: it must be revoked then.
func (a *assignment) open() error {
	var (
		w issueWork
		s issueSecret
	)
	if err := json.Unmarshal(a.journaled.Work, &w); err != nil {
		return errors.New("the saved work cannot be read")
	}
	if len(w.Certificate) > 0 {
		cert, err := x509.ParseCertificate(w.Certificate)
		if err != nil {
			return errors.New("the saved certificate cannot be read")
		}
		a.certificate = cert
	}
	plain, err := a.Sealer.Open(a.label(), w.Sealed)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(plain, &s); err != nil {
		return errors.New("the saved key cannot be read")
	}
	key, err := x509.ParsePKCS8PrivateKey(s.Key)
	if err != nil {
		return errors.New("the saved key cannot be read")
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return errors.New("the saved key cannot sign")
	}
	a.key = signer
	if a.csr, err = pkcs10.Parse(s.CSR); err != nil {
		return errors.New("the saved request cannot be read")
	}
	return nil
}

// fields name a job in logs, and bind the line to what was asked.
func (a *assignment) fields() []zap.Field {
	content := sha256.Sum256(a.journaled.Content)
	return []zap.Field{
		zap.String("source", a.Source), zap.Int64("job", a.journaled.ID), digest(a.journaled),
		zap.String("content_sha256", hex.EncodeToString(content[:])), zap.String("transaction_id", transactionID(a.Source, a.journaled.Context)),
		zap.Int("attempt", a.journaled.Attempts+1), zap.Time("accepted_at", a.journaled.AcceptedAt.UTC().Truncate(time.Second)),
	}
}

func (a *assignment) audit(write func(string, ...zap.Field), what string, more ...zap.Field) {
	write(what, append(a.fields(), more...)...)
}
