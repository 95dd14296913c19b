// Package cms reads and writes Cryptographic Message Syntax (RFC 5652) for
// the two places that do not need what package scep knows of it: our own
// challenge, and the client side of SCEP.
//
// It has two halves. Parse is github.com/smallstep/pkcs7 behind limits: the
// library reads every BER there is, but checks neither depth nor counts and
// panics on some inputs; here it is handed only what was measured, and a panic
// is an error. SCEP's client reads its replies with it, as a second opinion on
// the encoder of package scep.
//
// Seal, Open, Sign and ReadSigned are a profile in DER with few choices, which
// the library cannot be held to: it chooses algorithms by package variables,
// knows no subjectKeyIdentifier, and ignores errors inside a SignedData.
package cms

import (
	"crypto"
	_ "crypto/sha256" // the digests of the profile
	_ "crypto/sha512"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
)

// Content types, attributes and algorithms (RFC 5652, RFC 3370, RFC 3565,
// RFC 4055, RFC 5754).
var (
	oidData          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidSignedData    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	oidEnvelopedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 3}

	oidContentType   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	oidMessageDigest = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
	oidSigningTime   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 5}

	oidRSA        = pkcs1(1)
	oidOAEP       = pkcs1(7)
	oidMGF1       = pkcs1(8)
	oidPSpecified = pkcs1(9)

	oidAES128 = nist(1, 2) // in CBC mode
	oidAES256 = nist(1, 42)
)

// digests are the hash algorithms of the profile, with the names that a
// signature over them has for RSA (PKCS #1 v1.5) and ECDSA.
var digests = []struct {
	hash           crypto.Hash
	id, rsa, ecdsa asn1.ObjectIdentifier
}{
	{crypto.SHA256, nist(2, 1), pkcs1(11), x962(2)},
	{crypto.SHA384, nist(2, 2), pkcs1(12), x962(3)},
	{crypto.SHA512, nist(2, 3), pkcs1(13), x962(4)},
}

func nist(kind, n int) asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, kind, n}
}

func pkcs1(n int) asn1.ObjectIdentifier { return asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, n} }

func x962(n int) asn1.ObjectIdentifier { return asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, n} }

var (
	// ErrMalformed is wrapped by errors about bytes that are no CMS, or none
	// that the profile knows.
	ErrMalformed = errors.New("malformed CMS")
	// ErrLimit is wrapped by errors about a message that is larger, deeper or
	// fuller than the caller allows.
	ErrLimit = errors.New("CMS message over a limit")
	// ErrNotOpened says that an envelope is for none of the keys or was
	// changed. Which of them is not said.
	ErrNotOpened = errors.New("the envelope cannot be opened")
	// ErrSignature says that a signature does not fit content, attributes and
	// certificate.
	ErrSignature = errors.New("the signature is wrong")
	// ErrUnknownSigner says that a message is signed by none of the known
	// certificates.
	ErrUnknownSigner = errors.New("signed by a certificate that is not among those known")
	// ErrUnsupported says that the library knows no such encryption.
	ErrUnsupported = errors.New("algorithm not supported")
)

// contentInfo is ContentInfo (RFC 5652, section 3), and EncapsulatedContentInfo
// too.
type contentInfo struct {
	Type    asn1.ObjectIdentifier
	Content asn1.RawValue `asn1:"explicit,optional,tag:0"`
}

type issuerAndSerial struct {
	Issuer asn1.RawValue
	Serial *big.Int
}

type attribute struct {
	Type   asn1.ObjectIdentifier
	Values []asn1.RawValue `asn1:"set"`
}

// wrap encodes a ContentInfo around an encoded content.
func wrap(id asn1.ObjectIdentifier, content []byte) ([]byte, error) {
	return asn1.Marshal(contentInfo{
		Type:    id,
		Content: asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: content},
	})
}

// unwrap decodes a ContentInfo of one type, all of it.
func unwrap(der []byte, id asn1.ObjectIdentifier) ([]byte, error) {
	var info contentInfo
	if rest, err := asn1.Unmarshal(der, &info); err != nil || len(rest) > 0 || !info.Type.Equal(id) {
		return nil, ErrMalformed
	}
	return info.Content.Bytes, nil
}

// noParameters reports whether an algorithm's parameters are absent or NULL:
// senders do both.
func noParameters(a pkix.AlgorithmIdentifier) bool {
	return len(a.Parameters.FullBytes) == 0 || a.Parameters.Tag == asn1.TagNull && len(a.Parameters.Bytes) == 0
}
