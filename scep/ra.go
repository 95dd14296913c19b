package scep

import (
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Shape says which certificates a device is shown.
type Shape int

// The shapes of GetCACert.
const (
	// SplitRA is NDES's shape: one certificate signs replies, another opens requests.
	SplitRA Shape = iota
	// CombinedRA has one RA certificate for both.
	CombinedRA
	// CADirect has the CA itself sign and decrypt. Attacks on the decryption
	// then reach the CA's own key; it is for laboratories.
	CADirect
)

// String returns "split RA", "combined RA" or "CA direct".
func (s Shape) String() string {
	switch s {
	case SplitRA:
		return "split RA"
	case CombinedRA:
		return "combined RA"
	case CADirect:
		return "CA direct"
	}
	return fmt.Sprintf("shape(%d)", int(s))
}

// KeyPair is a certificate and its private key. For an encryption pair the key
// is a crypto.Decrypter too, as *rsa.PrivateKey is.
type KeyPair struct {
	Certificate *x509.Certificate
	Key         crypto.Signer
}

// NextCA is what GetNextCACert announces (RFC 8894, section 4.7).
type NextCA struct {
	Chain []*x509.Certificate // the next CA certificate first, then its chain
	RA    []*x509.Certificate // the next RA certificates
}

// RA is the registration authority's keys and what GetCACert serves. Fill the
// exported fields and hand it to NewRA, which returns one that works. It is
// safe for concurrent use and must not be changed afterwards; a renewed
// certificate means a new RA.
type RA struct {
	Signing    KeyPair   // signs replies
	Encryption KeyPair   // opens requests; the signing pair unless Shape is SplitRA
	Previous   []KeyPair // older encryption pairs that still open envelopes
	// PreviousSigning has, at the index of an older encryption pair, the signing
	// pair of its time: the answer to a message that the older key opened is
	// signed with it, since a device which asked GetCACert before the change
	// may know no other signer. It may be shorter, and empty pairs are none.
	PreviousSigning []KeyPair
	Shape           Shape
	Chain           []*x509.Certificate // issuing CA … root
	IncludeRoot     bool                // show the root in GetCACert: Apple wants all chains to end in one certificate
	DERSort         bool                // sort the certificates of GetCACert as DER demands; first-certificate clients then break
	Next            *NextCA             // nil: GetNextCACert is not served

	// IncludeChain adds the CA's chain without the root to issued
	// certificates. Apple's devices take whatever comes first, so that only
	// clients that cannot build a chain otherwise should get it.
	IncludeChain bool
	// DummyContent puts one zero octet into replies that carry nothing, as NDES
	// does in failures. certmonger with OpenSSL 3 reads no others.
	DummyContent bool
	// SendFailInfoText puts Result.FailText on the wire. Attackers read it too.
	SendFailInfoText bool

	decryption []decryptionKey
	signer     *replySigner
	chain      []byte // what IncludeChain adds
	caCert     []byte
	caCertType string
}

// replySigner is a signing pair as replies name it.
type replySigner struct {
	key          crypto.Signer
	id           []byte // IssuerAndSerialNumber
	certificates []byte // the field of replies
}

func newReplySigner(p KeyPair) (*replySigner, error) {
	serial, err := rawSerial(p.Certificate)
	if err != nil {
		return nil, fmt.Errorf("signing certificate: %w", err)
	}
	return &replySigner{
		key: p.Key, id: sequence(p.Certificate.RawIssuer, tlv(tagInteger, serial)), certificates: tlv(tagExplicit0, p.Certificate.Raw),
	}, nil
}

// decryptionKey is a key and the ways a recipient may name it.
type decryptionKey struct {
	issuer, serial, keyID []byte
	size                  int // octets of an encrypted key
	decrypter             crypto.Decrypter
	signer                *replySigner // of what the key opened; nil: the present one
}

// NewRA checks that everything belongs together and is what devices can use,
// and prepares what is the same in every reply. It reports all mistakes at
// once. Validity dates are not its concern.
func NewRA(material RA) (*RA, error) {
	ra := material
	if err := ra.validate(); err != nil {
		return nil, fmt.Errorf("registration authority: %w", err)
	}
	pairs := append([]KeyPair{ra.Encryption}, ra.Previous...)
	for i, p := range pairs {
		key, err := newDecryptionKey(p)
		if err == nil && i > 0 && i <= len(ra.PreviousSigning) && ra.PreviousSigning[i-1].Certificate != nil {
			key.signer, err = newReplySigner(ra.PreviousSigning[i-1])
		}
		if err != nil {
			return nil, fmt.Errorf("registration authority: %w", err)
		}
		ra.decryption = append(ra.decryption, key)
	}
	var err error
	if ra.signer, err = newReplySigner(ra.Signing); err != nil {
		return nil, fmt.Errorf("registration authority: %w", err)
	}
	for _, c := range ra.Chain {
		if ra.IncludeChain && !selfIssued(c) {
			ra.chain = append(ra.chain, c.Raw...)
		}
	}
	ra.caCert, ra.caCertType = ra.buildCACert()
	return &ra, nil
}

func newDecryptionKey(p KeyPair) (decryptionKey, error) {
	serial, err := rawSerial(p.Certificate)
	if err != nil {
		return decryptionKey{}, err
	}
	return decryptionKey{
		issuer:    p.Certificate.RawIssuer,
		serial:    serial,
		keyID:     p.Certificate.SubjectKeyId,
		size:      p.Certificate.PublicKey.(*rsa.PublicKey).Size(), // validate saw to it
		decrypter: p.Key.(crypto.Decrypter),
	}, nil
}

// rawSerial returns the content octets of a certificate's serial number.
func rawSerial(c *x509.Certificate) ([]byte, error) {
	s := cryptobyte.String(c.RawTBSCertificate)
	var tbs, serial cryptobyte.String
	if !s.ReadASN1(&tbs, cbasn1.SEQUENCE) || !tbs.SkipOptionalASN1(cbasn1.Tag(0).ContextSpecific().Constructed()) ||
		!tbs.ReadASN1(&serial, cbasn1.INTEGER) {
		return nil, errors.New("certificate without a serial number")
	}
	return serial, nil
}
