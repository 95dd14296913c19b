// Package pkcs10 reads certification requests (PKCS #10, RFC 2986) the way
// devices really send them: it keeps every byte that is compared or copied
// later, and is lenient where crypto/x509 refuses what platforms emit.
package pkcs10

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509/pkix"
	"encoding/asn1"
	"time"

	"github.com/certconnector/certconnector/internal/secret"
)

// Request is one certification request, read but not yet believed: call
// CheckSignature before trusting that the sender has the key.
type Request struct {
	Raw                     []byte // the CertificationRequest as it came; forwarded unchanged
	RawTBS                  []byte // CertificationRequestInfo, what the signature covers
	RawSubject              []byte // Name, DER
	RawSubjectPublicKeyInfo []byte // SubjectPublicKeyInfo, DER
	Subject                 pkix.RDNSequence
	PublicKey               crypto.PublicKey // *rsa.PublicKey or *ecdsa.PublicKey
	SignatureAlgorithm      pkix.AlgorithmIdentifier
	Signature               []byte

	// ChallengePassword is the PKCS #9 attribute 1.2.840.113549.1.9.7, any
	// string type, of any length; empty when absent.
	ChallengePassword secret.Text

	// Extensions are those asked for, from extensionRequest
	// (1.2.840.113549.1.9.14) and Microsoft's 1.3.6.1.4.1.311.2.1.14.
	Extensions []pkix.Extension
	RawSAN     []byte // the octets of the requested subjectAltName, nil when absent

	KeyUsage    int                     // bits of RFC 5280, section 4.2.1.3, as x509.KeyUsage; 0 when absent
	ExtKeyUsage []asn1.ObjectIdentifier // requested extended key usages

	// Validity is what the profile asked for with Microsoft's name/value pair
	// (1.3.6.1.4.1.311.13.2.1), Android's swapped values repaired; 0 when
	// absent. It is a wish: the CA's maximum caps it.
	Validity time.Duration

	// IgnoredPairs names the other name/value pairs the device sent. They are
	// logged and never acted on (scep-ndes M6).
	IgnoredPairs []string
}

// Digest is the SHA-256 of the request's bytes.
func (r *Request) Digest() [32]byte { return sha256.Sum256(r.Raw) }

// KeyDigest is the SHA-256 of the SubjectPublicKeyInfo.
func (r *Request) KeyDigest() [32]byte { return sha256.Sum256(r.RawSubjectPublicKeyInfo) }

// NameDigest is the SHA-256 of subject and subjectAltName: equal for two
// requests that ask for the same names byte for byte.
func (r *Request) NameDigest() [32]byte {
	h := sha256.New()
	subject, san := sha256.Sum256(r.RawSubject), sha256.Sum256(r.RawSAN)
	h.Write(subject[:])
	h.Write(san[:])
	return [32]byte(h.Sum(nil))
}
