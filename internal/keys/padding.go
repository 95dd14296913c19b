package keys

import (
	"crypto"
	"crypto/rsa"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// hashIDs are the identifiers in a DigestInfo (RFC 8017, section 9.2).
var hashIDs = map[crypto.Hash]asn1.ObjectIdentifier{
	crypto.SHA1:   {1, 3, 14, 3, 2, 26},
	crypto.SHA256: {2, 16, 840, 1, 101, 3, 4, 2, 1},
	crypto.SHA384: {2, 16, 840, 1, 101, 3, 4, 2, 2},
	crypto.SHA512: {2, 16, 840, 1, 101, 3, 4, 2, 3},
}

// encodePKCS1 is EMSA-PKCS1-v1_5 (RFC 8017, section 9.2).
func encodePKCS1(digest []byte, size int, hash crypto.Hash) ([]byte, error) {
	id, ok := hashIDs[hash]
	if !ok {
		return nil, fmt.Errorf("signing with %v is not supported", hash)
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(id)
			b.AddASN1NULL()
		})
		b.AddASN1OctetString(digest)
	})
	info, err := b.Bytes()
	if err != nil {
		return nil, err
	}
	if size < len(info)+11 {
		return nil, errors.New("the RSA key is too short for this hash")
	}
	encoded := make([]byte, size)
	encoded[1] = 1
	for i := 2; i < size-len(info)-1; i++ {
		encoded[i] = 0xff
	}
	copy(encoded[size-len(info):], info)
	return encoded, nil
}

// encodePSS is EMSA-PSS (RFC 8017, section 9.1.1) of a digest, with MGF1 of the
// same hash. bits is one less than the modulus has. A salt of
// rsa.PSSSaltLengthAuto is as long as fits.
func encodePSS(rand io.Reader, digest []byte, bits, salt int, hash crypto.Hash) ([]byte, error) {
	size, n := (bits+7)/8, hash.Size()
	if salt == rsa.PSSSaltLengthAuto {
		salt = size - n - 2
	}
	if salt < 0 || size < n+salt+2 {
		return nil, errors.New("the RSA key is too short for this hash and salt")
	}
	encoded := make([]byte, size)
	db, h := encoded[:size-n-1], encoded[size-n-1:size-1]
	random := db[len(db)-salt:]
	if _, err := io.ReadFull(rand, random); err != nil {
		return nil, fmt.Errorf("making a salt: %w", err)
	}
	w := hash.New()
	w.Write(make([]byte, 8))
	w.Write(digest)
	w.Write(random)
	w.Sum(h[:0])
	db[len(db)-salt-1] = 1
	mask(db, h, hash)
	db[0] &= 0xff >> (8*size - bits)
	encoded[size-1] = 0xbc
	return encoded, nil
}

// mask is MGF1 (RFC 8017, appendix B.2.1), applied.
func mask(to, seed []byte, hash crypto.Hash) {
	for counter := uint32(0); len(to) > 0; counter++ {
		w := hash.New()
		w.Write(seed)
		w.Write(binary.BigEndian.AppendUint32(nil, counter))
		block := w.Sum(nil)
		for i := range min(len(block), len(to)) {
			to[i] ^= block[i]
		}
		to = to[min(len(block), len(to)):]
	}
}
