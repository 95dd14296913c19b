package policymodule

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"net/netip"
	"strings"

	"github.com/certconnector/certconnector/internal/pkcs10"
)

// The names of the rules about names and usages, whoever applies them.
const (
	RuleSubject     Reason = "subject_not_allowed"
	RuleSAN         Reason = "san_not_allowed"
	RuleExtKeyUsage Reason = "extended_key_usage"
)

// Names says which names a request may ask for. The zero value allows an
// empty subject and no subjectAltName.
//
// A pattern's "*" stands for any run of characters, and a pattern "*" alone
// for any name there is. Text is compared without regard to case. A requested
// value that holds a "*" itself, as a wildcard DNS name does, needs a pattern
// that is equal to it.
//
// A security identifier in a SAN URI is no name in this sense: Check passes it
// over, for another rule refuses it unless a party vouched for the very value.
// Such a party asks AllowsSID.
type Names struct {
	subject    []attributePattern
	san        []sanPattern
	anySubject bool
	anySAN     bool
}

type attributePattern struct {
	kind  asn1.ObjectIdentifier
	value string
}

type sanPattern struct {
	kind   string
	value  string
	prefix netip.Prefix // of kind ip
}

// The kinds of subjectAltName that a pattern may name.
const (
	sanDNS   = "dns"
	sanEmail = "email"
	sanUPN   = "upn"
	sanURI   = "uri"
	sanIP    = "ip"
	sanSID   = "sid"
)

// sidTag begins a security identifier in a SAN URI (KB5014754).
const sidTag = "tag:microsoft.com,2022-09-14:sid:"

// ParseNames reads patterns as they stand in a configuration: for the subject
// "CN=*.corp.example" or "O=Corp", every attribute of a request must match
// one; for the subjectAltName "dns:*.corp.example", "email:", "upn:", "uri:",
// "ip:10.0.0.0/8" or "sid:S-1-5-21-1-2-3-*", the last of which "*" alone does
// not include. Attribute types are the short names of RFC 4519 or
// object identifiers.
func ParseNames(subject, san []string) (Names, error) {
	var n Names
	for _, s := range subject {
		if s == "*" {
			n.anySubject = true
			continue
		}
		kind, value, ok := strings.Cut(s, "=")
		oid, known := pkcs10.AttributeType(strings.TrimSpace(kind))
		if !ok || !known || value == "" {
			return Names{}, fmt.Errorf("%q is no pattern for a subject; want one as CN=*.corp.example, O=Corp or *", s)
		}
		n.subject = append(n.subject, attributePattern{kind: oid, value: value})
	}
	for _, s := range san {
		if s == "*" {
			n.anySAN = true
			continue
		}
		p, err := parseSANPattern(s)
		if err != nil {
			return Names{}, err
		}
		n.san = append(n.san, p)
	}
	return n, nil
}

func parseSANPattern(s string) (sanPattern, error) {
	kind, value, ok := strings.Cut(s, ":")
	p := sanPattern{kind: strings.ToLower(kind), value: value}
	if ok && value != "" {
		switch p.kind {
		case sanDNS, sanEmail, sanUPN, sanURI, sanSID:
			return p, nil
		case sanIP:
			prefix, err := netip.ParsePrefix(value)
			if err != nil {
				addr, addrErr := netip.ParseAddr(value)
				if addrErr != nil {
					return p, fmt.Errorf("%q names no address and no network; want one as ip:10.1.2.0/24", s)
				}
				prefix = netip.PrefixFrom(addr, addr.BitLen())
			}
			p.prefix = prefix.Masked()
			return p, nil
		}
	}
	return p, fmt.Errorf("%q is no pattern for a subjectAltName; want one as dns:*.corp.example, email:, upn:, uri:, ip:, sid: or *", s)
}

// Any reports whether any subject and any subjectAltName may be asked for.
func (n Names) Any() (subject, san bool) { return n.anySubject, n.anySAN }

// Check returns the refusal of a request whose names are not allowed, or nil.
func (n Names) Check(csr *pkcs10.Request) *Decision {
	if d := n.CheckSubject(csr.Subject); d != nil || n.anySAN {
		return d
	}
	names, err := csr.SubjectAltNames()
	if err != nil {
		return refused(RuleSAN, "the subjectAltName cannot be read")
	}
	return n.CheckSAN(names)
}

// CheckSubject returns the refusal of a subject with an attribute that is not
// allowed, or nil.
func (n Names) CheckSubject(subject pkix.RDNSequence) *Decision {
	if n.anySubject {
		return nil
	}
	for _, rdn := range subject {
		for _, atv := range rdn {
			text, ok := atv.Value.(string)
			if !ok || !n.allowsAttribute(atv.Type, text) {
				return refused(RuleSubject, "the subject's attribute "+atv.Type.String()+" is not allowed here")
			}
		}
	}
	return nil
}

// CheckSAN returns the refusal of alternative names of which one is not
// allowed, or nil.
func (n Names) CheckSAN(names pkcs10.AltNames) *Decision {
	if n.anySAN {
		return nil
	}
	if kind, ok := n.allowsAltNames(names); !ok {
		return refused(RuleSAN, "a subjectAltName of kind "+kind+" is not allowed here")
	}
	return nil
}

func refused(rule Reason, detail string) *Decision {
	d := Refuse(rule, BadRequest, detail)
	return &d
}

// AllowsSID reports whether a pattern of kind sid allows a security
// identifier, as "S-1-5-21-1-2-3-1001".
func (n Names) AllowsSID(sid string) bool {
	for _, p := range n.san {
		if p.kind == sanSID && matches(p.value, sid) {
			return true
		}
	}
	return false
}

// SIDs returns the security identifiers in SAN URIs, as they were sent.
func SIDs(names pkcs10.AltNames) []string {
	var sids []string
	for _, uri := range names.URI {
		if isSID(uri) {
			sids = append(sids, uri[len(sidTag):])
		}
	}
	return sids
}

func isSID(uri string) bool {
	return len(uri) >= len(sidTag) && strings.EqualFold(uri[:len(sidTag)], sidTag)
}

func (n Names) allowsAttribute(kind asn1.ObjectIdentifier, value string) bool {
	for _, p := range n.subject {
		if p.kind.Equal(kind) && matches(p.value, value) {
			return true
		}
	}
	return false
}

// allowsAltNames returns the kind of the first name that is not allowed.
func (n Names) allowsAltNames(names pkcs10.AltNames) (kind string, ok bool) {
	for _, list := range []struct {
		kind   string
		values []string
	}{{sanDNS, names.DNS}, {sanEmail, names.Email}, {sanUPN, names.UPN}, {sanURI, names.URI}} {
		for _, v := range list.values {
			if !n.allowsText(list.kind, v) {
				return list.kind, false
			}
		}
	}
	for _, addr := range names.IP {
		if !n.allowsAddress(addr) {
			return sanIP, false
		}
	}
	if len(names.Others) > 0 {
		return "other", false
	}
	return "", true
}

func (n Names) allowsText(kind, value string) bool {
	if kind == sanURI && isSID(value) {
		return true // see Names
	}
	for _, p := range n.san {
		if p.kind == kind && matches(p.value, value) {
			return true
		}
	}
	return false
}

func (n Names) allowsAddress(addr netip.Addr) bool {
	for _, p := range n.san {
		if p.kind == sanIP && p.prefix.Contains(addr.Unmap()) {
			return true
		}
	}
	return false
}

// matches compares a value with a pattern in time linear in the value for
// each "*" of the pattern. Octets below 0x20 match nothing: a NUL in a name
// has fooled comparisons before.
func matches(pattern, value string) bool {
	pattern, value = strings.ToLower(pattern), strings.ToLower(value)
	for i := range len(value) {
		if value[i] < 0x20 || value[i] == 0x7f {
			return false
		}
	}
	if strings.Contains(value, "*") || !strings.Contains(pattern, "*") {
		return pattern == value
	}
	parts := strings.Split(pattern, "*")
	first, last := parts[0], parts[len(parts)-1]
	if len(value) < len(first)+len(last) || !strings.HasPrefix(value, first) || !strings.HasSuffix(value, last) {
		return false
	}
	rest := value[len(first) : len(value)-len(last)]
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(rest, part)
		if i < 0 {
			return false
		}
		rest = rest[i+len(part):]
	}
	return true
}
