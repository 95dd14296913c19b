package cms

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/subtle"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
)

// Recipient is a certificate that envelopes are made for, with its key.
type Recipient struct {
	Certificate *x509.Certificate
	Key         crypto.Decrypter
}

// Open opens an EnvelopedData in DER that is for one of the recipients:
// RSAES-OAEP with SHA-256, MGF1 with SHA-256 and no label; AES-128 or AES-256
// in CBC mode. ErrMalformed: no such message, whatever the keys. ErrNotOpened:
// everything that depends on a key. From the decryption of the content key on,
// a bad envelope takes the same steps as a good one.
//
// There is no RSAES-PKCS1-v1_5: with OAEP a forged key fails as a whole, so a
// sender who may try as often as he likes learns nothing about the padding
// (RFC 3218 tells the attack; SCEP has to live with it).
func Open(der []byte, recipients []Recipient, limits Limits) ([]byte, error) {
	data, err := readEnvelope(der, limits)
	if err != nil {
		return nil, err
	}
	size, iv, err := contentCipher(data.Content)
	if err != nil {
		return nil, err
	}
	sealed, by, err := choose(data.Recipients, recipients)
	if err != nil {
		return nil, err
	}
	key := make([]byte, size)
	rand.Read(key)
	transported, err := by.Key.Decrypt(rand.Reader, sealed, &rsa.OAEPOptions{Hash: crypto.SHA256})
	good := err == nil && len(transported) == size
	if good {
		copy(key, transported)
	}
	plain, padded, err := decryptCBC(key, iv, data.Content.Octets)
	if err != nil {
		return nil, err
	}
	if !good || !padded {
		return nil, ErrNotOpened
	}
	return plain, nil
}

func readEnvelope(der []byte, limits Limits) (*envelopedData, error) {
	if err := limits.check(der); err != nil {
		return nil, err
	}
	inner, err := unwrap(der, oidEnvelopedData)
	if err != nil {
		return nil, fmt.Errorf("%w: no EnvelopedData in DER", ErrMalformed)
	}
	var data envelopedData
	if rest, err := asn1.Unmarshal(inner, &data); err != nil || len(rest) > 0 {
		return nil, fmt.Errorf("%w: EnvelopedData", ErrMalformed)
	}
	if !data.Content.Type.Equal(oidData) {
		return nil, fmt.Errorf("%w: the encrypted content is of type %v, want id-data", ErrMalformed, data.Content.Type)
	}
	return &data, nil
}

// contentCipher reads the content encryption algorithm: size of its key, and
// the initialization vector (RFC 3565, section 4.1).
func contentCipher(c encryptedContent) (size int, iv []byte, err error) {
	switch {
	case c.Algorithm.Algorithm.Equal(oidAES128):
		size = 16
	case c.Algorithm.Algorithm.Equal(oidAES256):
		size = 32
	default:
		return 0, nil, fmt.Errorf("%w: content encryption %v, want AES-128-CBC or AES-256-CBC", ErrMalformed, c.Algorithm.Algorithm)
	}
	rest, err := asn1.Unmarshal(c.Algorithm.Parameters.FullBytes, &iv)
	if err != nil || len(rest) > 0 || len(iv) != aes.BlockSize || len(c.Octets) == 0 || len(c.Octets)%aes.BlockSize != 0 {
		return 0, nil, fmt.Errorf("%w: encrypted content", ErrMalformed)
	}
	return size, iv, nil
}

// choose finds the first RecipientInfo that is for one of ours.
func choose(infos []asn1.RawValue, recipients []Recipient) (sealed []byte, by Recipient, err error) {
	for _, raw := range infos {
		var info keyTransport
		if rest, err := asn1.Unmarshal(raw.FullBytes, &info); err != nil || len(rest) > 0 {
			continue // key agreement, a password or another kind: not for us
		}
		for _, r := range recipients {
			if !identifies(info.Recipient, r.Certificate) {
				continue
			}
			if err := checkOAEP(info.Algorithm); err != nil {
				return nil, by, err
			}
			return info.Key, r, nil
		}
	}
	return nil, by, fmt.Errorf("%w: it is for another recipient", ErrNotOpened)
}

// checkOAEP refuses every key transport but the one that Seal uses.
func checkOAEP(a pkix.AlgorithmIdentifier) error {
	wrong := fmt.Errorf("%w: key transport is not RSAES-OAEP with SHA-256 and MGF1 with SHA-256", ErrMalformed)
	var p oaepParameters
	if !a.Algorithm.Equal(oidOAEP) {
		return wrong
	}
	if rest, err := asn1.Unmarshal(a.Parameters.FullBytes, &p); err != nil || len(rest) > 0 {
		return wrong
	}
	var mask pkix.AlgorithmIdentifier
	if rest, err := asn1.Unmarshal(p.Mask.Parameters.FullBytes, &mask); err != nil || len(rest) > 0 {
		return wrong
	}
	sha256 := digests[0].id
	if !p.Hash.Algorithm.Equal(sha256) || !noParameters(p.Hash) || !p.Mask.Algorithm.Equal(oidMGF1) || !mask.Algorithm.Equal(sha256) || !noParameters(mask) {
		return wrong
	}
	if len(p.Label.Algorithm) > 0 && (!p.Label.Algorithm.Equal(oidPSpecified) || len(p.Label.Parameters.Bytes) > 0) {
		return wrong
	}
	return nil
}

// identifies reports whether a RecipientIdentifier or SignerIdentifier means
// this certificate (RFC 5652, section 5.3).
func identifies(id asn1.RawValue, cert *x509.Certificate) bool {
	if id.Class == asn1.ClassContextSpecific && id.Tag == 0 && !id.IsCompound {
		return len(id.Bytes) > 0 && bytes.Equal(id.Bytes, cert.SubjectKeyId)
	}
	var name issuerAndSerial
	rest, err := asn1.Unmarshal(id.FullBytes, &name)
	return err == nil && len(rest) == 0 && name.Serial.Cmp(cert.SerialNumber) == 0 && bytes.Equal(name.Issuer.FullBytes, cert.RawIssuer)
}

// decryptCBC decrypts and removes the padding of RFC 5652, section 6.3. Its
// work does not depend on whether the padding is right.
func decryptCBC(key, iv, octets []byte) (plain []byte, padded bool, err error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, false, fmt.Errorf("preparing the cipher: %w", err)
	}
	plain = make([]byte, len(octets))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, octets)
	pad := int(plain[len(plain)-1])
	good := subtle.ConstantTimeLessOrEq(1, pad) & subtle.ConstantTimeLessOrEq(pad, aes.BlockSize)
	for i := range aes.BlockSize {
		inPad := subtle.ConstantTimeLessOrEq(i+1, pad)
		same := subtle.ConstantTimeByteEq(plain[len(plain)-1-i], byte(pad))
		good &= 1 ^ (inPad & (1 ^ same))
	}
	if good != 1 {
		return nil, false, nil
	}
	return plain[:len(plain)-pad], true, nil
}
