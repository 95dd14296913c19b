package token

import (
	"cmp"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/certconnector/certconnector/internal/pkcs10"
)

// The types of keys that a challenge may ask for.
const (
	keyRSA = "rsa"
	keyEC  = "ec"
)

// hashes are the least digests that a challenge may ask for, weakest first by
// their sizes.
var hashes = map[string]crypto.Hash{"sha256": crypto.SHA256, "sha384": crypto.SHA384, "sha512": crypto.SHA512}

// keyUsages are the names of RFC 5280, section 4.2.1.3, without those that
// only a CA has; contentCommitment is X.509's newer name of nonRepudiation.
var keyUsages = map[string]x509.KeyUsage{
	"digitalSignature":  x509.KeyUsageDigitalSignature,
	"nonRepudiation":    x509.KeyUsageContentCommitment,
	"contentCommitment": x509.KeyUsageContentCommitment,
	"keyEncipherment":   x509.KeyUsageKeyEncipherment,
	"dataEncipherment":  x509.KeyUsageDataEncipherment,
	"keyAgreement":      x509.KeyUsageKeyAgreement,
	"encipherOnly":      x509.KeyUsageEncipherOnly,
	"decipherOnly":      x509.KeyUsageDecipherOnly,
}

func readKeyUsage(names []string) (bits int, err error) {
	for _, name := range names {
		bit, known := keyUsages[name]
		if !known {
			return 0, errors.New("key_usage has a name that is not known, or that only a CA has")
		}
		bits |= int(bit)
	}
	if bits == 0 {
		return 0, errors.New("key_usage is empty: leave it out, or name one")
	}
	return bits, nil
}

// readSubject reads the claim of a subject, in the order of the DER.
func readSubject(list [][]attributeClaim) (pkix.RDNSequence, error) {
	name := make(pkix.RDNSequence, 0, len(list))
	for _, attributes := range list {
		rdn := make(pkix.RelativeDistinguishedNameSET, 0, len(attributes))
		for _, a := range attributes {
			oid, known := pkcs10.AttributeType(a.Type)
			if !known || a.Value == "" {
				return nil, errors.New("subject has an attribute of an unknown type or without a value")
			}
			rdn = append(rdn, pkix.AttributeTypeAndValue{Type: oid, Value: a.Value})
		}
		if len(rdn) == 0 {
			return nil, errors.New("subject has an empty RDN")
		}
		name = append(name, rdn)
	}
	return name, nil
}

// writeSubject is the reverse.
func writeSubject(name pkix.RDNSequence) [][]attributeClaim {
	list := make([][]attributeClaim, 0, len(name))
	for _, rdn := range name {
		var attributes []attributeClaim
		for _, atv := range rdn {
			text, _ := atv.Value.(string) // ParseNameText makes no others
			attributes = append(attributes, attributeClaim{Type: atv.Type.String(), Value: text})
		}
		list = append(list, attributes)
	}
	return list
}

// sameSubject compares two names RDN by RDN: equal types, equal values as
// decoded texts whatever string type they came in. The order within one RDN
// is no part of a name, the order of RDNs is.
func sameSubject(a, b pkix.RDNSequence) bool {
	return slices.EqualFunc(a, b, func(x, y pkix.RelativeDistinguishedNameSET) bool {
		left, ok := sortedRDN(x)
		right, okToo := sortedRDN(y)
		return ok && okToo && slices.Equal(left, right)
	})
}

// sortedRDN is not ok for a value that is no text.
func sortedRDN(rdn pkix.RelativeDistinguishedNameSET) ([]attributeClaim, bool) {
	var list []attributeClaim
	for _, atv := range rdn {
		text, ok := atv.Value.(string)
		if !ok {
			return nil, false
		}
		list = append(list, attributeClaim{atv.Type.String(), text})
	}
	slices.SortFunc(list, func(a, b attributeClaim) int {
		return cmp.Or(strings.Compare(a.Type, b.Type), strings.Compare(a.Value, b.Value))
	})
	return list, true
}

// readSAN reads the claim of alternative names.
func readSAN(list []sanClaim) (names pkcs10.AltNames, err error) {
	seen := map[sanClaim]bool{}
	for _, n := range list {
		if seen[n] {
			return names, errors.New("san has a name twice")
		}
		seen[n] = true
		set := 0
		for _, field := range []struct {
			value string
			to    *[]string
		}{{n.DNS, &names.DNS}, {n.Email, &names.Email}, {n.UPN, &names.UPN}, {n.URI, &names.URI}} {
			if field.value != "" {
				*field.to = append(*field.to, field.value)
				set++
			}
		}
		if n.IP != "" {
			addr, err := netip.ParseAddr(n.IP)
			if err != nil || addr.Zone() != "" || addr.Is4In6() || addr.String() != n.IP {
				return names, errors.New("san has an ip that is no address in its usual form")
			}
			names.IP = append(names.IP, addr)
			set++
		}
		if set != 1 {
			return names, errors.New("each entry of san has one member: dns, email, upn, uri or ip")
		}
	}
	return names, nil
}

// sameSAN compares names as sets, each name byte for byte. A request with a
// name twice, or with a kind that cannot be claimed, is never the same.
func sameSAN(claimed, asked pkcs10.AltNames) bool {
	return sameTexts(claimed.DNS, asked.DNS) && sameTexts(claimed.Email, asked.Email) && sameTexts(claimed.UPN, asked.UPN) &&
		sameTexts(claimed.URI, asked.URI) && len(asked.Others) == 0 &&
		slices.Equal(slices.SortedFunc(slices.Values(claimed.IP), netip.Addr.Compare), slices.SortedFunc(slices.Values(asked.IP), netip.Addr.Compare))
}

func sameTexts(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// parseOID reads the dotted form.
func parseOID(dotted string) (asn1.ObjectIdentifier, bool) {
	if _, err := x509.ParseOID(dotted); err != nil {
		return nil, false
	}
	var oid asn1.ObjectIdentifier
	for arc := range strings.SplitSeq(dotted, ".") {
		n, err := strconv.Atoi(arc)
		if err != nil {
			return nil, false
		}
		oid = append(oid, n)
	}
	return oid, true
}
