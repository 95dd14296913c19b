package cms

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/subtle"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
)

// Signed is a SignedData with one signer that was read and not yet believed:
// Content is worth nothing before Verify.
type Signed struct {
	Content []byte

	info signerInfo
}

// ReadSigned reads a SignedData in DER: content of type id-data, one signer,
// signed attributes. Certificates and revocation lists inside are passed over,
// they prove nothing.
func ReadSigned(der []byte, limits Limits) (*Signed, error) {
	if err := limits.check(der); err != nil {
		return nil, err
	}
	inner, err := unwrap(der, oidSignedData)
	if err != nil {
		return nil, fmt.Errorf("%w: no SignedData in DER", ErrMalformed)
	}
	var data signedData
	if rest, err := asn1.Unmarshal(inner, &data); err != nil || len(rest) > 0 {
		return nil, fmt.Errorf("%w: SignedData", ErrMalformed)
	}
	if !data.Content.Type.Equal(oidData) {
		return nil, fmt.Errorf("%w: the signed content is of type %v, want id-data", ErrMalformed, data.Content.Type)
	}
	if len(data.Signers) != 1 {
		return nil, fmt.Errorf("%w: %d signers, want one", ErrMalformed, len(data.Signers))
	}
	s := &Signed{}
	if rest, err := asn1.Unmarshal(data.Content.Content.Bytes, &s.Content); err != nil || len(rest) > 0 {
		return nil, fmt.Errorf("%w: the signed content is missing or no OCTET STRING", ErrMalformed)
	}
	if rest, err := asn1.Unmarshal(data.Signers[0].FullBytes, &s.info); err != nil || len(rest) > 0 {
		return nil, fmt.Errorf("%w: SignerInfo", ErrMalformed)
	}
	return s, nil
}

// By reports whether the signer is named as this certificate's owner, by
// issuer and serial number or by subjectKeyIdentifier.
func (s *Signed) By(cert *x509.Certificate) bool { return identifies(s.info.Signer, cert) }

// Verify checks the signature with a certificate's key, or returns
// ErrSignature: RSASSA-PKCS1-v1_5 with 2048 bits at least, or ECDSA; SHA-256,
// SHA-384 or SHA-512; attributes contentType (id-data) and messageDigest, each
// once. That the certificate may sign is for the caller to know.
func (s *Signed) Verify(cert *x509.Certificate) error {
	if err := CheckSigningKey(cert.PublicKey); err != nil {
		return fmt.Errorf("%w: %v", ErrSignature, err)
	}
	hash, err := s.checkAttributes()
	if err != nil {
		return err
	}
	digest := sum(hash, setOf(s.info.Signed.Bytes))
	good := false
	switch key := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		good = rsa.VerifyPKCS1v15(key, hash, digest, s.info.Signature) == nil
	case *ecdsa.PublicKey:
		good = ecdsa.VerifyASN1(key, digest, s.info.Signature)
	}
	if !good || !s.algorithmFits(cert.PublicKey, hash) {
		return ErrSignature
	}
	return nil
}

// checkAttributes compares the signed attributes with the content and returns
// the digest algorithm.
func (s *Signed) checkAttributes() (crypto.Hash, error) {
	hash := s.hash()
	if hash == 0 {
		return 0, fmt.Errorf("%w: digest algorithm %v, want SHA-256 or better", ErrSignature, s.info.Digest.Algorithm)
	}
	var contentType asn1.ObjectIdentifier
	if !s.attribute(oidContentType, &contentType) || !contentType.Equal(oidData) {
		return 0, fmt.Errorf("%w: no attribute contentType of id-data", ErrSignature)
	}
	var digest []byte
	if !s.attribute(oidMessageDigest, &digest) || subtle.ConstantTimeCompare(digest, sum(hash, s.Content)) != 1 {
		return 0, fmt.Errorf("%w: the attribute messageDigest is missing or does not fit", ErrSignature)
	}
	return hash, nil
}

func (s *Signed) hash() crypto.Hash {
	for _, d := range digests {
		if d.id.Equal(s.info.Digest.Algorithm) && noParameters(s.info.Digest) {
			return d.hash
		}
	}
	return 0
}

// algorithmFits checks that the signature algorithm is the key's own, either
// without a digest or with the right one. RSASSA-PSS is not among them.
func (s *Signed) algorithmFits(key crypto.PublicKey, hash crypto.Hash) bool {
	a := s.info.Algorithm
	_, isRSA := key.(*rsa.PublicKey)
	for _, d := range digests {
		if d.hash != hash || !noParameters(a) {
			continue
		}
		if isRSA {
			return a.Algorithm.Equal(oidRSA) || a.Algorithm.Equal(d.rsa)
		}
		return a.Algorithm.Equal(d.ecdsa)
	}
	return false
}

// attribute reads the one value of a signed attribute that comes once.
func (s *Signed) attribute(id asn1.ObjectIdentifier, out any) bool {
	var found *attribute
	for rest := s.info.Signed.Bytes; len(rest) > 0; {
		var (
			a   attribute
			err error
		)
		if rest, err = asn1.Unmarshal(rest, &a); err != nil {
			return false
		}
		if !a.Type.Equal(id) {
			continue
		}
		if found != nil || len(a.Values) != 1 {
			return false
		}
		found = &a
	}
	if found == nil {
		return false
	}
	rest, err := asn1.Unmarshal(found.Values[0].FullBytes, out)
	return err == nil && len(rest) == 0
}
