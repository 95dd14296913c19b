// Package scep reads and writes the messages of the Simple Certificate
// Enrolment Protocol (RFC 8894) as real devices send and expect them. It
// knows no HTTP and no policy.
package scep

import (
	"crypto"
	"crypto/sha256"
	"fmt"
	"math/big"

	"github.com/certconnector/certconnector/internal/pkcs10"
)

// MessageType is the messageType attribute (RFC 8894, section 3.2.1.2).
type MessageType int

// The message types of RFC 8894.
const (
	CertRep    MessageType = 3
	RenewalReq MessageType = 17
	PKCSReq    MessageType = 19
	CertPoll   MessageType = 20
	GetCert    MessageType = 21
	GetCRL     MessageType = 22
)

var messageTypeNames = map[MessageType]string{
	CertRep: "CertRep", RenewalReq: "RenewalReq", PKCSReq: "PKCSReq",
	CertPoll: "CertPoll", GetCert: "GetCert", GetCRL: "GetCRL",
}

// String returns the name of RFC 8894.
func (t MessageType) String() string {
	if n, ok := messageTypeNames[t]; ok {
		return n
	}
	return fmt.Sprintf("messageType(%d)", int(t))
}

// Status is the pkiStatus attribute (RFC 8894, section 3.2.1.3).
type Status int

// The statuses of RFC 8894; there is no 1.
const (
	Success Status = 0
	Failure Status = 2
	Pending Status = 3
)

// String returns the name of RFC 8894.
func (s Status) String() string {
	switch s {
	case Success:
		return "SUCCESS"
	case Failure:
		return "FAILURE"
	case Pending:
		return "PENDING"
	}
	return fmt.Sprintf("pkiStatus(%d)", int(s))
}

// FailInfo is the failInfo attribute (RFC 8894, section 3.2.1.4).
type FailInfo int

// The values of RFC 8894.
const (
	BadAlg          FailInfo = 0
	BadMessageCheck FailInfo = 1
	BadRequest      FailInfo = 2
	BadTime         FailInfo = 3
	BadCertID       FailInfo = 4
)

var failInfoNames = [...]string{"badAlg", "badMessageCheck", "badRequest", "badTime", "badCertId"}

// String returns the name of RFC 8894.
func (f FailInfo) String() string {
	if f >= BadAlg && f <= BadCertID {
		return failInfoNames[f]
	}
	return fmt.Sprintf("failInfo(%d)", int(f))
}

// Signer is the certificate that signed a request, read leniently: Windows
// marks its authorityKeyIdentifier critical, certmonger sends X.509 v1, and
// crypto/x509 refuses some of them. Nothing in it is vouched for by anyone.
type Signer struct {
	Raw                     []byte // the whole certificate
	RawIssuer               []byte // DER Name, copied into replies byte for byte
	RawSubject              []byte
	RawSubjectPublicKeyInfo []byte
	Serial                  *big.Int
	RawSerial               []byte // content octets of the INTEGER as sent
	PublicKey               crypto.PublicKey
	SelfIssued              bool // subject and issuer are the same bytes
}

// KeyDigest is the SHA-256 of the signer's SubjectPublicKeyInfo.
func (s *Signer) KeyDigest() [32]byte { return sha256.Sum256(s.RawSubjectPublicKeyInfo) }

// Request is a message whose signature was verified and whose envelope was
// opened. What of the last block is set depends on the MessageType.
type Request struct {
	MessageType   MessageType
	TransactionID string // opaque octets, 1 to 255; never a file name, never printed unescaped
	Signer        *Signer

	CSR     *pkcs10.Request // PKCSReq, RenewalReq; its own signature verified too
	Issuer  []byte          // DER Name: CertPoll, GetCert, GetCRL
	Subject []byte          // DER Name: CertPoll
	Serial  *big.Int        // GetCert, GetCRL
}

// Result is what became of a request; it is turned into a CertRep for the
// message that asked.
type Result struct {
	Status      Status
	FailInfo    FailInfo // of a Failure
	FailText    string   // for the log; on the wire only where the endpoint says so
	Certificate []byte   // DER, of a Success: PKCSReq, RenewalReq, CertPoll, GetCert
	CRL         []byte   // DER, of a Success: GetCRL
}

// Refuse returns a failed Result.
func Refuse(info FailInfo, text string) *Result {
	return &Result{Status: Failure, FailInfo: info, FailText: text}
}
