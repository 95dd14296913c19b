package embedded

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/internal/keys"
)

// OIDOCSPSigning makes its holder a responder for the CA (RFC 6960, section
// 4.2.2.2). No profile may have it.
var OIDOCSPSigning = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 9}

// oidNoCheck spares relying parties to ask whether the responder's own
// certificate is revoked (RFC 6960, section 4.2.2.2.1). It is short-lived
// instead.
var oidNoCheck = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}

const (
	defaultSignerValidity = 7 * day
	minSignerValidity     = time.Hour
)

// ocspSigner is a key that signs responses for one CA, and its certificate.
type ocspSigner struct {
	key     crypto.Signer
	cert    *x509.Certificate
	alg     signatureAlgorithm
	keyHash []byte
}

// IssueOCSPSigner makes a certificate for a key that answers for this CA by
// OCSP: extended key usage OCSPSigning alone, id-pkix-ocsp-nocheck, no
// addresses. validity is at least an hour; 0: 7 days.
func (c *CA) IssueOCSPSigner(ctx context.Context, key crypto.PublicKey, validity time.Duration) (*x509.Certificate, error) {
	validity = cmp.Or(validity, defaultSignerValidity)
	if validity < minSignerValidity {
		return nil, fmt.Errorf("a life of %v is too short for an OCSP signer's certificate, at least %v", validity, minSignerValidity)
	}
	if _, err := algorithmFor(key); err != nil {
		return nil, fmt.Errorf("the key of an OCSP signer: %w", err)
	}
	d := draft{
		keyUsage: x509.KeyUsageDigitalSignature, extKeyUsage: []asn1.ObjectIdentifier{OIDOCSPSigning},
		extra: []pkix.Extension{{Id: oidNoCheck, Value: asn1.NullBytes}}, noAddresses: true,
	}
	return c.issueOwn(ctx, d, key, c.signerName(), validity)
}

// signerName is the CA's with "OCSP" behind its common name.
func (c *CA) signerName() pkix.Name {
	name := pkix.Name{Organization: c.cert.Subject.Organization, Country: c.cert.Subject.Country}
	common := []rune(cmp.Or(c.cert.Subject.CommonName, c.name))
	const suffix = " OCSP"
	name.CommonName = string(common[:min(len(common), maxCommonName-len(suffix))]) + suffix
	return name
}

// newOCSPSigner checks that key and certificate belong together and are this
// CA's.
func (c *CA) newOCSPSigner(key crypto.Signer, cert *x509.Certificate) (*ocspSigner, error) {
	alg, err := algorithmFor(key.Public())
	if err != nil {
		return nil, err
	}
	pub, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !pub.Equal(key.Public()) {
		return nil, errors.New("the key does not belong to the OCSP signer's certificate")
	}
	if !bytes.Equal(cert.RawIssuer, c.cert.RawSubject) {
		return nil, errors.New("the OCSP signer's certificate is of another CA")
	}
	if err := c.cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature); err != nil {
		return nil, fmt.Errorf("the OCSP signer's certificate is of another CA: %v", err)
	}
	if !slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning) {
		return nil, errors.New("the certificate is not one of an OCSP signer (extended key usage)")
	}
	s := &ocspSigner{key: key, cert: cert, alg: alg}
	s.keyHash, err = keyHash(cert.RawSubjectPublicKeyInfo)
	return s, err
}

// due says whether it is time for a successor: a third of the life is left, so
// that responses of the old and the new one are valid side by side, and a CA
// that cannot sign for a while is no outage.
func (s *ocspSigner) due(now time.Time) bool {
	return now.After(s.cert.NotAfter.Add(-s.cert.NotAfter.Sub(s.cert.NotBefore) / 3))
}

// usable says whether responses can be signed now.
func (s *ocspSigner) usable(now time.Time) bool {
	return s != nil && !now.Before(s.cert.NotBefore) && now.Before(s.cert.NotAfter)
}

// makeOCSPSigner makes a key and its certificate. The kind of key is that of
// the CA, which whoever verifies understands; RSA has 2048 bits, which is
// enough for a week and signs quickly.
func (c *CA) makeOCSPSigner(ctx context.Context, validity time.Duration) (*ocspSigner, error) {
	kind := P256
	if _, ok := c.key.Public().(*rsa.PublicKey); ok {
		kind = RSA2048
	}
	key, err := GenerateKey(kind)
	if err != nil {
		return nil, fmt.Errorf("making the OCSP signer's key: %w", err)
	}
	cert, err := c.IssueOCSPSigner(ctx, key.Public(), validity)
	if err != nil {
		return nil, fmt.Errorf("making the OCSP signer's certificate: %w", err)
	}
	return c.newOCSPSigner(key, cert)
}

// isRevoked asks the register about the signer's own certificate: one that is
// revoked, or that a restored register does not know, is replaced.
func (c *CA) isRevoked(ctx context.Context, s *ocspSigner) (bool, error) {
	row, err := c.register.Certificate(ctx, c.name, s.cert.SerialNumber)
	switch {
	case errors.Is(err, ca.ErrNotFound):
		return true, nil
	case err != nil:
		return false, fmt.Errorf("%w: reading the register: %v", ca.ErrUnavailable, err)
	}
	return row.Revoked, nil
}

// encodeSigner writes key and certificate as PEM, for a SignerStore.
func encodeSigner(s *ocspSigner) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(s.key)
	if err != nil {
		return nil, fmt.Errorf("encoding the OCSP signer's key: %w", err)
	}
	defer clear(der)
	var b bytes.Buffer
	for _, block := range []*pem.Block{{Type: "PRIVATE KEY", Bytes: der}, {Type: "CERTIFICATE", Bytes: s.cert.Raw}} {
		if err := pem.Encode(&b, block); err != nil {
			return nil, fmt.Errorf("encoding the OCSP signer: %w", err)
		}
	}
	return b.Bytes(), nil
}

// decodeSigner reads what encodeSigner wrote.
func (c *CA) decodeSigner(b []byte) (*ocspSigner, error) {
	var key crypto.Signer
	var cert *x509.Certificate
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		var err error
		switch block.Type {
		case "CERTIFICATE":
			cert, err = x509.ParseCertificate(block.Bytes)
		case "PRIVATE KEY":
			key, err = keys.Parse(block)
			clear(block.Bytes)
		}
		if err != nil {
			return nil, fmt.Errorf("reading the OCSP signer: %w", err)
		}
	}
	if key == nil || cert == nil {
		return nil, errors.New("the OCSP signer's file lacks its key or its certificate")
	}
	return c.newOCSPSigner(key, cert)
}
