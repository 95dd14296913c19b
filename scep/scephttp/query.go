package scephttp

import (
	"encoding/base64"
	"errors"
	"strings"
)

var errNotBase64 = errors.New("the message parameter is not base64")

// parameter returns the value of a query parameter, by name in any case, as
// it stands in the raw query. A form decoder would turn the '+' of base64 that
// Apple and jscep leave unescaped into a space.
func parameter(rawQuery, name string) (value string, found bool) {
	for pair := range strings.SplitSeq(rawQuery, "&") {
		key, value, _ := strings.Cut(pair, "=")
		if strings.EqualFold(key, name) || strings.Contains(key, "%") && strings.EqualFold(unescape(key), name) {
			return value, true
		}
	}
	return "", false
}

// decodeMessage decodes the message parameter of a GET: percent escapes, once
// more where a proxy escaped twice, and base64 in the standard or the URL-safe
// alphabet, with or without padding and line breaks, '+' raw, escaped or
// already turned into a space.
func decodeMessage(value string) ([]byte, error) {
	if strings.Contains(value, "%") {
		value = unescape(value)
	}
	if strings.Contains(value, "%") {
		value = unescape(value)
	}
	return decodeBase64(value)
}

// decodeBase64 is the leniency of decodeMessage, without the escapes.
func decodeBase64(text string) ([]byte, error) {
	b := make([]byte, 0, len(text))
	for i := range len(text) {
		switch c := text[i]; c {
		case '\r', '\n', '\t':
		case ' ', '-':
			b = append(b, '+')
		case '_':
			b = append(b, '/')
		default:
			b = append(b, c)
		}
	}
	for n := len(b); n > 0 && b[n-1] == '='; n = len(b) {
		b = b[:n-1]
	}
	n, err := base64.RawStdEncoding.Decode(b, b) // in place: the output never overtakes the input
	if err != nil || n == 0 {
		return nil, errNotBase64
	}
	return b[:n], nil
}

// unescape decodes %XX and nothing else; what is no escape stays.
func unescape(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			high, ok1 := hexDigit(s[i+1])
			low, ok2 := hexDigit(s[i+2])
			if ok1 && ok2 {
				b.WriteByte(high<<4 | low)
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}
