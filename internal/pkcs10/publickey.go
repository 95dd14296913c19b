package pkcs10

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

const (
	maxRSABits     = 8192      // what one verification may cost us
	maxRSAExponent = 1<<31 - 1 // crypto/rsa's own limit
)

var (
	oidRSAEncryption = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidECPublicKey   = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
)

var curves = []struct {
	oid   asn1.ObjectIdentifier
	curve elliptic.Curve
}{
	{asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}, elliptic.P256()},
	{asn1.ObjectIdentifier{1, 3, 132, 0, 34}, elliptic.P384()},
	{asn1.ObjectIdentifier{1, 3, 132, 0, 35}, elliptic.P521()},
}

// ErrUnsupportedKey is wrapped by errors about keys that are neither RSA nor
// ECDSA on a NIST curve, or outside the bounds of ParsePublicKey.
var ErrUnsupportedKey = errors.New("public key not supported")

// ParsePublicKey reads a DER SubjectPublicKeyInfo into a *rsa.PublicKey or
// *ecdsa.PublicKey. An RSA modulus may have 8192 bits at most and the exponent
// must be odd and at least 3; what is too weak to certify is policy, not
// decided here.
func ParsePublicKey(spki []byte) (crypto.PublicKey, error) {
	s := cryptobyte.String(spki)
	var (
		seq cryptobyte.String
		key []byte
	)
	if !s.ReadASN1(&seq, cbasn1.SEQUENCE) || !s.Empty() {
		return nil, errors.New("malformed SubjectPublicKeyInfo")
	}
	ai, err := readAlgorithm(&seq)
	if err != nil {
		return nil, errors.New("malformed SubjectPublicKeyInfo")
	}
	if !seq.ReadASN1BitStringAsBytes(&key) || !seq.Empty() {
		return nil, errors.New("malformed SubjectPublicKeyInfo")
	}
	switch {
	case ai.Algorithm.Equal(oidRSAEncryption):
		return parseRSA(key)
	case ai.Algorithm.Equal(oidECPublicKey):
		return parseEC(ai.Parameters.FullBytes, key)
	}
	return nil, fmt.Errorf("%w: algorithm %v", ErrUnsupportedKey, ai.Algorithm)
}

func parseRSA(der []byte) (*rsa.PublicKey, error) {
	s := cryptobyte.String(der)
	var (
		seq, modulus cryptobyte.String
		e            int64
	)
	if !s.ReadASN1(&seq, cbasn1.SEQUENCE) || !s.Empty() || !seq.ReadASN1(&modulus, cbasn1.INTEGER) {
		return nil, errors.New("malformed RSA key")
	}
	if len(modulus) == 0 || modulus[0]&0x80 != 0 {
		return nil, errors.New("malformed RSA key: modulus not positive")
	}
	n := new(big.Int).SetBytes(modulus)
	if n.BitLen() > maxRSABits {
		return nil, fmt.Errorf("%w: RSA of %d bits, limit %d", ErrUnsupportedKey, n.BitLen(), maxRSABits)
	}
	if !seq.ReadASN1Integer(&e) || !seq.Empty() {
		return nil, errors.New("malformed RSA key")
	}
	if n.Bit(0) == 0 || e < 3 || e&1 == 0 || e > maxRSAExponent {
		return nil, fmt.Errorf("%w: RSA with an impossible modulus or exponent", ErrUnsupportedKey)
	}
	return &rsa.PublicKey{N: n, E: int(e)}, nil
}

func parseEC(parameters, point []byte) (*ecdsa.PublicKey, error) {
	s := cryptobyte.String(parameters)
	var oid asn1.ObjectIdentifier
	if !s.ReadASN1ObjectIdentifier(&oid) || !s.Empty() {
		return nil, fmt.Errorf("%w: elliptic curve without a name", ErrUnsupportedKey)
	}
	for _, c := range curves {
		if c.oid.Equal(oid) {
			key, err := ecdsa.ParseUncompressedPublicKey(c.curve, point)
			if err != nil {
				return nil, fmt.Errorf("malformed elliptic curve point: %w", err)
			}
			return key, nil
		}
	}
	return nil, fmt.Errorf("%w: elliptic curve %v", ErrUnsupportedKey, oid)
}

// KeyBits is the size of the requested key: bits of the RSA modulus or of the
// curve.
func (r *Request) KeyBits() int {
	switch k := r.PublicKey.(type) {
	case *rsa.PublicKey:
		return k.N.BitLen()
	case *ecdsa.PublicKey:
		return k.Curve.Params().BitSize
	}
	return 0
}
