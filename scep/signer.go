package scep

import (
	"bytes"
	"errors"
	"math/big"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/certconnector/certconnector/internal/pkcs10"
)

// maxSerial bounds a serial number, in octets. RFC 5280 allows 20, devices send
// 33; without a bound somebody would have us print millions of digits.
const maxSerial = 64

var errCertificate = errors.New("malformed certificate")

// ParseSigner reads the certificate of a requester: the fields that a message
// is judged by, and nothing else. What crypto/x509 would refuse (a critical
// authorityKeyIdentifier, serial 0 or one of 33 octets, a subject with odd
// characters, broken extensions) is of no concern here, and nothing is
// verified: a first enrolment is signed with a certificate the device made
// itself. PublicKey is nil when its kind is not supported.
func ParseSigner(der []byte) (*Signer, error) {
	s := cryptobyte.String(der)
	var cert, tbs, issuer, subject, spki, skipped cryptobyte.String
	var serial cryptobyte.String
	if !s.ReadASN1(&cert, cbasn1.SEQUENCE) || !s.Empty() || !cert.ReadASN1(&tbs, cbasn1.SEQUENCE) ||
		!tbs.SkipOptionalASN1(cbasn1.Tag(0).ContextSpecific().Constructed()) || // version
		!tbs.ReadASN1(&serial, cbasn1.INTEGER) || len(serial) == 0 || len(serial) > maxSerial ||
		!tbs.ReadASN1(&skipped, cbasn1.SEQUENCE) || // signature
		!tbs.ReadASN1Element(&issuer, cbasn1.SEQUENCE) ||
		!tbs.ReadASN1(&skipped, cbasn1.SEQUENCE) || // validity
		!tbs.ReadASN1Element(&subject, cbasn1.SEQUENCE) ||
		!tbs.ReadASN1Element(&spki, cbasn1.SEQUENCE) {
		return nil, errCertificate
	}
	signer := &Signer{
		Raw: der, RawIssuer: issuer, RawSubject: subject, RawSubjectPublicKeyInfo: spki,
		Serial: integer(serial), RawSerial: serial, SelfIssued: bytes.Equal(issuer, subject),
	}
	if key, err := pkcs10.ParsePublicKey(spki); err == nil {
		signer.PublicKey = key
	}
	return signer, nil
}

// integer reads an INTEGER's content, shortest or not, negative or not.
func integer(content []byte) *big.Int {
	n := new(big.Int).SetBytes(content)
	if len(content) > 0 && content[0]&0x80 != 0 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(len(content))*8))
	}
	return n
}

// subjectKeyID finds the subjectKeyIdentifier of a certificate, nil when there
// is none. Only messages that name their signer by it pay for the search.
func subjectKeyID(der []byte) []byte {
	s := cryptobyte.String(der)
	var cert, tbs, wrapped, extensions cryptobyte.String
	if !s.ReadASN1(&cert, cbasn1.SEQUENCE) || !cert.ReadASN1(&tbs, cbasn1.SEQUENCE) {
		return nil
	}
	for !tbs.Empty() {
		var (
			field cryptobyte.String
			tag   cbasn1.Tag
		)
		if !tbs.ReadAnyASN1(&field, &tag) {
			return nil
		}
		if tag == cbasn1.Tag(3).ContextSpecific().Constructed() {
			wrapped = field
		}
	}
	if !wrapped.ReadASN1(&extensions, cbasn1.SEQUENCE) {
		return nil
	}
	for !extensions.Empty() {
		var ext, oid, value, id cryptobyte.String
		if !extensions.ReadASN1(&ext, cbasn1.SEQUENCE) || !ext.ReadASN1(&oid, cbasn1.OBJECT_IDENTIFIER) {
			return nil
		}
		if string(oid) == oidSubjectKeyID && ext.SkipOptionalASN1(cbasn1.BOOLEAN) &&
			ext.ReadASN1(&value, cbasn1.OCTET_STRING) && value.ReadASN1(&id, cbasn1.OCTET_STRING) {
			return id
		}
	}
	return nil
}

// identifier names a certificate in a SignerInfo or RecipientInfo, either by
// issuer and serial or by key identifier.
type identifier struct {
	issuer, serial []byte // DER Name; INTEGER content
	keyID          []byte
}

// readIdentifier reads a SignerIdentifier or RecipientIdentifier (RFC 5652,
// sections 5.3 and 6.2.1).
func readIdentifier(s *cryptobyte.String) (id identifier, ok bool) {
	var seq, issuer, serial, keyID cryptobyte.String
	if s.PeekASN1Tag(cbasn1.SEQUENCE) {
		ok = s.ReadASN1(&seq, cbasn1.SEQUENCE) && seq.ReadASN1Element(&issuer, cbasn1.SEQUENCE) &&
			seq.ReadASN1(&serial, cbasn1.INTEGER) && seq.Empty()
		return identifier{issuer: issuer, serial: serial}, ok
	}
	if s.PeekASN1Tag(cbasn1.Tag(0).ContextSpecific()) {
		ok = s.ReadASN1(&keyID, cbasn1.Tag(0).ContextSpecific())
		return identifier{keyID: keyID}, ok
	}
	// [0] EXPLICIT, as some stacks write it.
	var wrapped cryptobyte.String
	ok = s.ReadASN1(&wrapped, cbasn1.Tag(0).ContextSpecific().Constructed()) &&
		wrapped.ReadASN1(&keyID, cbasn1.OCTET_STRING) && wrapped.Empty()
	return identifier{keyID: keyID}, ok
}

// names tells whether the identifier means the certificate with this issuer,
// serial and key identifier. Devices re-encode names with other string types,
// hence the second look at a name whose bytes differ.
func (id identifier) names(issuer, serial []byte, keyID func() []byte) bool {
	if id.issuer == nil {
		return len(id.keyID) > 0 && bytes.Equal(id.keyID, keyID())
	}
	return sameSerial(id.serial, serial) && (bytes.Equal(id.issuer, issuer) || sameName(id.issuer, issuer))
}

// sameSerial compares INTEGER contents by value: leading zeros do not count.
func sameSerial(a, b []byte) bool {
	return bytes.Equal(a, b) || len(a) > 0 && len(b) > 0 && integer(a).Cmp(integer(b)) == 0
}

// sameName compares two DER Names by what they say (RFC 5280, section 7.1):
// string types, case and repeated spaces do not count.
func sameName(a, b []byte) bool {
	x, err := pkcs10.ParseName(a)
	if err != nil {
		return false
	}
	y, err := pkcs10.ParseName(b)
	if err != nil || len(x) != len(y) {
		return false
	}
	for i := range x {
		if len(x[i]) != len(y[i]) {
			return false
		}
		for j := range x[i] {
			if !x[i][j].Type.Equal(y[i][j].Type) || !sameValue(x[i][j].Value, y[i][j].Value) {
				return false
			}
		}
	}
	return true
}

func sameValue(a, b any) bool {
	switch x := a.(type) {
	case string:
		y, ok := b.(string)
		return ok && strings.EqualFold(strings.Join(strings.Fields(x), " "), strings.Join(strings.Fields(y), " "))
	case []byte:
		y, ok := b.([]byte)
		return ok && bytes.Equal(x, y)
	}
	return false
}
