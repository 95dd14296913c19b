package pkcs10

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	_ "crypto/sha1" // SHA-1 is recognised, and then left to the caller
	_ "crypto/sha256"
	_ "crypto/sha512"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// ErrWeakDigest says that a request's signature is right but made over SHA-1.
// Who allows SHA-1 treats it as success.
var ErrWeakDigest = errors.New("request signed with SHA-1")

var (
	errSignature            = errors.New("the request's signature does not fit its key")
	errUnsupportedSignature = errors.New("signature algorithm not supported")
)

type scheme int

const (
	pkcs1v15 scheme = iota
	pss
	ecdsaScheme
)

// signatureAlgorithms are those that devices use. MD5 is not among them.
var signatureAlgorithms = []struct {
	oid    asn1.ObjectIdentifier
	scheme scheme
	hash   crypto.Hash
}{
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, pkcs1v15, crypto.SHA256},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 12}, pkcs1v15, crypto.SHA384},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 13}, pkcs1v15, crypto.SHA512},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 5}, pkcs1v15, crypto.SHA1},
	{asn1.ObjectIdentifier{1, 3, 14, 3, 2, 29}, pkcs1v15, crypto.SHA1}, // OIW's sha1WithRSA, old Windows
	{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}, ecdsaScheme, crypto.SHA256},
	{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}, ecdsaScheme, crypto.SHA384},
	{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 4}, ecdsaScheme, crypto.SHA512},
	{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 1}, ecdsaScheme, crypto.SHA1},
}

var (
	oidRSAPSS = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}

	digests = []struct {
		oid  asn1.ObjectIdentifier
		hash crypto.Hash
	}{
		{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, crypto.SHA256},
		{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}, crypto.SHA384},
		{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}, crypto.SHA512},
		{asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}, crypto.SHA1},
	}
)

// DigestAlgorithm is the digest of the request's signature, 0 when it is none
// that is supported (MD5).
func (r *Request) DigestAlgorithm() crypto.Hash {
	_, hash := schemeOf(r.SignatureAlgorithm)
	return hash
}

// CheckSignature verifies the proof of possession: that the request is signed
// with the private half of the key it asks a certificate for. A correct
// signature over SHA-1 gives ErrWeakDigest.
func (r *Request) CheckSignature() error {
	s, hash := schemeOf(r.SignatureAlgorithm)
	if hash == 0 {
		return fmt.Errorf("%w: %v", errUnsupportedSignature, r.SignatureAlgorithm.Algorithm)
	}
	h := hash.New()
	h.Write(r.RawTBS)
	digest := h.Sum(nil)

	ok := false
	switch key := r.PublicKey.(type) {
	case *rsa.PublicKey:
		switch s {
		case pkcs1v15:
			ok = rsa.VerifyPKCS1v15(key, hash, digest, r.Signature) == nil
		case pss:
			ok = rsa.VerifyPSS(key, hash, digest, r.Signature, nil) == nil
		}
	case *ecdsa.PublicKey:
		ok = s == ecdsaScheme && ecdsa.VerifyASN1(key, digest, r.Signature)
	}
	if !ok {
		return errSignature
	}
	if hash == crypto.SHA1 {
		return ErrWeakDigest
	}
	return nil
}

// schemeOf looks an algorithm up; hash 0: not supported.
func schemeOf(ai pkix.AlgorithmIdentifier) (scheme, crypto.Hash) {
	if ai.Algorithm.Equal(oidRSAPSS) {
		return pss, pssDigest(ai.Parameters.FullBytes)
	}
	for _, a := range signatureAlgorithms {
		if a.oid.Equal(ai.Algorithm) && noParameters(ai) {
			return a.scheme, a.hash
		}
	}
	return 0, 0
}

// pssDigest reads the digest of RSASSA-PSS-params (RFC 4055, section 3.1).
// The mask's digest is taken to be the same, as everyone has it; if it is not,
// the verification fails.
func pssDigest(parameters []byte) crypto.Hash {
	s := cryptobyte.String(parameters)
	var (
		seq, explicit cryptobyte.String
		present       bool
	)
	if !s.ReadASN1(&seq, cbasn1.SEQUENCE) || !s.Empty() ||
		!seq.ReadOptionalASN1(&explicit, &present, cbasn1.Tag(0).ContextSpecific().Constructed()) {
		return 0
	}
	if !present {
		return crypto.SHA1
	}
	ai, err := readAlgorithm(&explicit)
	if err != nil || !explicit.Empty() {
		return 0
	}
	for _, d := range digests {
		if d.oid.Equal(ai.Algorithm) {
			return d.hash
		}
	}
	return 0
}
