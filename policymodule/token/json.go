package token

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxJSONDepth bounds how deep objects and arrays are nested.
const maxJSONDepth = 8

// decodeStrict decodes one JSON object so that no two readers can disagree
// about it: UTF-8, each member known by its exact name and there once, no
// null, no character that cannot be printed, nothing after the end. names are
// the members of all objects in it.
func decodeStrict(data []byte, names []string, out any) error {
	if !utf8.Valid(data) {
		return errors.New("not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := checkValue(d, names, maxJSONDepth); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is more after the end")
	}
	d = json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(out); err != nil {
		return describe(err)
	}
	return nil
}

// describe says what a decoder did not like without the value.
func describe(err error) error {
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Errorf("member %q has a value of a wrong type", wrong.Field)
	}
	if _, ok := errors.AsType[*json.SyntaxError](err); ok || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("not JSON")
	}
	return errors.New("a member is not known where it stands")
}

// checkValue reads one value. encoding/json would take a member in any letter
// case, the last of two, and null for anything.
func checkValue(d *json.Decoder, names []string, depth int) error {
	token, err := d.Token()
	if err != nil {
		return describe(err)
	}
	switch v := token.(type) {
	case nil:
		return errors.New("null is no value here")
	case string:
		return checkText(v)
	case json.Delim:
		if depth == 0 {
			return errors.New("nested too deep")
		}
		return checkMembers(d, v, names, depth-1)
	}
	return nil
}

// checkMembers reads what is in an object or array, and its end.
func checkMembers(d *json.Decoder, kind json.Delim, names []string, depth int) error {
	seen := map[string]bool{}
	for d.More() {
		if kind == '{' {
			token, err := d.Token()
			if err != nil {
				return describe(err)
			}
			name, ok := token.(string)
			if !ok || !slices.Contains(names, name) {
				return errors.New("a member is not known")
			}
			if seen[name] {
				return fmt.Errorf("member %q comes twice", name)
			}
			seen[name] = true
		}
		if err := checkValue(d, names, depth); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return describe(err)
	}
	return nil
}

// checkText refuses what nobody means to write into a name. U+FFFD is what the
// decoder makes of half a surrogate pair.
func checkText(s string) error {
	if strings.ContainsFunc(s, func(r rune) bool { return r == utf8.RuneError || unicode.IsControl(r) }) {
		return errors.New("a text has a control character or is no Unicode")
	}
	return nil
}
