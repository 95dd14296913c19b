package pkcs10

import (
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxNameText bounds what ParseNameText reads, in octets.
const maxNameText = 8 << 10

// ParseNameText reads a name in the form of RFC 4514, as "CN=phone 7,O=Corp":
// the last RDN of the DER comes first, "+" joins the attributes of one RDN.
// Attribute types are those of AttributeType. It reads what FormatName writes,
// and spaces around types and values that are not escaped; it refuses "#"
// values, quoted values (RFC 2253) and empty ones. "" is the empty name.
func ParseNameText(text string) (pkix.RDNSequence, error) {
	if len(text) > maxNameText {
		return nil, fmt.Errorf("a name of %d octets is too long; %d is the limit", len(text), maxNameText)
	}
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	var (
		name pkix.RDNSequence
		rdn  pkix.RelativeDistinguishedNameSET
		n    int
	)
	for rest, end := text, byte('+'); end != 0; {
		kind, value, ok := strings.Cut(rest, "=")
		if !ok {
			return nil, errors.New("a name has a part without \"=\"; want one as CN=phone 7,O=Corp")
		}
		oid, known := AttributeType(strings.TrimSpace(kind))
		if !known {
			return nil, fmt.Errorf("attribute type %q is not known; write a short name as CN, or an object identifier", strings.TrimSpace(kind))
		}
		var (
			content string
			err     error
		)
		if content, rest, end, err = readNameValue(value); err != nil {
			return nil, fmt.Errorf("attribute %s: %w", strings.TrimSpace(kind), err)
		}
		if n++; n > maxNameAttributes {
			return nil, errors.New("name with too many attributes")
		}
		rdn = append(rdn, pkix.AttributeTypeAndValue{Type: oid, Value: content})
		if end != '+' {
			name, rdn = append(name, rdn), nil
		}
	}
	slices.Reverse(name)
	return name, nil
}

// readNameValue reads a value up to the "," or "+" that ends it; end is 0 at
// the end of the text.
func readNameValue(text string) (value, rest string, end byte, err error) {
	text = strings.TrimLeft(text, " ")
	if strings.HasPrefix(text, "#") || strings.HasPrefix(text, `"`) {
		return "", "", 0, errors.New(`a value in hexadecimal or in quotes is not read here; escape special characters with "\"`)
	}
	var b []byte
	solid := 0 // what is not trimmed: up to the last octet that is no plain space
	i := 0
scan:
	for ; i < len(text); i++ {
		switch c := text[i]; c {
		case ',', '+':
			end = c
			break scan
		case ';', '"', '<', '>', 0:
			return "", "", 0, fmt.Errorf("%q must be escaped", c)
		case '\\':
			octet, size, ok := readEscape(text[i+1:])
			if !ok {
				return "", "", 0, errors.New(`"\" is followed neither by a special character nor by two hexadecimal digits`)
			}
			b = append(b, octet)
			solid = len(b)
			i += size
		default:
			b = append(b, c)
			if c != ' ' {
				solid = len(b)
			}
		}
	}
	if end != 0 {
		rest = text[i+1:]
	}
	if b = b[:solid]; len(b) == 0 {
		return "", "", 0, errors.New("the value is empty")
	}
	if !utf8.Valid(b) {
		return "", "", 0, errors.New("the value is not UTF-8")
	}
	return string(b), rest, end, nil
}

// readEscape reads what follows a backslash (RFC 4514, section 2.4).
func readEscape(text string) (octet byte, size int, ok bool) {
	if text == "" {
		return 0, 0, false
	}
	if strings.IndexByte(` "#+,;<=>\`, text[0]) >= 0 {
		return text[0], 1, true
	}
	if len(text) < 2 {
		return 0, 0, false
	}
	octets, err := hex.DecodeString(text[:2])
	if err != nil {
		return 0, 0, false
	}
	return octets[0], 2, true
}
