package scep

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/subtle"
	"slices"
)

// verify checks digest and signature of a message (RFC 5652, sections 5.4 and
// 5.6). Only RSA signers are accepted: the reply is encrypted to them.
func (sd *signedData) verify(signer *Signer, digest crypto.Hash, attributes *signedAttributes) error {
	key, ok := signer.PublicKey.(*rsa.PublicKey)
	if !ok {
		return refuse(BadAlg, "the signer's key is not RSA")
	}
	if key.N.BitLen() < minSignerBits {
		return refuse(BadAlg, "the signer's key is too small")
	}
	verify := verifierOf(sd.signatureAlgorithm)
	if verify == nil {
		return refuse(BadAlg, "signature algorithm not accepted")
	}
	h := digest.New()
	h.Write(sd.content)
	var sum [64]byte
	if subtle.ConstantTimeCompare(h.Sum(sum[:0]), attributes.messageDigest) != 1 {
		return refuse(BadMessageCheck, "messageDigest does not fit the content")
	}
	signed := func(attributes ...[]byte) bool {
		length := 0
		for _, a := range attributes {
			length += len(a)
		}
		h.Reset()
		var header [8]byte
		h.Write(appendHeader(header[:0], tagSet, length))
		for _, a := range attributes {
			h.Write(a)
		}
		return verify(key, digest, h.Sum(sum[:0]), sd.signature) == nil
	}
	// The signature covers the attributes in DER order. Embedded stacks sign
	// them as they happened to write them.
	if slices.IsSortedFunc(attributes.elements, bytes.Compare) {
		if signed(sd.attributes) {
			return nil
		}
	} else if signed(slices.SortedFunc(slices.Values(attributes.elements), bytes.Compare)...) || signed(sd.attributes) {
		return nil
	}
	return refuse(BadMessageCheck, "the signature does not fit the signer's key")
}

type verifier func(key *rsa.PublicKey, hash crypto.Hash, digest, signature []byte) error

// verifierOf returns how to verify a signatureAlgorithm, nil when it is not
// accepted. The digest comes from digestAlgorithm; clients write rsaEncryption
// here or name the digest once more.
func verifierOf(oid []byte) verifier {
	switch string(oid) {
	case oidRSASSAPSS:
		return func(key *rsa.PublicKey, hash crypto.Hash, digest, signature []byte) error {
			return rsa.VerifyPSS(key, hash, digest, signature, nil)
		}
	case oidRSAEncryption,
		"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05", "\x2b\x0e\x03\x02\x1d", // with SHA-1
		"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b", "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c", "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d":
		return rsa.VerifyPKCS1v15
	}
	return nil
}
