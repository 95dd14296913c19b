package intune

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"
	"math/big"
	"os"
	"strings"
)

// PFXPadding is how the password of an imported PFX is encrypted. Graph
// compares without regard to case.
type PFXPadding string

// The paddings. Graph knows pkcs1 and oaepSha1 too, which Microsoft does not
// support any more.
const (
	PFXPaddingNone   PFXPadding = "none" // Microsoft's import module encrypts as with oaepSha512
	PFXPaddingSHA256 PFXPadding = "oaepSha256"
	PFXPaddingSHA384 PFXPadding = "oaepSha384"
	PFXPaddingSHA512 PFXPadding = "oaepSha512"
)

// parse finds a padding, however it is written, and its digest.
func (p PFXPadding) parse() (PFXPadding, func() hash.Hash, error) {
	if p == "" {
		return PFXPaddingSHA512, sha512.New, nil
	}
	for _, known := range []struct {
		name   PFXPadding
		digest func() hash.Hash
	}{{PFXPaddingNone, sha512.New}, {PFXPaddingSHA256, sha256.New}, {PFXPaddingSHA384, sha512.New384}, {PFXPaddingSHA512, sha512.New}} {
		if strings.EqualFold(string(p), string(known.name)) {
			return known.name, known.digest, nil
		}
	}
	return "", nil, fmt.Errorf("padding scheme %q is unknown: use oaepSha512, oaepSha384, oaepSha256 or none", p)
}

// SealPFXPassword encrypts the password of a PFX for the connector that
// delivers it, with RSA-OAEP (RFC 8017, section 7.1). The password's
// characters must be Latin-1, of which each goes as one octet: Microsoft's
// import module drops the rest of any other.
func SealPFXPassword(pub *rsa.PublicKey, scheme PFXPadding, password string) ([]byte, error) {
	_, digest, err := scheme.parse()
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrArgument, err)
	}
	if password == "" {
		return nil, fmt.Errorf("%w: the password is empty", ErrArgument)
	}
	octets := make([]byte, 0, len(password))
	for _, r := range password {
		if r == 0 || r > 0xff {
			return nil, fmt.Errorf("%w: the password has a character outside Latin-1", ErrArgument)
		}
		octets = append(octets, byte(r))
	}
	defer clear(octets)
	if err := checkPFXKey(pub); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrArgument, err)
	}
	sealed, err := rsa.EncryptOAEP(digest(), rand.Reader, pub, octets, nil)
	if err != nil {
		return nil, fmt.Errorf("encrypting the password of a PFX: %w", err)
	}
	return sealed, nil
}

// LoadPFXPublicKey reads the file with the public key that passwords are
// encrypted with: PEM, or what Microsoft's import module exports.
func LoadPFXPublicKey(path string) (*rsa.PublicKey, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the public key for PFX passwords: %w", err)
	}
	pub, err := ParsePFXPublicKey(data)
	if err != nil {
		return nil, fmt.Errorf("public key for PFX passwords %q: %w", path, err)
	}
	return pub, nil
}

// ParsePFXPublicKey reads a public key from a PEM block PUBLIC KEY (RFC 7468,
// section 13) or else from a CNG blob of type RSAPUBLICBLOB.
func ParsePFXPublicKey(data []byte) (*rsa.PublicKey, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return parseRSAPublicBlob(data)
	}
	if block.Type != "PUBLIC KEY" {
		return nil, fmt.Errorf("the PEM block is %q: only the public key is needed here, as PUBLIC KEY", truncate(block.Type, maxWord))
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the PEM block is not a public key: %v", err)
	}
	pub, ok := key.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("the key is %T: Intune takes RSA keys", key)
	}
	if err := checkPFXKey(pub); err != nil {
		return nil, err
	}
	return pub, nil
}

// Magic numbers of BCRYPT_RSAKEY_BLOB, little-endian ("Windows API, bcrypt.h").
const (
	rsaPublicMagic      = 0x31415352 // RSA1
	rsaPrivateMagic     = 0x32415352 // RSA2
	rsaFullPrivateMagic = 0x33415352 // RSA3
	rsaBlobHeader       = 24
)

// parseRSAPublicBlob reads a BCRYPT_RSAKEY_BLOB: magic, length in bits, lengths
// of exponent, modulus and primes in octets, then exponent and modulus, which
// are big-endian.
func parseRSAPublicBlob(data []byte) (*rsa.PublicKey, error) {
	if len(data) < rsaBlobHeader {
		return nil, errors.New("it is neither PEM nor an RSAPUBLICBLOB")
	}
	word := func(i int) uint64 { return uint64(binary.LittleEndian.Uint32(data[4*i:])) }
	switch word(0) {
	case rsaPublicMagic:
	case rsaPrivateMagic, rsaFullPrivateMagic:
		return nil, errors.New("it is a private key: give the public one, and keep this one where it belongs")
	default:
		return nil, errors.New("it is neither PEM nor an RSAPUBLICBLOB")
	}
	exponent, modulus := word(2), word(3)
	if exponent == 0 || exponent > 4 || modulus == 0 || uint64(len(data)) != rsaBlobHeader+exponent+modulus {
		return nil, errors.New("the RSAPUBLICBLOB has lengths that do not fit")
	}
	e := new(big.Int).SetBytes(data[rsaBlobHeader:][:exponent])
	n := new(big.Int).SetBytes(data[rsaBlobHeader+exponent:])
	if uint64(n.BitLen()) != word(1) || e.BitLen() > 31 {
		return nil, errors.New("the RSAPUBLICBLOB has a modulus or an exponent of another size than it says")
	}
	pub := &rsa.PublicKey{N: n, E: int(e.Int64())}
	if err := checkPFXKey(pub); err != nil {
		return nil, err
	}
	return pub, nil
}

// checkPFXKey refuses keys that no connector makes.
func checkPFXKey(pub *rsa.PublicKey) error {
	if pub == nil || pub.N == nil {
		return errors.New("the public key is missing")
	}
	if n := pub.N.BitLen(); n < 2048 || n > 16384 || pub.N.Bit(0) == 0 || pub.E < 3 || pub.E%2 == 0 {
		return fmt.Errorf("the public key is not an RSA key of 2048 bits or more (it has %d)", n)
	}
	return nil
}
