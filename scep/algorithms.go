package scep

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	_ "crypto/sha1" // only with Algorithms.LegacySHA1
	_ "crypto/sha256"
	_ "crypto/sha512"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Algorithms says what is accepted from devices. Its zero value is the
// strictest; MD5, single DES and RC2 are refused whatever it says
// (RFC 8894, section 2.9).
type Algorithms struct {
	LegacySHA1 bool // signatures over SHA-1, and SHA-1 in replies to them
	Legacy3DES bool // triple DES content encryption; old Android agents need it
}

// minSignerBits is the smallest RSA key that a message may be signed with.
const minSignerBits = 2048

// Content octets of object identifiers. They are compared as bytes: decoding
// them into numbers would be most of the allocations of reading a message.
const (
	oidData          = "\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01"
	oidSignedData    = "\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02"
	oidEnvelopedData = "\x2a\x86\x48\x86\xf7\x0d\x01\x07\x03"

	oidContentType   = "\x2a\x86\x48\x86\xf7\x0d\x01\x09\x03"
	oidMessageDigest = "\x2a\x86\x48\x86\xf7\x0d\x01\x09\x04"

	oidMessageType    = "\x60\x86\x48\x01\x86\xf8\x45\x01\x09\x02"
	oidPKIStatus      = "\x60\x86\x48\x01\x86\xf8\x45\x01\x09\x03"
	oidFailInfo       = "\x60\x86\x48\x01\x86\xf8\x45\x01\x09\x04"
	oidSenderNonce    = "\x60\x86\x48\x01\x86\xf8\x45\x01\x09\x05"
	oidRecipientNonce = "\x60\x86\x48\x01\x86\xf8\x45\x01\x09\x06"
	oidTransactionID  = "\x60\x86\x48\x01\x86\xf8\x45\x01\x09\x07"
	oidFailInfoText   = "\x2b\x06\x01\x05\x05\x07\x18\x01"

	oidRSAEncryption = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01"
	oidRSAESOAEP     = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x07"
	oidMGF1          = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x08"
	oidPSpecified    = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x09"
	oidRSASSAPSS     = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a"

	oidSubjectKeyID = "\x55\x1d\x0e"
)

// digestOf names the digest of a digestAlgorithm. Some stacks put the
// signature algorithm there.
func digestOf(oid []byte) crypto.Hash {
	switch string(oid) {
	case "\x60\x86\x48\x01\x65\x03\x04\x02\x01", "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b":
		return crypto.SHA256
	case "\x60\x86\x48\x01\x65\x03\x04\x02\x02", "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c":
		return crypto.SHA384
	case "\x60\x86\x48\x01\x65\x03\x04\x02\x03", "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d":
		return crypto.SHA512
	case "\x2b\x0e\x03\x02\x1a", "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05":
		return crypto.SHA1
	}
	return 0
}

// digestOID is the inverse of digestOf.
func digestOID(h crypto.Hash) string {
	switch h {
	case crypto.SHA384:
		return "\x60\x86\x48\x01\x65\x03\x04\x02\x02"
	case crypto.SHA512:
		return "\x60\x86\x48\x01\x65\x03\x04\x02\x03"
	case crypto.SHA1:
		return "\x2b\x0e\x03\x02\x1a"
	}
	return "\x60\x86\x48\x01\x65\x03\x04\x02\x01"
}

// Cipher is a content encryption algorithm.
type Cipher int

// The accepted ciphers; 0 is none.
const (
	AES128CBC Cipher = iota + 1
	AES192CBC
	AES256CBC
	TripleDESCBC
)

// ciphers is indexed by Cipher.
var ciphers = [...]struct {
	name, oid     string
	keyLen, block int
	open          func(key []byte) (cipher.Block, error)
}{
	{name: "none"},
	{"AES-128-CBC", "\x60\x86\x48\x01\x65\x03\x04\x01\x02", 16, aes.BlockSize, aes.NewCipher},
	{"AES-192-CBC", "\x60\x86\x48\x01\x65\x03\x04\x01\x16", 24, aes.BlockSize, aes.NewCipher},
	{"AES-256-CBC", "\x60\x86\x48\x01\x65\x03\x04\x01\x2a", 32, aes.BlockSize, aes.NewCipher},
	{"3DES-CBC", "\x2a\x86\x48\x86\xf7\x0d\x03\x07", 24, des.BlockSize, des.NewTripleDESCipher},
}

// String returns the usual name, such as "AES-256-CBC".
func (c Cipher) String() string {
	if c < 0 || int(c) >= len(ciphers) {
		return fmt.Sprintf("cipher(%d)", int(c))
	}
	return ciphers[c].name
}

// cipherOf looks a contentEncryptionAlgorithm up, 0 when it is not accepted.
func cipherOf(oid []byte, accept Algorithms) Cipher {
	for i := range ciphers[1:] {
		c := Cipher(i + 1)
		if string(oid) == ciphers[c].oid && (c != TripleDESCBC || accept.Legacy3DES) {
			return c
		}
	}
	return 0
}

// readAlgorithm reads an AlgorithmIdentifier: the identifier's octets and the
// whole parameters, nil when they are absent or NULL.
func readAlgorithm(s *cryptobyte.String) (oid, parameters []byte, ok bool) {
	var seq, id, rest cryptobyte.String
	var tag cbasn1.Tag
	if !s.ReadASN1(&seq, cbasn1.SEQUENCE) || !seq.ReadASN1(&id, cbasn1.OBJECT_IDENTIFIER) {
		return nil, nil, false
	}
	if seq.Empty() {
		return id, nil, true
	}
	if !seq.ReadAnyASN1Element(&rest, &tag) || !seq.Empty() {
		return nil, nil, false
	}
	if tag == cbasn1.NULL {
		return id, nil, true
	}
	return id, rest, true
}
