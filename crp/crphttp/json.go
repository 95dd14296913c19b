package crphttp

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode"
	"unicode/utf8"
)

// object is a JSON object (RFC 8259) by its members: text, numbers as they
// were written, truth values; whatever is nested or null is there without its
// content, for no member of ours is.
type object map[string]any

// other stands for a value that is no text, number or truth value.
type other struct{}

// readObject reads a body that is one JSON object. Members that are not known
// here may come from a later version and are passed over; what can be read in
// two ways is refused: a member that comes twice, at any depth, text that is
// not UTF-8, anything after the object.
func readObject(body []byte) (object, error) {
	switch {
	case !utf8.Valid(body):
		return nil, errors.New("the body is not UTF-8")
	case tooDeep(body):
		return nil, fmt.Errorf("the body is nested deeper than %d", maxDepth)
	case !json.Valid(body):
		return nil, errors.New("the body is not JSON")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if first, err := d.Token(); err != nil || first != json.Delim('{') {
		return nil, errors.New("the body is not a JSON object")
	}
	return readMembers(d)
}

// tooDeep looks before any recursion does. Brackets in text do not count.
func tooDeep(body []byte) bool {
	depth, quoted := 0, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}

// readMembers reads an object whose brace is behind. The body is known to be
// valid JSON.
func readMembers(d *json.Decoder) (object, error) {
	o := object{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, fmt.Errorf("reading the body: %w", err)
		}
		member, _ := name.(string)
		if _, twice := o[member]; twice {
			return nil, errors.New("a member comes twice in one object")
		}
		if o[member], err = readValue(d); err != nil {
			return nil, err
		}
	}
	_, err := d.Token()
	return o, err
}

func readValue(d *json.Decoder) (any, error) {
	v, err := d.Token()
	if err != nil {
		return nil, fmt.Errorf("reading the body: %w", err)
	}
	switch v {
	case json.Delim('{'):
		_, err = readMembers(d)
		return other{}, err
	case json.Delim('['):
		for d.More() {
			if _, err := readValue(d); err != nil {
				return nil, err
			}
		}
		_, err = d.Token()
		return other{}, err
	case nil:
		return other{}, nil
	}
	return v, nil
}

// text returns a member that is text of at most so many octets, without
// control characters; "" when it is absent.
func (o object) text(name string, most int) (string, error) {
	v, there := o[name]
	if !there {
		return "", nil
	}
	s, ok := v.(string)
	switch {
	case !ok:
		return "", fmt.Errorf("%s is not text", name)
	case len(s) > most:
		return "", fmt.Errorf("%s is longer than %d octets", name, most)
	}
	for _, r := range s {
		if unicode.IsControl(r) {
			return "", fmt.Errorf("%s has control characters", name)
		}
	}
	return s, nil
}

// required is text that must be there.
func (o object) required(name string, most int) (string, error) {
	s, err := o.text(name, most)
	if err == nil && s == "" {
		err = fmt.Errorf("%s is missing", name)
	}
	return s, err
}

// octets returns a member in padded standard base64 (RFC 4648, section 4),
// nil when it is absent.
func (o object) octets(name string, most int) ([]byte, error) {
	s, err := o.text(name, base64.StdEncoding.EncodedLen(most))
	if err != nil || s == "" {
		return nil, err
	}
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s is not base64", name)
	case len(b) > most:
		return nil, fmt.Errorf("%s is longer than %d octets", name, most)
	}
	return b, nil
}

func (o object) requiredOctets(name string, most int) ([]byte, error) {
	b, err := o.octets(name, most)
	if err == nil && len(b) == 0 {
		err = fmt.Errorf("%s is missing", name)
	}
	return b, err
}

// hresult returns a member that is an HRESULT, signed or unsigned, 0 when it
// is absent.
func (o object) hresult(name string) (int32, error) {
	v, there := o[name]
	if !there {
		return 0, nil
	}
	number, ok := v.(json.Number)
	if !ok {
		return 0, fmt.Errorf("%s is not a number", name)
	}
	n, err := strconv.ParseInt(number.String(), 10, 64)
	if err != nil || n < -1<<31 || n >= 1<<32 {
		return 0, fmt.Errorf("%s is not an HRESULT of 32 bits", name)
	}
	return int32(uint32(n)), nil //nolint:gosec // both signs name the same bits
}
