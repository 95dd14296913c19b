package pkcs10

import (
	"crypto/x509"
	"encoding/asn1"
	"strconv"
	"strings"
)

// Attributes of a certification request that somebody acts on.
var (
	// OIDChallengePassword is PKCS #9 challengePassword.
	OIDChallengePassword = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 7}
	// OIDExtensionRequest is PKCS #9 extensionRequest.
	OIDExtensionRequest = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 14}
	// OIDMicrosoftExtensions is szOID_CERT_EXTENSIONS, extensionRequest before
	// there was one ([MS-WCCE] 2.2.2.7.7).
	OIDMicrosoftExtensions = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 14}
	// OIDNameValuePair is szOID_ENROLLMENT_NAME_VALUE_PAIR ([MS-WCCE] 2.2.2.7.10).
	OIDNameValuePair = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 13, 2, 1}
	// OIDCSPProvider is szOID_ENROLLMENT_CSP_PROVIDER, informational.
	OIDCSPProvider = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 13, 2, 2}
	// OIDOSVersion is szOID_OS_VERSION, informational.
	OIDOSVersion = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 13, 2, 3}
	// OIDClientInfo is szOID_REQUEST_CLIENT_INFO, informational.
	OIDClientInfo = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 21, 20}
)

// Extensions this package looks into.
var (
	// OIDSubjectAltName is subjectAltName (RFC 5280, section 4.2.1.6).
	OIDSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}
	// OIDKeyUsage is keyUsage (RFC 5280, section 4.2.1.3).
	OIDKeyUsage = asn1.ObjectIdentifier{2, 5, 29, 15}
	// OIDExtKeyUsage is extKeyUsage (RFC 5280, section 4.2.1.12).
	OIDExtKeyUsage = asn1.ObjectIdentifier{2, 5, 29, 37}
	// OIDUserPrincipalName is the otherName that carries a Windows user
	// principal name.
	OIDUserPrincipalName = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 3}
)

// Subject attribute types that people read by a short name (RFC 4514,
// section 3, and what Windows and OpenSSL add to it).
var shortNames = map[string]string{
	"2.5.4.3":                    "CN",
	"2.5.4.4":                    "SN",
	"2.5.4.5":                    "serialNumber",
	"2.5.4.6":                    "C",
	"2.5.4.7":                    "L",
	"2.5.4.8":                    "ST",
	"2.5.4.9":                    "STREET",
	"2.5.4.10":                   "O",
	"2.5.4.11":                   "OU",
	"2.5.4.12":                   "title",
	"2.5.4.42":                   "GN",
	"0.9.2342.19200300.100.1.1":  "UID",
	"0.9.2342.19200300.100.1.25": "DC",
	"1.2.840.113549.1.9.1":       "emailAddress",
}

var oidCommonName = asn1.ObjectIdentifier{2, 5, 4, 3}

// AttributeType returns the object identifier of a subject's attribute from
// its short name (RFC 4519, any letter case) or from its dotted form.
func AttributeType(name string) (asn1.ObjectIdentifier, bool) {
	for oid, short := range shortNames {
		if strings.EqualFold(short, name) {
			return parseOID(oid)
		}
	}
	return parseOID(name)
}

func parseOID(dotted string) (asn1.ObjectIdentifier, bool) {
	oid, err := x509.ParseOID(dotted)
	if err != nil {
		return nil, false
	}
	var out asn1.ObjectIdentifier
	for arc := range strings.SplitSeq(oid.String(), ".") {
		n, err := strconv.Atoi(arc)
		if err != nil {
			return nil, false
		}
		out = append(out, n)
	}
	return out, true
}
