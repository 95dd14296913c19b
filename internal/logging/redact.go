package logging

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/certconnector/certconnector/internal/pkcs10"
)

// redacted stands where a value must not be seen.
const redacted = "[redacted]"

// clean returns the fields as they may be written. It copies only if it must.
func clean(fields []zapcore.Field) []zapcore.Field {
	var out []zapcore.Field
	for i, f := range fields {
		c, changed := cleanField(f)
		if !changed {
			continue
		}
		if out == nil {
			out = slices.Clone(fields)
		}
		out[i] = c
	}
	if out == nil {
		return fields
	}
	return out
}

func cleanField(f zapcore.Field) (zapcore.Field, bool) {
	switch f.Type {
	case zapcore.StringType:
		if s := Printable(f.String); s != f.String {
			return zap.String(f.Key, s), true
		}
	case zapcore.ErrorType:
		// An error may quote what a device sent.
		if err, ok := f.Interface.(error); ok && err != nil {
			if s := err.Error(); Printable(s) != s {
				return zap.NamedError(f.Key, errors.New(Printable(s))), true
			}
		}
	case zapcore.BinaryType, zapcore.ByteStringType:
		// Bytes are messages, requests or keys: their length is all a log needs.
		b, _ := f.Interface.([]byte)
		return zap.String(f.Key, fmt.Sprintf("%d bytes", len(b))), true
	case zapcore.ReflectType, zapcore.StringerType:
		if sensitive(f.Interface) {
			return zap.String(f.Key, redacted), true
		}
		if s, ok := f.Interface.(fmt.Stringer); ok && f.Type == zapcore.StringerType {
			return printableStringer(f, s)
		}
	}
	return f, false
}

// printableStringer keeps the Stringer where it can, so that a nil pointer is
// still the encoder's business.
func printableStringer(f zapcore.Field, s fmt.Stringer) (out zapcore.Field, changed bool) {
	defer func() {
		if recover() != nil { // a nil pointer: zap prints <nil>
			out, changed = f, false
		}
	}()
	text := s.String()
	if p := Printable(text); p != text {
		return zap.String(f.Key, p), true
	}
	return f, false
}

// sensitive reports whether a type may hold a key, a challenge or a token.
func sensitive(v any) bool {
	switch v.(type) {
	case crypto.Signer, crypto.Decrypter, *tls.Certificate, tls.Certificate,
		*x509.CertificateRequest, *pkcs10.Request, pkcs10.Request,
		http.Header, *http.Request, *http.Response, *url.URL, url.URL, url.Values:
		return true
	}
	return false
}

// Printable returns a text in which everything that could steer a terminal or
// mislead a reader (control characters, direction marks, bytes that are no
// text) is written as an escape. Other scripts stay as they are.
func Printable(s string) string {
	if !strings.ContainsFunc(s, unprintable) && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], string(utf8.RuneError)):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case unprintable(r):
			q := strconv.QuoteToASCII(string(r))
			b.WriteString(q[1 : len(q)-1])
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

func unprintable(r rune) bool { return r != ' ' && !unicode.IsPrint(r) }
