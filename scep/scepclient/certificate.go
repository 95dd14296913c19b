package scepclient

import (
	"crypto"
	"crypto/md5"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"
)

var (
	oidCommonName      = asn1.ObjectIdentifier{2, 5, 4, 3}
	oidAuthorityKeyID  = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidKeyUsage        = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidSHA256WithRSA   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}
	signerKeyUsageBits = []byte{5, 0xa0} // digitalSignature, keyEncipherment
)

// certificateFields are the encoded parts of a certificate that a message
// copies: whatever crypto/x509 thinks of the rest.
type certificateFields struct {
	serial, issuer, subject, spki []byte
}

func readCertificate(der []byte) (*certificateFields, error) {
	outer, _, err := readElement(der)
	if err != nil {
		return nil, err
	}
	tbs, _, err := readElement(outer.content)
	if err != nil {
		return nil, err
	}
	fields, err := readElements(tbs.content)
	if err != nil {
		return nil, err
	}
	if len(fields) > 0 && fields[0].tag == tagContext0 { // version
		fields = fields[1:]
	}
	if len(fields) < 6 {
		return nil, errors.New("not a certificate")
	}
	return &certificateFields{
		serial: fields[0].full, issuer: fields[2].full, subject: fields[4].full, spki: fields[5].full,
	}, nil
}

// SelfSigned makes the certificate that signs a first enrolment, in the shape
// of the platform (RFC 8894, section 2.3). Subject is the DER of the CSR's.
func SelfSigned(key *rsa.PrivateKey, subject []byte, q Quirks) (Identity, error) {
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return Identity{}, fmt.Errorf("self-signed certificate: %w", err)
	}
	digest := sha256.Sum256(spki)
	serial := new(big.Int).SetBytes(digest[:16])
	var version, extensions []byte
	usage := sequence(oid(oidKeyUsage), tlv(0x01, []byte{0xff}), octets(tlv(tagBitString, signerKeyUsageBits)))

	switch q.Signer {
	case SignerV1:
		serial.SetBytes(append([]byte{0x40}, digest[:]...)) // 33 octets
	case SignerSerialOne:
		serial.SetInt64(1)
		extensions = sequence(usage)
	case SignerUUID:
		subject = commonName(uuid())
		extensions = sequence(usage)
	case SignerCriticalAKI:
		keyID := sha1.Sum(spki)
		aki := sequence(oid(oidAuthorityKeyID), tlv(0x01, []byte{0xff}), octets(sequence(tlv(tagImplicit0, keyID[:]))))
		extensions = sequence(usage, aki)
	default:
		extensions = sequence(usage)
	}
	if extensions != nil {
		version, extensions = tlv(tagContext0, smallInteger(2)), tlv(0xa3, extensions)
	}
	signature := algorithm(oidSHA256WithRSA, null())
	now := q.now()
	validity := sequence(marshalTime(now.Add(-time.Hour)), marshalTime(now.Add(7*24*time.Hour)))
	if q.Signer == SignerV1 {
		validity = sequence(generalizedTime(now.Add(-time.Hour)), generalizedTime(now.Add(7*24*time.Hour)))
	}
	tbs := sequence(version, integer(serial), signature, subject, validity, subject, spki, extensions)
	signed, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum(crypto.SHA256, tbs))
	if err != nil {
		return Identity{}, fmt.Errorf("self-signed certificate: %w", err)
	}
	return Identity{Certificate: sequence(tbs, signature, bitString(signed)), Key: key}, nil
}

func generalizedTime(t time.Time) []byte {
	return tlv(0x18, []byte(t.UTC().Format("20060102150405Z")))
}

// commonName encodes a Name that consists of a common name.
func commonName(cn string) []byte {
	return sequence(set(sequence(oid(oidCommonName), tlv(tagPrintableString, []byte(cn)))))
}

// uuid returns a random UUID in upper case.
func uuid() string {
	b := make([]byte, 16)
	rand.Read(b)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return strings.ToUpper(fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:]))
}

// NewTransactionID derives a transaction ID in the platform's form.
func NewTransactionID(key *rsa.PublicKey, form TransactionIDForm) (string, error) {
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", fmt.Errorf("transaction ID: %w", err)
	}
	digest := sha1.Sum(spki)
	switch form {
	case UpperHexSHA1:
		return strings.ToUpper(hex.EncodeToString(digest[:])), nil
	case LowerHexSHA1:
		return hex.EncodeToString(digest[:]), nil
	case DecimalSHA256:
		d := sha256.Sum256(spki)
		d[0] |= 0x80 // 77 or 78 digits
		return new(big.Int).SetBytes(d[:]).String(), nil
	case UpperHexMD5:
		d := md5.Sum(spki)
		return strings.ToUpper(hex.EncodeToString(d[:])), nil
	case Base64SHA1:
		return base64.StdEncoding.EncodeToString(digest[:]), nil
	case UUID:
		return uuid(), nil
	}
	return "", fmt.Errorf("unknown form of transaction ID %d", form)
}

// parsedSigner is what pkcs7 needs of the certificate a reply is encrypted
// to: issuer and serial number. A full parse would fail on Windows' critical
// authorityKeyIdentifier.
func parsedSigner(der []byte) (*x509.Certificate, error) {
	f, err := readCertificate(der)
	if err != nil {
		return nil, err
	}
	serial := new(big.Int)
	if _, err := asn1.Unmarshal(f.serial, &serial); err != nil {
		return nil, fmt.Errorf("serial number: %w", err)
	}
	return &x509.Certificate{Raw: der, RawIssuer: f.issuer, RawSubject: f.subject, SerialNumber: serial}, nil
}

// MarshalName encodes a subject as UTF8String or PrintableString, as
// crypto/x509 chooses.
func MarshalName(n pkix.Name) ([]byte, error) {
	b, err := asn1.Marshal(n.ToRDNSequence())
	if err != nil {
		return nil, fmt.Errorf("encoding the subject: %w", err)
	}
	return b, nil
}
