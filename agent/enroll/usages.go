package enroll

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"slices"

	"github.com/certconnector/certconnector/internal/pkcs10"
	"github.com/certconnector/certconnector/policymodule"
	"github.com/certconnector/certconnector/scep"
)

// checkUsages judges what the key may be used for. Windows reads the
// application policies of a certificate as extended key usages, so they are
// held to the same rules; and since whoever vouches looks at the extended key
// usages only, they may not go beyond these.
func (r Rules) checkUsages(req *scep.Request) *policymodule.Decision {
	if x509.KeyUsage(req.CSR.KeyUsage)&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0 {
		return refuse(RuleKeyUsage, policymodule.BadRequest, "the device asks for keyCertSign or cRLSign")
	}
	policies, err := req.CSR.ApplicationPolicies()
	if err != nil {
		return refuse(RuleExtKeyUsage, policymodule.BadRequest, "the application policies cannot be read")
	}
	for _, eku := range slices.Concat(req.CSR.ExtKeyUsage, policies) {
		if neverIssued(eku) {
			return refuse(RuleExtKeyUsage, policymodule.BadRequest, "extended key usage "+eku.String()+" is never issued to a device")
		}
		if len(r.ExtKeyUsages) > 0 && !slices.ContainsFunc(r.ExtKeyUsages, eku.Equal) {
			return refuse(RuleExtKeyUsage, policymodule.BadRequest, "extended key usage "+eku.String()+" is not in the endpoint's list")
		}
	}
	for _, policy := range policies {
		if len(req.CSR.ExtKeyUsage) > 0 && !slices.ContainsFunc(req.CSR.ExtKeyUsage, policy.Equal) {
			return refuse(RuleExtKeyUsage, policymodule.BadRequest, "application policy "+policy.String()+" is none of the extended key usages asked for")
		}
	}
	return nil
}

// neverIssued are the usages that make a certificate good for everything: any
// purpose, and Certificate Request Agent, which enrols for others.
func neverIssued(eku asn1.ObjectIdentifier) bool {
	return eku.Equal(oidAnyPurpose) || eku.Equal(oidRequestAgent)
}

// checkIssuedUsages wants no usage beyond those asked for, in either of the
// extensions that say it. Where the device asked for none, the template
// decides within the endpoint's list. A certificate that names no usage is
// good for all of them, and so beyond any list.
func (r Rules) checkIssuedUsages(cert *x509.Certificate, csr *pkcs10.Request) error {
	issued, err := issuedUsages(cert)
	if err != nil {
		return err
	}
	policies, err := csr.ApplicationPolicies()
	if err != nil {
		return fmt.Errorf("the request's application policies cannot be read: %v", err)
	}
	allowed, whose := slices.Concat(csr.ExtKeyUsage, policies), "was not asked for"
	if len(allowed) == 0 {
		allowed, whose = r.ExtKeyUsages, "is not in the endpoint's list"
	}
	if len(allowed) > 0 && len(issued) == 0 {
		return fmt.Errorf("the certificate has no extended key usage, and so is good for any")
	}
	for _, eku := range issued {
		switch {
		case neverIssued(eku):
			return fmt.Errorf("the certificate has extended key usage %s, which no device may have", eku)
		case len(allowed) > 0 && !slices.ContainsFunc(allowed, eku.Equal):
			return fmt.Errorf("the certificate has extended key usage %s, which %s", eku, whose)
		}
	}
	return nil
}

// issuedUsages returns the extended key usages and application policies of a
// certificate.
func issuedUsages(cert *x509.Certificate) (issued []asn1.ObjectIdentifier, err error) {
	if der := extension(cert, oidExtKeyUsage); der != nil {
		if rest, err := asn1.Unmarshal(der, &issued); err != nil || len(rest) > 0 {
			return nil, fmt.Errorf("the certificate's extended key usage cannot be read")
		}
	}
	if der := extension(cert, pkcs10.OIDApplicationPolicies); der != nil {
		policies, err := pkcs10.ParseApplicationPolicies(der)
		if err != nil {
			return nil, fmt.Errorf("the certificate's application policies cannot be read")
		}
		issued = append(issued, policies...)
	}
	return issued, nil
}
