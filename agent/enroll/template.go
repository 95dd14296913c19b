package enroll

import (
	"crypto/x509"

	"github.com/certconnector/certconnector/internal/pkcs10"
)

// Templates names the CA's certificate templates by purpose, as NDES does
// with SignatureTemplate, EncryptionTemplate and GeneralPurposeTemplate. The
// names are the templates' common names, not their display names; "" is the
// CA's default.
type Templates struct {
	Signature  string
	Encryption string
	General    string
}

const (
	signingUsages    = x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment
	encryptionUsages = x509.KeyUsageKeyEncipherment | x509.KeyUsageDataEncipherment | x509.KeyUsageKeyAgreement
)

// choose picks the template by the CSR's key usage, never by what the device
// names. A CSR without key usage, which Apple's are not but many routers' are,
// is for general purpose.
func (t Templates) choose(csr *pkcs10.Request) string {
	usage := x509.KeyUsage(csr.KeyUsage)
	signs, encrypts := usage&signingUsages != 0, usage&encryptionUsages != 0
	switch {
	case signs && !encrypts:
		return t.Signature
	case encrypts && !signs:
		return t.Encryption
	}
	return t.General
}
