package device

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"strings"
)

// attributeTypes are the short names of attributes that certificate profiles
// use.
var attributeTypes = map[string]asn1.ObjectIdentifier{
	"CN": {2, 5, 4, 3}, "SERIALNUMBER": {2, 5, 4, 5}, "C": {2, 5, 4, 6}, "L": {2, 5, 4, 7},
	"ST": {2, 5, 4, 8}, "STREET": {2, 5, 4, 9}, "O": {2, 5, 4, 10}, "OU": {2, 5, 4, 11},
	"T": {2, 5, 4, 12}, "POSTALCODE": {2, 5, 4, 17}, "GN": {2, 5, 4, 42}, "SN": {2, 5, 4, 4},
	"UID": {0, 9, 2342, 19200300, 100, 1, 1}, "DC": {0, 9, 2342, 19200300, 100, 1, 25},
	"E": {1, 2, 840, 113549, 1, 9, 1},
}

// Subject encodes a name such as "CN=laptop,O=Contoso\, Ltd" in the order in
// which it is written. "" is the empty name.
func Subject(text string) ([]byte, error) {
	name := pkix.RDNSequence{}
	for _, part := range split(text) {
		short, value, ok := strings.Cut(part, "=")
		id, known := attributeTypes[strings.ToUpper(strings.TrimSpace(short))]
		if !ok || !known || value == "" {
			return nil, fmt.Errorf("subject: %q is not TYPE=value with a type such as CN, O, OU or E", part)
		}
		a := pkix.AttributeTypeAndValue{Type: id, Value: value}
		switch strings.ToUpper(strings.TrimSpace(short)) {
		case "E", "DC": // IA5String (RFC 5280, appendix A.1; RFC 4519, section 2.4)
			a.Value = asn1.RawValue{Tag: asn1.TagIA5String, Bytes: []byte(value)}
		}
		name = append(name, pkix.RelativeDistinguishedNameSET{a})
	}
	der, err := asn1.Marshal(name)
	if err != nil {
		return nil, fmt.Errorf("subject: %w", err)
	}
	return der, nil
}

// split cuts at commas that no backslash precedes, and takes the backslashes
// away.
func split(text string) []string {
	var parts []string
	var part strings.Builder
	escaped := false
	for _, r := range text {
		switch {
		case escaped:
			part.WriteRune(r)
			escaped = false
		case r == '\\':
			escaped = true
		case r == ',':
			parts = append(parts, strings.TrimSpace(part.String()))
			part.Reset()
		default:
			part.WriteRune(r)
		}
	}
	if last := strings.TrimSpace(part.String()); last != "" || len(parts) > 0 {
		parts = append(parts, last)
	}
	return parts
}
