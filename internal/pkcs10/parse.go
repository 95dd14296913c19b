package pkcs10

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Limits on what a stranger may make us hold. Real requests stay far below.
const (
	maxAttributes = 64
	maxExtensions = 64
	maxChallenge  = 64 << 10 // octets; Intune's challenge is a few KB
)

var errMalformed = errors.New("not a PKCS #10 certification request")

// Parse reads one DER CertificationRequest (RFC 2986, section 4). It refuses
// what could be understood in two ways: trailing bytes, an attribute or an
// extension that comes twice, two challenges. It does not verify anything: see
// CheckSignature. The request keeps slices of der, which must not change.
func Parse(der []byte) (*Request, error) {
	input := cryptobyte.String(der)
	var outer, tbs cryptobyte.String
	if !input.ReadASN1(&outer, cbasn1.SEQUENCE) {
		return nil, errMalformed
	}
	if !input.Empty() {
		return nil, errors.New("trailing bytes after the certification request")
	}
	r := &Request{Raw: der}
	if !outer.ReadASN1Element(&tbs, cbasn1.SEQUENCE) {
		return nil, errMalformed
	}
	r.RawTBS = tbs
	if err := r.readSignature(outer); err != nil {
		return nil, err
	}
	if err := r.readInfo(tbs); err != nil {
		return nil, err
	}
	return r, nil
}

// readSignature reads what follows the CertificationRequestInfo.
func (r *Request) readSignature(s cryptobyte.String) error {
	var err error
	if r.SignatureAlgorithm, err = readAlgorithm(&s); err != nil {
		return fmt.Errorf("signature algorithm: %w", err)
	}
	if !s.ReadASN1BitStringAsBytes(&r.Signature) || !s.Empty() {
		return errMalformed
	}
	return nil
}

// readInfo reads the CertificationRequestInfo.
func (r *Request) readInfo(tbs cryptobyte.String) error {
	var info, version, subject, spki cryptobyte.String
	if !tbs.ReadASN1(&info, cbasn1.SEQUENCE) ||
		!info.ReadASN1(&version, cbasn1.INTEGER) || // 0 says the RFC; nothing hangs on it
		!info.ReadASN1Element(&subject, cbasn1.SEQUENCE) ||
		!info.ReadASN1Element(&spki, cbasn1.SEQUENCE) {
		return errMalformed
	}
	r.RawSubject, r.RawSubjectPublicKeyInfo = subject, spki
	var err error
	if r.Subject, err = ParseName(subject); err != nil {
		return fmt.Errorf("subject: %w", err)
	}
	if r.PublicKey, err = ParsePublicKey(spki); err != nil {
		return fmt.Errorf("public key: %w", err)
	}
	// RFC 2986 wants the attributes even when there are none; some leave them out.
	var attributes cryptobyte.String
	if !info.ReadOptionalASN1(&attributes, nil, cbasn1.Tag(0).ContextSpecific().Constructed()) || !info.Empty() {
		return errMalformed
	}
	return r.readAttributes(attributes)
}

// readAlgorithm reads an AlgorithmIdentifier, with its parameters as they came.
func readAlgorithm(s *cryptobyte.String) (pkix.AlgorithmIdentifier, error) {
	var (
		ai  pkix.AlgorithmIdentifier
		seq cryptobyte.String
	)
	if !s.ReadASN1(&seq, cbasn1.SEQUENCE) || !seq.ReadASN1ObjectIdentifier(&ai.Algorithm) {
		return ai, errMalformed
	}
	if seq.Empty() {
		return ai, nil
	}
	var (
		whole cryptobyte.String
		tag   cbasn1.Tag
	)
	if !seq.ReadAnyASN1Element(&whole, &tag) || !seq.Empty() {
		return ai, errMalformed
	}
	ai.Parameters.FullBytes = whole
	content := whole
	content.ReadAnyASN1(&content, &tag)
	ai.Parameters.Class = int(tag >> 6)
	ai.Parameters.IsCompound = tag&0x20 != 0
	ai.Parameters.Tag = int(tag & 0x1f)
	ai.Parameters.Bytes = content
	return ai, nil
}

// noParameters tells whether an algorithm's parameters are NULL or absent,
// which mean the same wherever we look.
func noParameters(ai pkix.AlgorithmIdentifier) bool {
	return len(ai.Parameters.FullBytes) == 0 ||
		ai.Parameters.Class == asn1.ClassUniversal && ai.Parameters.Tag == asn1.TagNull
}
