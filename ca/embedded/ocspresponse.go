package embedded

import (
	"crypto/rand"
	"crypto/sha1" // the key hash of a responder's ID is SHA-1 by definition
	"encoding/asn1"
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/certconnector/certconnector/ca"
)

// Responses without a certificate's status (RFC 6960, section 4.2.1).
var (
	ocspMalformed    = []byte{0x30, 0x03, 0x0a, 0x01, 0x01}
	ocspTryLater     = []byte{0x30, 0x03, 0x0a, 0x01, 0x03}
	ocspUnauthorized = []byte{0x30, 0x03, 0x0a, 0x01, 0x06}
)

var (
	oidOCSPBasic = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 1}
	// oidExtendedRevoke says that "revoked" is also said of certificates that
	// were never issued (RFC 6960, section 4.4.8).
	oidExtendedRevoke = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 9}
)

// certStatus is the choice of RFC 6960, section 4.2.1.
type certStatus struct {
	known     bool
	revoked   bool
	at        time.Time
	reason    ca.Reason
	neverMade bool // revoked because the CA never issued it
}

// neverIssued is "revoked" for a serial number that the CA does not know (RFC
// 6960, section 2.2).
var neverIssued = certStatus{known: true, revoked: true, at: time.Unix(0, 0), reason: ca.CertificateHold, neverMade: true}

// ocspAnswer is a response before it is signed.
type ocspAnswer struct {
	id                     []byte // CertID, DER
	status                 certStatus
	thisUpdate, nextUpdate time.Time
	nonce                  []byte // the extension's value, DER; nil: none
}

// sign encodes and signs a BasicOCSPResponse and packs it into an OCSPResponse.
func (s *ocspSigner) sign(a ocspAnswer) ([]byte, error) {
	data, err := s.responseData(a)
	if err != nil {
		return nil, fmt.Errorf("encoding an OCSP response: %w", err)
	}
	h := s.alg.hash.New()
	h.Write(data)
	signature, err := s.key.Sign(rand.Reader, h.Sum(nil), s.alg.hash)
	if err != nil {
		return nil, fmt.Errorf("signing an OCSP response: %w", err)
	}
	algorithm, err := asn1.Marshal(s.alg.id)
	if err != nil {
		return nil, fmt.Errorf("encoding the signature algorithm: %w", err)
	}
	b := cryptobyte.NewBuilder(make([]byte, 0, len(data)+len(signature)+len(s.cert.Raw)+128))
	addSequence(b, func(b *cryptobyte.Builder) {
		b.AddASN1Enum(0) // successful
		b.AddASN1(tag0, func(b *cryptobyte.Builder) {
			addSequence(b, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(oidOCSPBasic)
				b.AddASN1(cbasn1.OCTET_STRING, func(b *cryptobyte.Builder) {
					addSequence(b, func(b *cryptobyte.Builder) {
						b.AddBytes(data)
						b.AddBytes(algorithm)
						b.AddASN1BitString(signature)
						b.AddASN1(tag0, func(b *cryptobyte.Builder) {
							addSequence(b, func(b *cryptobyte.Builder) { b.AddBytes(s.cert.Raw) })
						})
					})
				})
			})
		})
	})
	return b.Bytes()
}

// responseData is ResponseData of RFC 6960, section 4.2.1. The responder is
// named by its key.
func (s *ocspSigner) responseData(a ocspAnswer) ([]byte, error) {
	b := cryptobyte.NewBuilder(nil)
	addSequence(b, func(b *cryptobyte.Builder) {
		b.AddASN1(tag2, func(b *cryptobyte.Builder) { b.AddASN1OctetString(s.keyHash) })
		b.AddASN1GeneralizedTime(a.thisUpdate.UTC()) // producedAt: it is signed at once
		addSequence(b, func(b *cryptobyte.Builder) {
			addSequence(b, func(b *cryptobyte.Builder) {
				b.AddBytes(a.id)
				a.status.add(b)
				b.AddASN1GeneralizedTime(a.thisUpdate.UTC())
				b.AddASN1(tag0, func(b *cryptobyte.Builder) { b.AddASN1GeneralizedTime(a.nextUpdate.UTC()) })
			})
		})
		if a.nonce == nil && !a.status.neverMade {
			return
		}
		b.AddASN1(tag1, func(b *cryptobyte.Builder) {
			addSequence(b, func(b *cryptobyte.Builder) {
				if a.nonce != nil {
					addExtension(b, oidOCSPNonce, false, a.nonce)
				}
				if a.status.neverMade {
					addExtension(b, oidExtendedRevoke, false, []byte{byte(cbasn1.NULL), 0})
				}
			})
		})
	})
	return b.Bytes()
}

func (s certStatus) add(b *cryptobyte.Builder) {
	switch {
	case !s.known:
		b.AddASN1(cbasn1.Tag(2).ContextSpecific(), func(*cryptobyte.Builder) {})
	case !s.revoked:
		b.AddASN1(cbasn1.Tag(0).ContextSpecific(), func(*cryptobyte.Builder) {})
	default:
		b.AddASN1(tag1, func(b *cryptobyte.Builder) {
			b.AddASN1GeneralizedTime(s.at.UTC().Truncate(time.Second))
			if s.reason == ca.Unspecified { // better left out (RFC 5280, section 5.3.1)
				return
			}
			b.AddASN1(tag0, func(b *cryptobyte.Builder) { b.AddASN1Enum(int64(s.reason)) })
		})
	}
}

// keyBits are the octets of a SubjectPublicKeyInfo's key, without algorithm,
// tag and length: what OCSP takes digests of.
func keyBits(spki []byte) ([]byte, error) {
	var info struct {
		Algorithm asn1.RawValue
		Key       asn1.BitString
	}
	if rest, err := asn1.Unmarshal(spki, &info); err != nil || len(rest) > 0 {
		return nil, fmt.Errorf("the public key is no SubjectPublicKeyInfo: %v", err)
	}
	return info.Key.RightAlign(), nil
}

func keyHash(spki []byte) ([]byte, error) {
	bits, err := keyBits(spki)
	if err != nil {
		return nil, err
	}
	sum := sha1.Sum(bits)
	return sum[:], nil
}
