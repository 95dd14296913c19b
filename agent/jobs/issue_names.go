package jobs

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"net/netip"
	"strings"

	"github.com/certconnector/certconnector/internal/pkcs10"
)

var (
	oidDomainComponent = asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 25}
	oidEmailAddress    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}
)

// encodeSubject reads a name as RFC 4514 writes it. Domain components and
// mail addresses are IA5String (RFC 4519, RFC 2985).
func encodeSubject(text string) ([]byte, error) {
	name, err := pkcs10.ParseNameText(text)
	if err != nil {
		return nil, errors.New("member subject is no name in the form of RFC 4514")
	}
	for _, rdn := range name {
		for i, atv := range rdn {
			value, _ := atv.Value.(string)
			if atv.Type.Equal(oidDomainComponent) || atv.Type.Equal(oidEmailAddress) {
				if !ascii(value) {
					return nil, errors.New("member subject has a DC or an emailAddress with characters beyond ASCII")
				}
				rdn[i].Value = asn1.RawValue{Tag: asn1.TagIA5String, Bytes: []byte(value)}
			}
		}
	}
	if name == nil {
		name = pkix.RDNSequence{}
	}
	der, err := asn1.Marshal(name)
	if err != nil {
		return nil, errors.New("member subject cannot be encoded")
	}
	return der, nil
}

// encodeSANs writes GeneralNames (RFC 5280, section 4.2.1.6).
func encodeSANs(sans []string) ([]asn1.RawValue, error) {
	var names []asn1.RawValue
	for _, san := range sans {
		kind, value, _ := strings.Cut(san, ":")
		tags := map[string]int{"email": 1, "dns": 2, "uri": 6, "ip": 7, "upn": 0}
		tag, known := tags[strings.ToLower(kind)]
		if !known || value == "" {
			return nil, errors.New(`member sans has a name that is none of "dns:", "email:", "upn:", "uri:" and "ip:"`)
		}
		name := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, Bytes: []byte(value)}
		switch {
		case tag == tags["upn"]:
			der, err := asn1.Marshal(struct {
				ID    asn1.ObjectIdentifier
				Value string `asn1:"explicit,tag:0,utf8"`
			}{pkcs10.OIDUserPrincipalName, value})
			if err != nil {
				return nil, errors.New("member sans has a user principal name that cannot be encoded")
			}
			var inner asn1.RawValue
			if _, err := asn1.Unmarshal(der, &inner); err != nil {
				return nil, errors.New("member sans has a user principal name that cannot be encoded")
			}
			name.IsCompound, name.Bytes = true, inner.Bytes
		case tag == tags["ip"]:
			addr, err := netip.ParseAddr(value)
			if err != nil || addr.Zone() != "" {
				return nil, errors.New("member sans has an address that cannot be read")
			}
			name.Bytes = addr.Unmap().AsSlice()
		case !ascii(value):
			return nil, errors.New("member sans has characters beyond ASCII; write internationalized names in their ASCII form")
		}
		names = append(names, name)
	}
	return names, nil
}

func ascii(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r > 0x7e })
}
