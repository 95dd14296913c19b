package enroll

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"slices"
	"time"

	"github.com/certconnector/certconnector/internal/pkcs10"
)

// clockSlack is how much later than allowed a certificate may end: clocks of
// CA and connector differ.
const clockSlack = 10 * time.Minute

// checkIssued compares what the CA issued with what was asked for and
// allowed, before it leaves: a CA that adds a name or changes a key is either
// misconfigured or not ours.
func checkIssued(cert *x509.Certificate, csr *pkcs10.Request, maxValidity time.Duration, now time.Time) error {
	switch {
	case !bytes.Equal(cert.RawSubjectPublicKeyInfo, csr.RawSubjectPublicKeyInfo):
		return fmt.Errorf("the certificate has another key than the request")
	case !bytes.Equal(cert.RawSubject, csr.RawSubject):
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
	return checkIssuedUsages(cert, csr)
}

// checkIssuedUsages wants no extended key usage beyond those asked for. Where
// the device asked for none, the template decides.
func checkIssuedUsages(cert *x509.Certificate, csr *pkcs10.Request) error {
	der := extension(cert, oidExtKeyUsage)
	if der == nil || len(csr.ExtKeyUsage) == 0 {
		return nil
	}
	var issued []asn1.ObjectIdentifier
	if _, err := asn1.Unmarshal(der, &issued); err != nil {
		return fmt.Errorf("the certificate's extended key usage does not parse: %v", err)
	}
	for _, eku := range issued {
		if !slices.ContainsFunc(csr.ExtKeyUsage, eku.Equal) {
			return fmt.Errorf("the certificate has extended key usage %s, which was not asked for", eku)
		}
	}
	return nil
}

func extension(cert *x509.Certificate, oid asn1.ObjectIdentifier) []byte {
	for _, ext := range cert.Extensions {
		if ext.Id.Equal(oid) {
			return ext.Value
		}
	}
	return nil
}
