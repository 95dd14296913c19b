package intunetest

import (
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
)

var (
	oidChallenge = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 7}
	oidUPN       = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 3}
	oidSAN       = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidKeyUsage  = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidEKU       = asn1.ObjectIdentifier{2, 5, 29, 37}
)

// csr is a device's request, read with crypto/x509: independent of the
// connector's own reader, whose mistakes it would otherwise share.
type csr struct {
	challenge string
	subject   []attribute
	names     Names
	keyUsage  int
	eku       []string
	keySize   int
	keyHash   string
	hash      string // of the DER
}

// attribute is a part of a distinguished name.
type attribute struct {
	Type  string `json:"type"` // dotted
	Value string `json:"value"`
}

// readCSR reads a request and checks its signature.
func readCSR(der []byte) (*csr, error) {
	r, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, err
	}
	if err := r.CheckSignature(); err != nil {
		return nil, err
	}
	q := &csr{hash: digest(der), keyHash: digest(r.RawSubjectPublicKeyInfo)}
	if pub, ok := r.PublicKey.(*rsa.PublicKey); ok {
		q.keySize = pub.N.BitLen()
	}
	for _, n := range r.Subject.Names {
		value, _ := n.Value.(string)
		q.subject = append(q.subject, attribute{n.Type.String(), value})
	}
	q.names = Names{DNS: r.DNSNames, Email: r.EmailAddresses}
	for _, u := range r.URIs {
		q.names.URI = append(q.names.URI, u.String())
	}
	for _, e := range r.Extensions {
		switch {
		case e.Id.Equal(oidSAN):
			q.names.UPN = append(q.names.UPN, principalNames(e.Value)...)
		case e.Id.Equal(oidKeyUsage):
			q.keyUsage = keyUsage(e.Value)
		case e.Id.Equal(oidEKU):
			q.eku = append(q.eku, usages(e.Value)...)
		}
	}
	q.challenge, err = challengePassword(r.RawTBSCertificateRequest)
	return q, err
}

// challengePassword finds the PKCS #9 attribute of that name.
func challengePassword(tbs []byte) (string, error) {
	var info struct {
		Raw        asn1.RawContent
		Version    int
		Subject    asn1.RawValue
		PublicKey  asn1.RawValue
		Attributes []asn1.RawValue `asn1:"tag:0"`
	}
	if _, err := asn1.Unmarshal(tbs, &info); err != nil {
		return "", err
	}
	for _, raw := range info.Attributes {
		var a struct {
			Type   asn1.ObjectIdentifier
			Values []asn1.RawValue `asn1:"set"`
		}
		if _, err := asn1.Unmarshal(raw.FullBytes, &a); err != nil {
			return "", err
		}
		if a.Type.Equal(oidChallenge) && len(a.Values) > 0 {
			return string(a.Values[0].Bytes), nil
		}
	}
	return "", nil
}

// principalNames returns the user principal names of a subjectAltName.
func principalNames(san []byte) []string {
	var names []asn1.RawValue
	if _, err := asn1.Unmarshal(san, &names); err != nil {
		return nil
	}
	var out []string
	for _, n := range names {
		if n.Class != asn1.ClassContextSpecific || n.Tag != 0 {
			continue
		}
		var other struct {
			Type  asn1.ObjectIdentifier
			Value asn1.RawValue // [0] EXPLICIT
		}
		if _, err := asn1.UnmarshalWithParams(n.FullBytes, &other, "tag:0"); err != nil || !other.Type.Equal(oidUPN) {
			continue
		}
		var text asn1.RawValue
		if _, err := asn1.Unmarshal(other.Value.Bytes, &text); err == nil {
			out = append(out, string(text.Bytes))
		}
	}
	return out
}

func keyUsage(value []byte) int {
	var bits asn1.BitString
	if _, err := asn1.Unmarshal(value, &bits); err != nil {
		return 0
	}
	usage := 0
	for i := range 9 {
		usage |= bits.At(i) << i
	}
	return usage
}

func usages(value []byte) []string {
	var oids []asn1.ObjectIdentifier
	if _, err := asn1.Unmarshal(value, &oids); err != nil {
		return nil
	}
	var out []string
	for _, o := range oids {
		out = append(out, o.String())
	}
	return out
}

// attributeTypes are the short names that profiles use.
var attributeTypes = map[string]string{
	"CN": "2.5.4.3", "SERIALNUMBER": "2.5.4.5", "C": "2.5.4.6", "L": "2.5.4.7", "ST": "2.5.4.8",
	"O": "2.5.4.10", "OU": "2.5.4.11", "G": "2.5.4.42", "SN": "2.5.4.4",
	"E": "1.2.840.113549.1.9.1", "DC": "0.9.2342.19200300.100.1.25", "UID": "0.9.2342.19200300.100.1.1",
}

// parseSubject reads a subject such as CN=a\,b,O=c.
func parseSubject(text string) ([]attribute, error) {
	var out []attribute
	for _, part := range splitUnescaped(text) {
		name, value, ok := strings.Cut(part, "=")
		oid := attributeTypes[strings.ToUpper(strings.TrimSpace(name))]
		if !ok || oid == "" {
			return nil, errors.New("malformed subject " + text)
		}
		out = append(out, attribute{oid, unescape(value)})
	}
	return out, nil
}

func splitUnescaped(text string) []string {
	var parts []string
	start, escaped := 0, false
	for i := 0; i < len(text); i++ {
		switch {
		case escaped:
			escaped = false
		case text[i] == '\\':
			escaped = true
		case text[i] == ',' || text[i] == '+':
			parts = append(parts, text[start:i])
			start = i + 1
		}
	}
	if text == "" {
		return nil
	}
	return append(parts, text[start:])
}

func unescape(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == '\\' && i+1 < len(text) {
			i++
		}
		b.WriteByte(text[i])
	}
	return b.String()
}

// sameSet compares two lists regardless of their order.
func sameSet(a, b []string) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

func digest(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}
