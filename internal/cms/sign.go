package cms

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"
)

// signedData is SignedData (RFC 5652, section 5.1).
type signedData struct {
	Version      int
	Digests      []pkix.AlgorithmIdentifier `asn1:"set"`
	Content      contentInfo
	Certificates asn1.RawValue   `asn1:"optional,tag:0"`
	CRLs         asn1.RawValue   `asn1:"optional,tag:1"`
	Signers      []asn1.RawValue `asn1:"set"`
}

// signerInfo is SignerInfo (RFC 5652, section 5.3). Signer is as in
// keyTransport; the attributes are kept as they came, since the signature is
// over their bytes.
type signerInfo struct {
	Version   int
	Signer    asn1.RawValue
	Digest    pkix.AlgorithmIdentifier
	Signed    asn1.RawValue `asn1:"optional,tag:0"`
	Algorithm pkix.AlgorithmIdentifier
	Signature []byte
	Unsigned  asn1.RawValue `asn1:"optional,tag:1"`
}

// CheckSigningKey says what a key lacks for signatures of this profile: RSA of
// 2048 to 8192 bits, or ECDSA on P-256, P-384 or P-521.
func CheckSigningKey(public crypto.PublicKey) error {
	switch k := public.(type) {
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < 2048 || n > 8192 {
			return fmt.Errorf("an RSA key of %d bits cannot sign here; it needs 2048 to 8192", n)
		}
		return nil
	case *ecdsa.PublicKey:
		if n := k.Curve.Params().BitSize; n < 256 {
			return fmt.Errorf("a curve of %d bits is too weak; P-256 is the least", n)
		}
		return nil
	}
	return fmt.Errorf("a key of type %T cannot sign here; want RSA or ECDSA", public)
}

// Sign makes a SignedData with SHA-256 and one signer, without certificates:
// RSASSA-PKCS1-v1_5 or ECDSA, by the key. The attributes are contentType,
// messageDigest and signingTime.
func Sign(content []byte, cert *x509.Certificate, key crypto.Signer, at time.Time) ([]byte, error) {
	if err := CheckSigningKey(key.Public()); err != nil {
		return nil, err
	}
	digest := pkix.AlgorithmIdentifier{Algorithm: digests[0].id}
	algorithm := pkix.AlgorithmIdentifier{Algorithm: oidRSA, Parameters: asn1.NullRawValue}
	if _, ok := key.Public().(*ecdsa.PublicKey); ok {
		algorithm = pkix.AlgorithmIdentifier{Algorithm: digests[0].ecdsa}
	}
	attributes, err := signedAttributes(content, at)
	if err != nil {
		return nil, fmt.Errorf("encoding signed attributes: %w", err)
	}
	signature, err := key.Sign(rand.Reader, sum(crypto.SHA256, setOf(attributes)), crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	signer, err := asn1.Marshal(issuerAndSerial{asn1.RawValue{FullBytes: cert.RawIssuer}, cert.SerialNumber})
	if err != nil {
		return nil, fmt.Errorf("encoding the signer: %w", err)
	}
	info, err := asn1.Marshal(signerInfo{
		Version: 1, Signer: asn1.RawValue{FullBytes: signer}, Digest: digest,
		Signed:    asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: attributes},
		Algorithm: algorithm, Signature: signature,
	})
	if err != nil {
		return nil, fmt.Errorf("encoding the signer: %w", err)
	}
	octets, err := asn1.Marshal(content)
	if err != nil {
		return nil, fmt.Errorf("encoding the content: %w", err)
	}
	der, err := asn1.Marshal(signedData{
		Version: 1, Digests: []pkix.AlgorithmIdentifier{digest},
		Content: contentInfo{oidData, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: octets}},
		Signers: []asn1.RawValue{{FullBytes: info}},
	})
	if err != nil {
		return nil, fmt.Errorf("encoding a SignedData: %w", err)
	}
	return wrap(oidSignedData, der)
}

// signedAttributes encodes the attributes in the order of DER.
func signedAttributes(content []byte, at time.Time) ([]byte, error) {
	var list [][]byte
	var errs []error
	for _, a := range []struct {
		id    asn1.ObjectIdentifier
		value any
	}{
		{oidContentType, oidData},
		{oidMessageDigest, sum(crypto.SHA256, content)},
		{oidSigningTime, at.UTC().Truncate(time.Second)},
	} {
		value, err := asn1.Marshal(a.value)
		errs = append(errs, err)
		der, err := asn1.Marshal(attribute{a.id, []asn1.RawValue{{FullBytes: value}}})
		errs = append(errs, err)
		list = append(list, der)
	}
	slices.SortFunc(list, bytes.Compare)
	return slices.Concat(list...), errors.Join(errs...)
}

// setOf encodes attributes as the signature covers them, a SET OF and not the
// [0] that is sent (RFC 5652, section 5.4).
func setOf(attributes []byte) []byte {
	der, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagSet, IsCompound: true, Bytes: attributes})
	if err != nil {
		return nil // a RawValue of octets always encodes; and nil verifies nothing
	}
	return der
}

func sum(hash crypto.Hash, b []byte) []byte {
	h := hash.New()
	h.Write(b)
	return h.Sum(nil)
}
