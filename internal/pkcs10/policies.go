package pkcs10

import (
	"encoding/asn1"
	"errors"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// OIDApplicationPolicies is szOID_APPLICATION_CERT_POLICIES ([MS-WCCE]
// 2.2.2.7.7.3): Windows reads it as the extended key usages of a certificate.
var OIDApplicationPolicies = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 21, 10}

// ApplicationPolicies returns the usages asked for with Microsoft's
// application policies extension, nil without one.
func (r *Request) ApplicationPolicies() ([]asn1.ObjectIdentifier, error) {
	for _, ext := range r.Extensions {
		if ext.Id.Equal(OIDApplicationPolicies) {
			return ParseApplicationPolicies(ext.Value)
		}
	}
	return nil, nil
}

// ParseApplicationPolicies reads the octets of an application policies
// extension. Its syntax is that of certificatePolicies (RFC 5280, section
// 4.2.1.4): each policy an object identifier and qualifiers, which say nothing.
func ParseApplicationPolicies(der []byte) ([]asn1.ObjectIdentifier, error) {
	var (
		list     cryptobyte.String
		policies []asn1.ObjectIdentifier
	)
	s := cryptobyte.String(der)
	if !s.ReadASN1(&list, cbasn1.SEQUENCE) || !s.Empty() || list.Empty() {
		return nil, errMalformedPolicies
	}
	for !list.Empty() {
		var (
			policy cryptobyte.String
			oid    asn1.ObjectIdentifier
		)
		if !list.ReadASN1(&policy, cbasn1.SEQUENCE) || !policy.ReadASN1ObjectIdentifier(&oid) ||
			!policy.SkipOptionalASN1(cbasn1.SEQUENCE) || !policy.Empty() {
			return nil, errMalformedPolicies
		}
		policies = append(policies, oid)
	}
	return policies, nil
}

var errMalformedPolicies = errors.New("malformed application policies")
