package jobs

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// caNames are the ways in which others write which CA they mean: the name in
// our configuration, which the cloud was told with each certificate, and the
// common name or the distinguished name of any certificate in its chain.
type caNames struct {
	plain map[string]bool
	names [][]string
}

func namesOf(name string, chain []*x509.Certificate) caNames {
	n := caNames{plain: map[string]bool{fold(name): true}}
	for _, cert := range chain {
		if cn := fold(cert.Subject.CommonName); cn != "" {
			n.plain[cn] = true
		}
		var rdns pkix.RDNSequence
		if rest, err := asn1.Unmarshal(cert.RawSubject, &rdns); err == nil && len(rest) == 0 && len(rdns) > 0 {
			n.names = append(n.names, canonical(rdns))
		}
	}
	return n
}

// match tells whether a text names the CA. Case and the number of blanks do
// not count, nor does which end of a distinguished name comes first.
func (n caNames) match(text string) bool {
	folded := fold(text)
	if folded == "" {
		return false
	}
	if n.plain[folded] {
		return true
	}
	// As the configuration string of a Microsoft CA: host\name.
	if i := strings.LastIndexByte(folded, '\\'); i >= 0 && !strings.Contains(folded, "=") && n.plain[folded[i+1:]] {
		return true
	}
	list, ok := parseName(text)
	if !ok {
		return false
	}
	backwards := slices.Clone(list)
	slices.Reverse(backwards)
	return slices.ContainsFunc(n.names, func(own []string) bool {
		return slices.Equal(own, list) || slices.Equal(own, backwards)
	})
}

func fold(s string) string { return strings.ToLower(strings.Join(strings.Fields(s), " ")) }

// attributeNames are what programs write for attribute types (RFC 4514,
// section 3, and what Microsoft's and OpenSSL's tools write besides).
var attributeNames = map[string]string{
	"2.5.4.3": "cn", "2.5.4.4": "sn", "2.5.4.5": "serialnumber", "2.5.4.6": "c", "2.5.4.7": "l", "2.5.4.8": "st",
	"2.5.4.9": "street", "2.5.4.10": "o", "2.5.4.11": "ou", "2.5.4.12": "t", "2.5.4.42": "g", "2.5.4.17": "postalcode",
	"0.9.2342.19200300.100.1.25": "dc", "0.9.2342.19200300.100.1.1": "uid", "1.2.840.113549.1.9.1": "e",
	"s": "st", "emailaddress": "e", "email": "e", "commonname": "cn", "organizationname": "o", "title": "t", "gn": "g", "givenname": "g",
	"streetaddress": "street", "domaincomponent": "dc", "stateorprovincename": "st", "localityname": "l", "countryname": "c",
	"organizationalunitname": "ou",
}

func attribute(kind, value string) string {
	kind = strings.ToLower(strings.TrimSpace(kind))
	kind = strings.TrimPrefix(kind, "oid.")
	if known, ok := attributeNames[kind]; ok {
		kind = known
	}
	return kind + "=" + fold(value)
}

// canonical writes a name as a list of its parts, from the root down.
func canonical(rdns pkix.RDNSequence) []string {
	list := make([]string, 0, len(rdns))
	for _, rdn := range rdns {
		var parts []string
		for _, a := range rdn {
			parts = append(parts, attribute(a.Type.String(), fmt.Sprint(a.Value)))
		}
		list = append(list, joined(parts))
	}
	return list
}

// joined writes the attributes of one part of a name: their order says nothing.
func joined(attributes []string) string {
	slices.Sort(attributes)
	return strings.Join(attributes, "+")
}

const (
	maxNameText  = 2048 // octets
	maxNameParts = 64
)

// parseName reads a distinguished name as RFC 4514, as Windows (semicolons and
// quotes too) or as OpenSSL (/C=…/CN=…) writes it.
func parseName(text string) ([]string, bool) {
	text = strings.TrimSpace(text)
	if len(text) > maxNameText {
		return nil, false
	}
	separators := ",;"
	if rest, ok := strings.CutPrefix(text, "/"); ok {
		text, separators = rest, "/"
	}
	var list, attributes []string
	for rest := text; rest != ""; {
		kind, after, ok := strings.Cut(rest, "=")
		if !ok || strings.TrimSpace(kind) == "" || len(list) >= maxNameParts || len(attributes) >= maxNameParts {
			return nil, false
		}
		value, end, left, ok := cutValue(after, separators)
		if !ok {
			return nil, false
		}
		attributes = append(attributes, attribute(kind, value))
		if rest = left; end != '+' {
			list, attributes = append(list, joined(attributes)), nil
		}
		if end != 0 && strings.TrimSpace(rest) == "" {
			return nil, false // ends with a separator
		}
	}
	return list, len(list) > 0
}

// cutValue takes an attribute's value off s, up to a separator or a plus sign,
// which it returns (0: the end).
func cutValue(s, separators string) (value string, end byte, rest string, ok bool) {
	s = strings.TrimLeft(s, " \t")
	var b strings.Builder
	quoted := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\':
			if pair, err := hex.DecodeString(s[min(i+1, len(s)):min(i+3, len(s))]); err == nil && len(pair) == 1 {
				b.WriteByte(pair[0])
				i += 2
				continue
			}
			if i++; i == len(s) {
				return "", 0, "", false
			}
			b.WriteByte(s[i])
		case c == '"':
			quoted = !quoted
		case !quoted && (c == '+' || strings.IndexByte(separators, c) >= 0):
			return b.String(), c, s[i+1:], true
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), 0, "", !quoted
}
