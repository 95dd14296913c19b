package scepclient

import (
	"crypto"
	"time"

	"github.com/certconnector/certconnector/scep"
)

// Encoding is how a client encodes its messages.
type Encoding int

// The encodings seen.
const (
	DER         Encoding = iota // both layers in DER
	BEREnvelope                 // the envelope in BER with indefinite lengths, the outer message in DER
	BER                         // both layers in BER with indefinite lengths
)

// Escaping is how a client puts base64 into the query of a GET.
type Escaping int

// The escapings seen.
const (
	EscapeAll    Escaping = iota // '+', '/' and '=' percent-escaped, as they should be
	EscapePadded                 // only '=' escaped, '+' and '/' raw: Apple
	EscapeNone                   // nothing escaped: jscep
	EscapeLines                  // a line break (%0A) every 64 characters, '+' escaped: strongSwan, sscep
	EscapeURL                    // URL-safe alphabet, message before operation: micromdm scepclient
)

// SignerShape is what the self-signed certificate of a first enrolment looks
// like.
type SignerShape int

// The shapes seen.
const (
	SignerSubject     SignerShape = iota // the CSR's subject, X.509 v3
	SignerCriticalAKI                    // authorityKeyIdentifier marked critical: Windows
	SignerUUID                           // a random UUID as common name: Apple
	SignerSerialOne                      // serial number 1: jscep
	SignerV1                             // X.509 v1, no extensions, 33-octet serial number: certmonger
)

// TransactionIDForm is how a client chooses its transaction ID.
type TransactionIDForm int

// The forms seen. All but UUID are functions of the key, so the same ID comes
// back with every renewal under the same key.
const (
	UpperHexSHA1  TransactionIDForm = iota // Apple, strongSwan: 40 characters
	LowerHexSHA1                           // jscep
	DecimalSHA256                          // certmonger: 77 or 78 digits
	UpperHexMD5                            // sscep: 32 characters
	Base64SHA1                             // micromdm: contains '+', '/' and '='
	UUID                                   // random
)

// ValidityPair is how a client passes on the validity of its profile in
// Microsoft's name/value pair (1.3.6.1.4.1.311.13.2.1).
type ValidityPair int

// The ways seen.
const (
	PairAbsent  ValidityPair = iota // Apple sends none
	PairUsual                       // Windows
	PairSwapped                     // Android exchanges the two values
)

// RAChoice is how a client picks the certificate to encrypt to out of the
// answer to GetCACert.
type RAChoice int

// The rules seen.
const (
	ChooseByUsage RAChoice = iota // an end-entity certificate with keyEncipherment, else the CA's
	ChooseAsApple                 // Apple: chains first, then key usage; every candidate must lead to one and the same last certificate
)

// PollStyle is what a client sends after PENDING.
type PollStyle int

// The styles seen.
const (
	PollByCertPoll   PollStyle = iota // CertPoll (20), named after the issuing CA
	PollByCertPollRA                  // CertPoll (20), named after the RA: Apple
	PollByRequest                     // the same PKCSReq again: certmonger
)

// Cipher is a content encryption algorithm.
type Cipher string

// The ciphers of RFC 8894 and its predecessors. SingleDES is forbidden and
// here so that a refusal can be tested.
const (
	AES128    Cipher = "AES-128-CBC"
	AES192    Cipher = "AES-192-CBC"
	AES256    Cipher = "AES-256-CBC"
	TripleDES Cipher = "DES-EDE3-CBC"
	SingleDES Cipher = "DES-CBC"
)

// Quirks describes how one platform speaks SCEP. The zero value is a plain
// client: DER, POST, AES-128, SHA-256, CertPoll, RenewalReq.
type Quirks struct {
	Name      string // of the platform
	UserAgent string // empty: Go's

	// On the way.
	Suffix       string   // appended to the URL, Windows: /pkiclient.exe
	CAIdentifier string   // message of GetCACaps and GetCACert
	OmitMessage  bool     // no message parameter at all in GetCACaps and GetCACert
	AlwaysGET    bool     // GET even where POST is offered: certmonger
	Escaping     Escaping // of a GET
	ContentType  string   // of a POST; empty: none is sent

	// The message.
	Encoding      Encoding
	Signer        SignerShape
	TransactionID TransactionIDForm
	AES           Cipher           // sent where AES is listed; empty: AES128
	Cipher        Cipher           // sent whatever is listed; empty: by capability
	MaxDigest     crypto.Hash      // strongest digest the client uses; 0: SHA-256
	Digest        crypto.Hash      // used whatever is listed; 0: by capability
	CombinedOID   bool             // SignerInfo names sha256WithRSAEncryption, not rsaEncryption
	OAEP          crypto.Hash      // key transport by RSAES-OAEP with this hash; 0: PKCS #1 v1.5
	Protection    bool             // CMS algorithm protection attribute (RFC 6211): jscep
	SigningTime   bool             // signingTime attribute
	Unordered     bool             // signed attributes not in the order of DER
	Null          bool             // digest algorithms carry NULL parameters
	OmitNonce     bool             // no senderNonce: very old clients
	Now           func() time.Time // clock of signingTime and signer certificates; nil: time.Now

	// The request.
	ChallengeUTF8 bool         // challengePassword as UTF8String, else PrintableString where it fits
	Validity      ValidityPair // of EnrollRequest.Validity

	// The exchange.
	RA               RAChoice
	NeedCapability   [][]string       // each group: at least one must be listed
	NeedRenewal      bool             // renews only where Renewal is listed: macOS
	Renewal          scep.MessageType // 0: RenewalReq
	Poll             PollStyle
	Retries          int           // polls after PENDING before giving up
	RetryDelay       time.Duration // between polls
	FirstRetryAtOnce bool          // Apple polls for the first time without delay
}

func (q *Quirks) now() time.Time {
	if q.Now != nil {
		return q.Now()
	}
	return time.Now()
}
