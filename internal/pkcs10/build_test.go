package pkcs10_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"testing"
	"unicode/utf16"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/certconnector/certconnector/internal/pkcs10"
	"github.com/certconnector/certconnector/internal/testkeys"
)

// csr builds requests byte by byte, so that a test can send what no library
// would write.
type csr struct {
	subject    []byte // DER Name; default CN=device
	attributes [][]byte
	noField    bool // leave the attributes field out altogether
	sha1       bool
	breakSig   bool
	key        *rsa.PrivateKey
}

type stringType = cbasn1.Tag

const (
	bmpString       stringType = 30
	universalString stringType = 28
)

func der(tag cbasn1.Tag, parts ...[]byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(tag, func(b *cryptobyte.Builder) {
		for _, p := range parts {
			b.AddBytes(p)
		}
	})
	return b.BytesOrPanic()
}

func seq(parts ...[]byte) []byte { return der(cbasn1.SEQUENCE, parts...) }
func set(parts ...[]byte) []byte { return der(cbasn1.SET, parts...) }

func oid(o asn1.ObjectIdentifier) []byte {
	var b cryptobyte.Builder
	b.AddASN1ObjectIdentifier(o)
	return b.BytesOrPanic()
}

func attribute(o asn1.ObjectIdentifier, values ...[]byte) []byte { return seq(oid(o), set(values...)) }

func rdn(o asn1.ObjectIdentifier, tag cbasn1.Tag, value string) []byte {
	return set(seq(oid(o), der(tag, []byte(value))))
}

func extension(o asn1.ObjectIdentifier, value []byte) []byte {
	return seq(oid(o), der(cbasn1.OCTET_STRING, value))
}

func bmp(s string) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = append(b, byte(u>>8), byte(u))
	}
	return der(bmpString, b)
}

func pair(name, value string) []byte {
	return attribute(pkcs10.OIDNameValuePair, seq(bmp(name), bmp(value)))
}

func (c csr) build(t testing.TB) []byte {
	t.Helper()
	if c.key == nil {
		c.key = testkeys.RSA2048(0)
	}
	if c.subject == nil {
		c.subject = seq(rdn(asn1.ObjectIdentifier{2, 5, 4, 3}, cbasn1.UTF8String, "device"))
	}
	spki, err := x509.MarshalPKIXPublicKey(c.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	parts := [][]byte{{2, 1, 0}, c.subject, spki}
	if !c.noField {
		parts = append(parts, der(cbasn1.Tag(0).ContextSpecific().Constructed(), c.attributes...))
	}
	tbs := seq(parts...)
	algorithm, hash := asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, crypto.SHA256
	sum := sha256.Sum256(tbs)
	digest := sum[:]
	if c.sha1 {
		algorithm, hash = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 5}, crypto.SHA1
		sum := sha1.Sum(tbs)
		digest = sum[:]
	}
	if c.breakSig {
		digest[0] ^= 1
	}
	signature, err := rsa.SignPKCS1v15(rand.Reader, c.key, hash, digest)
	if err != nil {
		t.Fatal(err)
	}
	return seq(tbs, seq(oid(algorithm), []byte{5, 0}), der(cbasn1.BIT_STRING, append([]byte{0}, signature...)))
}
