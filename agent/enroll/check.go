package enroll

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"time"

	"github.com/certconnector/certconnector/internal/pkcs10"
)

// clockSlack is how much later than allowed a certificate may end: clocks of
// CA and connector differ.
const clockSlack = 10 * time.Minute

// foreign is a certificate that is nobody's answer to our request: it must not
// leave, and is not ours to have revoked.
type foreign struct{ error }

// checkIssued compares what the CA issued with what was asked for and
// allowed, before it leaves: a CA that adds a name or changes a key is either
// misconfigured or not ours. Whether an extension is critical is the CA's to
// say.
func (r Rules) checkIssued(cert *x509.Certificate, csr *pkcs10.Request, maxValidity time.Duration, now time.Time) error {
	switch {
	case !bytes.Equal(cert.RawSubjectPublicKeyInfo, csr.RawSubjectPublicKeyInfo):
		return foreign{fmt.Errorf("the certificate has another key than the request")}
	case !sameName(cert.RawSubject, csr.RawSubject):
		return fmt.Errorf("the certificate has another subject than the request")
	case !bytes.Equal(extension(cert, oidSAN), csr.RawSAN):
		return fmt.Errorf("the certificate has another subjectAltName than the request")
	case cert.IsCA:
		return fmt.Errorf("the certificate is a CA certificate")
	case cert.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0:
		return fmt.Errorf("the certificate may sign certificates or CRLs")
	case maxValidity > 0 && cert.NotAfter.After(now.Add(maxValidity+clockSlack)):
		return fmt.Errorf("the certificate lives longer than the decision allows")
	case !cert.NotAfter.After(now):
		return fmt.Errorf("the certificate has expired already")
	}
	if err := r.checkIssuedSID(cert, csr); err != nil {
		return err
	}
	return r.checkIssuedUsages(cert, csr)
}

// sameName compares names by their bytes, or else attribute by attribute: a
// Microsoft CA may write a string in another type than the device did.
func sameName(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	x, errX := pkcs10.ParseName(a)
	y, errY := pkcs10.ParseName(b)
	return errX == nil && errY == nil && pkcs10.FormatName(x) == pkcs10.FormatName(y)
}

// checkSigned wants a certificate that this very CA has signed, current or
// former key. A CA across a network may be somebody else.
func checkSigned(cert *x509.Certificate, chain []*x509.Certificate) error {
	for _, issuer := range chain {
		if bytes.Equal(cert.RawIssuer, issuer.RawSubject) && cert.CheckSignatureFrom(issuer) == nil {
			return nil
		}
	}
	return foreign{fmt.Errorf("the certificate was not signed by the CA that is configured")}
}

func extension(cert *x509.Certificate, oid asn1.ObjectIdentifier) []byte {
	for _, ext := range cert.Extensions {
		if ext.Id.Equal(oid) {
			return ext.Value
		}
	}
	return nil
}
