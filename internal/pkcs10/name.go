package pkcs10

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

const maxNameAttributes = 64

// ParseName reads a DER Name for people and for rules; comparisons use the bytes.
// Characters that a string type does not allow are kept, because platforms
// write "@" and "_" into a PrintableString and crypto/x509 then refuses the
// whole request. A value that is no string stays as its DER bytes.
func ParseName(der []byte) (pkix.RDNSequence, error) {
	s := cryptobyte.String(der)
	var rdns cryptobyte.String
	if !s.ReadASN1(&rdns, cbasn1.SEQUENCE) || !s.Empty() {
		return nil, errors.New("malformed name")
	}
	var (
		name pkix.RDNSequence
		n    int
	)
	for !rdns.Empty() {
		var set cryptobyte.String
		if !rdns.ReadASN1(&set, cbasn1.SET) || set.Empty() {
			return nil, errors.New("malformed name")
		}
		rdn := make(pkix.RelativeDistinguishedNameSET, 0, 1)
		for !set.Empty() {
			var (
				pair  cryptobyte.String
				value cryptobyte.String
				tag   cbasn1.Tag
				atv   pkix.AttributeTypeAndValue
			)
			if !set.ReadASN1(&pair, cbasn1.SEQUENCE) || !pair.ReadASN1ObjectIdentifier(&atv.Type) ||
				!pair.ReadAnyASN1Element(&value, &tag) || !pair.Empty() {
				return nil, errors.New("malformed name")
			}
			content := value
			content.ReadAnyASN1(&content, &tag)
			if text, ok := decodeString(tag, content); ok {
				atv.Value = text
			} else {
				atv.Value = []byte(value)
			}
			if n++; n > maxNameAttributes {
				return nil, errors.New("name with too many attributes")
			}
			rdn = append(rdn, atv)
		}
		name = append(name, rdn)
	}
	return name, nil
}

// CommonName returns the last common name of the subject, the most specific
// one, or "".
func (r *Request) CommonName() string {
	for i := len(r.Subject) - 1; i >= 0; i-- {
		for _, atv := range r.Subject[i] {
			if text, ok := atv.Value.(string); ok && atv.Type.Equal(oidCommonName) {
				return text
			}
		}
	}
	return ""
}

// SubjectString returns the subject for people, in the form of RFC 4514, with
// everything escaped that could disturb a terminal or a log.
func (r *Request) SubjectString() string { return FormatName(r.Subject) }

// FormatName writes a name in the form of RFC 4514: last RDN first, special
// and non-printing characters escaped.
func FormatName(name pkix.RDNSequence) string {
	var b strings.Builder
	for i := len(name) - 1; i >= 0; i-- {
		for j, atv := range name[i] {
			switch {
			case j > 0:
				b.WriteByte('+')
			case b.Len() > 0:
				b.WriteByte(',')
			}
			kind := atv.Type.String()
			if short, ok := shortNames[kind]; ok {
				kind = short
			}
			b.WriteString(kind)
			b.WriteByte('=')
			switch v := atv.Value.(type) {
			case string:
				escape(&b, v)
			case []byte:
				b.WriteByte('#')
				b.WriteString(hex.EncodeToString(v))
			}
		}
	}
	return b.String()
}

// escape writes a value as RFC 4514, section 2.4 wants it.
func escape(b *strings.Builder, v string) {
	for i, c := range v {
		size := utf8.RuneLen(c)
		if c == utf8.RuneError {
			_, size = utf8.DecodeRuneInString(v[i:])
		}
		first, last := i == 0, i+size == len(v)
		switch {
		case strings.ContainsRune(`,+"\<>;=`, c), c == '#' && first, c == ' ' && (first || last):
			b.WriteByte('\\')
			b.WriteRune(c)
		case unicode.IsPrint(c) && c != utf8.RuneError:
			b.WriteRune(c)
		default:
			for _, octet := range []byte(v[i : i+size]) {
				b.WriteByte('\\')
				b.WriteString(strings.ToUpper(hex.EncodeToString([]byte{octet})))
			}
		}
	}
}

// readString reads one string of any type.
func readString(s *cryptobyte.String) (string, bool) {
	var (
		content cryptobyte.String
		tag     cbasn1.Tag
	)
	if !s.ReadAnyASN1(&content, &tag) {
		return "", false
	}
	return decodeString(tag, content)
}

// decodeString returns a string type's content as UTF-8; not ok for other
// types and for octets that are no text in the type's own alphabet.
func decodeString(tag cbasn1.Tag, content []byte) (string, bool) {
	switch tag {
	case cbasn1.PrintableString, cbasn1.IA5String, cbasn1.T61String,
		asn1.TagNumericString, 26 /* VisibleString */ :
		if tag != cbasn1.T61String && utf8.Valid(content) {
			return string(content), true
		}
		return latin1(content), true // what every implementation means by T61String
	case cbasn1.UTF8String:
		return string(content), utf8.Valid(content)
	case asn1.TagBMPString:
		return bmp(content)
	case 28: // UniversalString
		return universal(content)
	}
	return "", false
}

func latin1(content []byte) string {
	runes := make([]rune, len(content))
	for i, c := range content {
		runes[i] = rune(c)
	}
	return string(runes)
}

func bmp(content []byte) (string, bool) {
	if len(content)%2 != 0 {
		return "", false
	}
	units := make([]uint16, 0, len(content)/2)
	for i := 0; i < len(content); i += 2 {
		units = append(units, uint16(content[i])<<8|uint16(content[i+1]))
	}
	return string(utf16.Decode(units)), true
}

func universal(content []byte) (string, bool) {
	if len(content)%4 != 0 {
		return "", false
	}
	runes := make([]rune, 0, len(content)/4)
	for i := 0; i < len(content); i += 4 {
		c := uint32(content[i])<<24 | uint32(content[i+1])<<16 | uint32(content[i+2])<<8 | uint32(content[i+3])
		if c > unicode.MaxRune {
			return "", false
		}
		runes = append(runes, rune(c))
	}
	return string(runes), true
}
