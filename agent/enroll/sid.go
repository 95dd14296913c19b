package enroll

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"regexp"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/certconnector/certconnector/internal/pkcs10"
	"github.com/certconnector/certconnector/policymodule"
	"github.com/certconnector/certconnector/scep"
)

// A security identifier in a certificate says which account of Active
// Directory it logs on to (KB5014754). It stands in an extension, which a
// device never chooses, or in a SAN URI, which somebody has to vouch for.
var (
	oidSID       = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 25, 2} // szOID_NTDS_CA_SECURITY_EXT
	oidObjectSID = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 25, 2, 1}

	// sidURI begins a security identifier in a SAN URI.
	sidURI = []byte("tag:microsoft.com,2022-09-14:sid:")

	// sidText is a security identifier as text ([MS-DTYP] 2.4.2.1).
	sidText = regexp.MustCompile(`^[Ss]-1-([0-9]{1,10}|0[xX][0-9A-Fa-f]{12})(-[0-9]{1,10}){1,15}$`)
)

// checkSIDs refuses security identifiers of which there is more than one
// opinion, whoever vouches and whatever becomes of the extension later: the CA
// and the domain controller might not read the same one.
func (r Rules) checkSIDs(req *scep.Request) *policymodule.Decision {
	names, err := req.CSR.SubjectAltNames()
	if err != nil {
		return refuse(RuleSAN, policymodule.BadRequest, "the subjectAltName cannot be read")
	}
	der, asked := requestedSID(req.CSR)
	uris := policymodule.SIDs(names)
	if !asked && len(uris) == 0 {
		return nil
	}
	inExtension, readable := readSID(der)
	switch {
	case len(uris) > 1:
		return refuse(RuleSIDDuplicate, policymodule.BadRequest, "more than one security identifier in SAN URIs")
	case len(uris) == 1 && !sidText.MatchString(uris[0]):
		return refuse(RuleSIDMalformed, policymodule.BadRequest, "the SAN URI holds no security identifier")
	case asked && len(uris) == 1 && !strings.EqualFold(inExtension, uris[0]):
		return refuse(RuleSIDMismatch, policymodule.BadRequest, "extension and SAN URI name different security identifiers")
	case asked && r.StripSID && !readable:
		return refuse(RuleSIDMalformed, policymodule.BadRequest, "the security identifier extension cannot be read")
	}
	return nil
}

// checkSIDVouched wants somebody to vouch for a security identifier in a SAN
// URI. The tag is looked for in all octets of the subjectAltName, so that it
// cannot hide in another kind of name or in a nested encoding.
func (r Rules) checkSIDVouched(req *scep.Request, vouched bool) *policymodule.Decision {
	count := bytes.Count(bytes.ToLower(req.CSR.RawSAN), sidURI)
	if count == 0 {
		return nil
	}
	if !vouched || r.RefuseSIDURI {
		return refuse(RuleSIDURI, policymodule.BadRequest, "a security identifier in a SAN URI needs a party that vouches for it")
	}
	if names, err := req.CSR.SubjectAltNames(); err != nil || len(policymodule.SIDs(names)) != count {
		return refuse(RuleSIDURI, policymodule.BadRequest, "a security identifier stands in a name that is no URI")
	}
	return nil
}

// requestedSID returns the octets of a requested security identifier
// extension. There is one at most: pkcs10 refuses extensions that come twice.
func requestedSID(csr *pkcs10.Request) ([]byte, bool) {
	for _, ext := range csr.Extensions {
		if ext.Id.Equal(oidSID) {
			return ext.Value, true
		}
	}
	return nil, false
}

// readSID reads the octets of a security identifier extension: GeneralNames
// with one otherName, whose value holds the text of the identifier.
func readSID(der []byte) (sid string, ok bool) {
	var list, name, value, text cryptobyte.String
	var kind asn1.ObjectIdentifier
	explicit := cbasn1.Tag(0).ContextSpecific().Constructed()
	s := cryptobyte.String(der)
	if !s.ReadASN1(&list, cbasn1.SEQUENCE) || !s.Empty() || !list.ReadASN1(&name, explicit) || !list.Empty() ||
		!name.ReadASN1ObjectIdentifier(&kind) || !kind.Equal(oidObjectSID) || !name.ReadASN1(&value, explicit) || !name.Empty() ||
		!value.ReadASN1(&text, cbasn1.OCTET_STRING) || !value.Empty() {
		return "", false
	}
	return string(text), sidText.Match(text)
}

// checkIssuedSID refuses a certificate with a security identifier that nobody
// vouched for: AD CS copies the extension from a request, and adds one of its
// own where it builds the subject from the directory.
func (r Rules) checkIssuedSID(cert *x509.Certificate, csr *pkcs10.Request) error {
	der := extension(cert, oidSID)
	if der == nil {
		return nil
	}
	if !r.SIDFromURI {
		return fmt.Errorf("the certificate has a security identifier extension (%v)", oidSID)
	}
	names, err := csr.SubjectAltNames()
	if err != nil {
		return fmt.Errorf("the request's subjectAltName cannot be read: %v", err)
	}
	uris := policymodule.SIDs(names)
	if sid, ok := readSID(der); !ok || len(uris) != 1 || !strings.EqualFold(sid, uris[0]) {
		return fmt.Errorf("the certificate has another security identifier than its SAN URI")
	}
	return nil
}
