package ndesimport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
)

// Type is the type of a value, by the registry's numbers.
type Type uint32

// The types that NDES uses, and their neighbours.
const (
	String       Type = 1 // REG_SZ
	ExpandString Type = 2 // REG_EXPAND_SZ
	Binary       Type = 3 // REG_BINARY
	DWORD        Type = 4 // REG_DWORD
	MultiString  Type = 7 // REG_MULTI_SZ
	QWORD        Type = 11
)

// Value is a value of the registry.
type Value struct {
	Name   string // "" is the key's default value
	Type   Type
	Text   string   // String and ExpandString
	List   []string // MultiString
	Number uint64   // DWORD and QWORD of the right length
	Bytes  []byte   // all others

	gone bool
}

// label names a value as regedit shows it.
func (v Value) label() string {
	if v.Name == "" {
		return "(Default)"
	}
	return v.Name
}

// String shows a value. Octets are shown by their number only: NDES keeps an
// encrypted password among them.
func (v Value) String() string {
	switch {
	case v.Type == String || v.Type == ExpandString:
		return v.Text
	case v.Type == MultiString:
		return strings.Join(v.List, ", ")
	case v.isNumber():
		return strconv.FormatUint(v.Number, 10)
	}
	return fmt.Sprintf("%d octets", len(v.Bytes))
}

func (v Value) isText() bool   { return v.Type == String || v.Type == ExpandString }
func (v Value) isNumber() bool { return (v.Type == DWORD || v.Type == QWORD) && v.Bytes == nil }

// value reads what stands after the "=". removed: it was "-".
func (p *parser) value(data string) (v Value, removed bool, err error) {
	kind, body, _ := strings.Cut(data, ":")
	switch kind = strings.ToLower(kind); {
	case strings.HasPrefix(data, `"`):
		v.Type = String
		v.Text, err = p.quoted(data[1:])
	case uncomment(data) == "-":
		return v, true, nil
	case kind == "dword":
		v.Type = DWORD
		v.Number, err = hexNumber(body, 32)
	case kind == "qword":
		v.Type = QWORD
		v.Number, err = hexNumber(body, 64)
	case strings.HasPrefix(kind, "hex"):
		var b []byte
		if v.Type, err = hexType(kind); err == nil {
			b, err = p.octets(body)
		}
		if err == nil {
			v.fill(b, p.wide)
		}
	default:
		err = errors.New(`its data has an unknown form; want text in quotes, or dword, qword, hex or hex(N) before a colon`)
	}
	return v, false, err
}

// fill makes what octets mean of them.
func (v *Value) fill(b []byte, wide bool) {
	switch {
	case v.Type == String || v.Type == ExpandString:
		v.Text, _, _ = strings.Cut(octetText(b, wide), "\x00")
	case v.Type == MultiString:
		for s := range strings.SplitSeq(octetText(b, wide), "\x00") {
			if s != "" { // an empty one ends the list
				v.List = append(v.List, s)
			}
		}
	case v.Type == DWORD && len(b) == 4:
		v.Number = uint64(binary.LittleEndian.Uint32(b))
	case v.Type == QWORD && len(b) == 8:
		v.Number = binary.LittleEndian.Uint64(b)
	default:
		v.Bytes = append([]byte{}, b...)
	}
}

func octetText(b []byte, wide bool) string {
	if wide {
		return string(utf16.Decode(units(b, binary.LittleEndian)))
	}
	return fromANSI(b)
}

// quoted reads a string up to its closing quote. A line break inside one is
// written as it is.
func (p *parser) quoted(s string) (string, error) {
	var text strings.Builder
	for {
		part, rest, closed := unquote(s)
		text.WriteString(part)
		if closed {
			if rest = uncomment(rest); rest != "" {
				return "", fmt.Errorf("%.60q follows its closing quote", rest)
			}
			return text.String(), nil
		}
		more, ok := p.next()
		if !ok || text.Len()+len(more) > maxLine {
			return "", errors.New("its text has no closing quote")
		}
		text.WriteByte('\n')
		s = more
	}
}

// unquote reads up to a closing quote. Only quote and backslash are escaped;
// a backslash before anything else, which people write and regedit does not,
// is one.
func unquote(s string) (text, rest string, closed bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return b.String(), s[i+1:], true
		case s[i] == '\\' && i+1 < len(s) && (s[i+1] == '"' || s[i+1] == '\\'):
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String(), "", false
}

// uncomment drops a comment after data.
func uncomment(s string) string {
	s, _, _ = strings.Cut(s, ";")
	return strings.TrimSpace(s)
}

func hexNumber(s string, bits int) (uint64, error) {
	n, err := strconv.ParseUint(uncomment(s), 16, bits)
	if err != nil {
		return 0, fmt.Errorf("%.60q is no hexadecimal number of %d bits", s, bits)
	}
	return n, nil
}

// hexType reads "hex", which is binary, or "hex(2)".
func hexType(kind string) (Type, error) {
	if kind == "hex" {
		return Binary, nil
	}
	digits, open := strings.CutPrefix(kind, "hex(")
	digits, closed := strings.CutSuffix(digits, ")")
	n, err := strconv.ParseUint(digits, 16, 32)
	if !open || !closed || err != nil {
		return 0, fmt.Errorf("%.60q is no type of data", kind)
	}
	return Type(n), nil
}

// octets reads "01,02,\" and the lines that continue it.
func (p *parser) octets(s string) ([]byte, error) {
	var b []byte
	for {
		line, goesOn := strings.CutSuffix(uncomment(s), `\`)
		for item := range strings.SplitSeq(strings.TrimSpace(line), ",") {
			if item = strings.TrimSpace(item); item == "" {
				continue // after the last comma of a line
			}
			n, err := strconv.ParseUint(item, 16, 8)
			if err != nil {
				return nil, fmt.Errorf("%.60q is no octet in hexadecimal", item)
			}
			b = append(b, byte(n))
		}
		if !goesOn {
			return b, nil
		}
		more, ok := p.next()
		if !ok || len(b) > maxLine {
			return nil, errors.New("its octets do not end")
		}
		s = more
	}
}
