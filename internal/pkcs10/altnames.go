package pkcs10

import (
	"encoding/asn1"
	"errors"
	"net/netip"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// AltNames is a view of subjectAltName for rules and people. It holds text as
// sent, checked for nothing; comparisons and copies use Request.RawSAN.
type AltNames struct {
	DNS    []string
	Email  []string
	URI    []string
	IP     []netip.Addr
	UPN    []string // Windows user principal names, an otherName
	Others []OtherName
	Raw    [][]byte // every GeneralName, DER, in order
}

// OtherName is a GeneralName without a field of its own in AltNames. Type is
// nil unless it is an otherName.
type OtherName struct {
	Type asn1.ObjectIdentifier
	Raw  []byte // the GeneralName, DER
}

// SubjectAltNames reads the requested subjectAltName; without one it is empty.
func (r *Request) SubjectAltNames() (AltNames, error) {
	if r.RawSAN == nil {
		return AltNames{}, nil
	}
	return ParseAltNames(r.RawSAN)
}

// ParseAltNames reads the octets of a subjectAltName extension
// (RFC 5280, section 4.2.1.6).
func ParseAltNames(der []byte) (AltNames, error) {
	var (
		names AltNames
		list  cryptobyte.String
	)
	s := cryptobyte.String(der)
	if !s.ReadASN1(&list, cbasn1.SEQUENCE) || !s.Empty() {
		return names, errors.New("malformed subjectAltName")
	}
	for !list.Empty() {
		var (
			whole cryptobyte.String
			tag   cbasn1.Tag
		)
		if !list.ReadAnyASN1Element(&whole, &tag) || tag&0xc0 != 0x80 {
			return names, errors.New("malformed subjectAltName")
		}
		names.Raw = append(names.Raw, whole)
		if err := names.add(tag, whole); err != nil {
			return names, err
		}
	}
	return names, nil
}

// add sorts one GeneralName into its list.
func (n *AltNames) add(tag cbasn1.Tag, whole cryptobyte.String) error {
	content := whole
	content.ReadAnyASN1(&content, &tag)
	switch tag & 0x1f {
	case 0:
		return n.addOther(content, whole)
	case 1:
		n.Email = append(n.Email, string(content))
	case 2:
		n.DNS = append(n.DNS, string(content))
	case 6:
		n.URI = append(n.URI, string(content))
	case 7:
		ip, ok := netip.AddrFromSlice(content)
		if !ok {
			return errors.New("malformed subjectAltName: IP address of a wrong length")
		}
		n.IP = append(n.IP, ip)
	default:
		n.Others = append(n.Others, OtherName{Raw: whole})
	}
	return nil
}

// addOther reads an otherName: a type and an explicitly tagged value.
func (n *AltNames) addOther(content, whole cryptobyte.String) error {
	var (
		oid   asn1.ObjectIdentifier
		value cryptobyte.String
	)
	if !content.ReadASN1ObjectIdentifier(&oid) ||
		!content.ReadASN1(&value, cbasn1.Tag(0).ContextSpecific().Constructed()) || !content.Empty() {
		return errors.New("malformed subjectAltName: otherName")
	}
	if oid.Equal(OIDUserPrincipalName) {
		if text, ok := readString(&value); ok && value.Empty() {
			n.UPN = append(n.UPN, text)
			return nil
		}
	}
	n.Others = append(n.Others, OtherName{Type: oid, Raw: whole})
	return nil
}
