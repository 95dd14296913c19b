package embedded

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"

	"github.com/certconnector/certconnector/internal/keys"
)

// KeyKind names an algorithm and size of key; see package internal/keys.
type KeyKind = keys.Kind

// The kinds of key a CA, a registration authority or a TLS server may have.
const (
	RSA2048 = keys.RSA2048
	RSA3072 = keys.RSA3072
	RSA4096 = keys.RSA4096
	P256    = keys.P256
	P384    = keys.P384
)

// KeyKinds lists every kind of key.
func KeyKinds() []KeyKind { return keys.Kinds() }

// ParseKeyKind reads the name of a kind, any case.
func ParseKeyKind(s string) (KeyKind, error) { return keys.ParseKind(s) }

// GenerateKey makes a private key.
func GenerateKey(kind KeyKind) (crypto.Signer, error) { return keys.Generate(kind) }

// signatureAlgorithm is how a CA signs. RSASSA-PSS and SHA-1 are left out:
// some devices refuse certificates that are signed so.
type signatureAlgorithm struct {
	hash crypto.Hash
	id   pkix.AlgorithmIdentifier
	size int // an upper bound of the signature's length, for the buffer
}

var (
	oidSHA256WithRSA   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}
	oidECDSAWithSHA256 = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}
	oidECDSAWithSHA384 = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}
)

// algorithmFor chooses the algorithm by the CA's key.
func algorithmFor(pub crypto.PublicKey) (signatureAlgorithm, error) {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() < minRSABits {
			return signatureAlgorithm{}, fmt.Errorf("the CA key has %d bits, at least %d are needed", k.N.BitLen(), minRSABits)
		}
		id := pkix.AlgorithmIdentifier{Algorithm: oidSHA256WithRSA, Parameters: asn1.NullRawValue}
		return signatureAlgorithm{hash: crypto.SHA256, id: id, size: k.Size()}, nil
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return signatureAlgorithm{hash: crypto.SHA256, id: pkix.AlgorithmIdentifier{Algorithm: oidECDSAWithSHA256}, size: 72}, nil
		case elliptic.P384():
			return signatureAlgorithm{hash: crypto.SHA384, id: pkix.AlgorithmIdentifier{Algorithm: oidECDSAWithSHA384}, size: 104}, nil
		}
	}
	return signatureAlgorithm{}, fmt.Errorf("a CA key must be RSA, P-256 or P-384, not %T", pub)
}
