package forwarded

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"iter"
	"net/url"
	"strings"
)

// hopsOf returns what finds the hops in one value of a header, the last first.
func hopsOf(header string) func(value string) iter.Seq[string] {
	if strings.EqualFold(header, Forwarded) {
		return forwardedHops
	}
	return listedHops
}

// listedHops are the elements of X-Forwarded-For, the last first.
func listedHops(value string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for {
			i := strings.LastIndexByte(value, ',')
			if !yield(value[i+1:]) || i < 0 {
				return
			}
			value = value[:i]
		}
	}
}

// forwardedHops are the "for" parameters of a Forwarded header (RFC 7239,
// section 4), the last first. An element without one is a hop that cannot be
// read. Quotes are looked for from the end, since what stands at the beginning
// was written by others: within an element that a proxy appended they are even
// but for those that a backslash escapes (RFC 9110, section 5.6.4), and an
// address holds neither comma nor quote.
func forwardedHops(value string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for {
			i := lastUnquoted(value, ',')
			if !yield(forParameter(value[i+1:])) || i < 0 {
				return
			}
			value = value[:i]
		}
	}
}

// lastUnquoted is the last place of a separator outside of quotes, as seen from
// the end; -1 for none.
func lastUnquoted(value string, separator byte) int {
	quoted := false
	for i := len(value) - 1; i >= 0; i-- {
		switch {
		case value[i] == '"' && !escaped(value[:i]):
			quoted = !quoted
		case value[i] == separator && !quoted:
			return i
		}
	}
	return -1
}

// escaped reports whether what follows a text is escaped: an odd number of
// backslashes stands before it.
func escaped(before string) bool {
	return (len(before)-len(strings.TrimRight(before, `\`)))%2 == 1
}

func forParameter(element string) string {
	for {
		i := lastUnquoted(element, ';')
		name, value, _ := strings.Cut(element[i+1:], "=")
		if strings.EqualFold(strings.TrimSpace(name), "for") {
			return strings.Trim(strings.TrimSpace(value), `"`)
		}
		if i < 0 {
			return ""
		}
		element = element[:i]
	}
}

// mostCertificate is how long a header with a certificate may be. One with an
// RSA-4096 key and many names takes 4 KiB.
const mostCertificate = 32 << 10

// certificates reads what a proxy handed on: nothing, or one certificate as
// URL-encoded PEM, with those that stand behind it where it sends the chain.
// Never nil without an error, so that none is told from not configured.
func certificates(headers []string) ([]*x509.Certificate, error) {
	none := []*x509.Certificate{}
	if len(headers) == 0 || len(headers) == 1 && headers[0] == "" {
		return none, nil
	}
	if len(headers) > 1 {
		return nil, errors.New("the header is there twice: the proxy adds to what the client sent instead of replacing it")
	}
	if len(headers[0]) > mostCertificate {
		return nil, fmt.Errorf("the header has %d octets, more than %d", len(headers[0]), mostCertificate)
	}
	// PathUnescape leaves "+" alone, of which base64 is full.
	text, err := url.PathUnescape(headers[0])
	if err != nil {
		return nil, errors.New("the header is not URL-encoded")
	}
	list := none
	for rest := []byte(text); strings.TrimSpace(string(rest)) != ""; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil || block.Type != "CERTIFICATE" {
			return nil, errors.New("the header is no certificate in URL-encoded PEM form")
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, errors.New("the header's certificate cannot be read")
		}
		if list = append(list, cert); len(list) > 8 {
			return nil, errors.New("the header holds more than 8 certificates")
		}
	}
	return list, nil
}
