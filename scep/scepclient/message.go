package scepclient

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/certconnector/certconnector/scep"
)

// Object identifiers of CMS (RFC 5652) and SCEP (RFC 8894, section 3.2.1).
var (
	oidData          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidSignedData    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	oidEnvelopedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 3}

	oidContentType   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	oidMessageDigest = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
	oidSigningTime   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 5}
	oidProtection    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 52}

	oidMessageType    = asn1.ObjectIdentifier{2, 16, 840, 1, 113733, 1, 9, 2}
	oidPKIStatus      = asn1.ObjectIdentifier{2, 16, 840, 1, 113733, 1, 9, 3}
	oidFailInfo       = asn1.ObjectIdentifier{2, 16, 840, 1, 113733, 1, 9, 4}
	oidSenderNonce    = asn1.ObjectIdentifier{2, 16, 840, 1, 113733, 1, 9, 5}
	oidRecipientNonce = asn1.ObjectIdentifier{2, 16, 840, 1, 113733, 1, 9, 6}
	oidTransactionID  = asn1.ObjectIdentifier{2, 16, 840, 1, 113733, 1, 9, 7}
	oidFailInfoText   = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 24, 1}

	oidRSA = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
)

// digests are the hash algorithms and their RSA signature algorithms. MD5 is
// forbidden (RFC 8894, section 2.9) and here so that a refusal can be tested.
var digests = map[crypto.Hash]struct{ digest, signature asn1.ObjectIdentifier }{
	crypto.MD5:    {asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 5}, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 4}},
	crypto.SHA1:   {asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 5}},
	crypto.SHA256: {asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}},
	crypto.SHA384: {asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 12}},
	crypto.SHA512: {asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 13}},
}

// Identity is a key and the certificate that goes with it.
type Identity struct {
	Certificate []byte // DER, not *x509.Certificate: crypto/x509 refuses what Windows signs with
	Key         *rsa.PrivateKey
}

// Message is one request. Build fills in Raw; a test may change Raw before it
// hands the message to Client.Send, and may send it again.
type Message struct {
	Type          scep.MessageType
	TransactionID string
	SenderNonce   []byte // empty: 16 random octets, unless the quirks omit it
	Content       []byte // what goes into the envelope, in the clear
	Signer        Identity
	Service       *Service // what the reply is checked against; its choices stand in for the next three
	Recipients    []*x509.Certificate
	Cipher        Cipher
	Digest        crypto.Hash
	Certificates  [][]byte // further certificates, DER; the signer's comes first
	Quirks        Quirks

	Raw []byte // the encoded message, set by Build
}

// Build envelops Content for the recipients, signs it and sets Raw, which it
// also returns.
func (m *Message) Build() ([]byte, error) {
	if m.Signer.Key == nil || len(m.Signer.Certificate) == 0 {
		return nil, errors.New("building a SCEP message: no signer key or certificate")
	}
	if len(m.SenderNonce) == 0 && !m.Quirks.OmitNonce {
		m.SenderNonce = make([]byte, 16)
		rand.Read(m.SenderNonce)
	}
	if s := m.Service; s != nil {
		if len(m.Recipients) == 0 {
			m.Recipients = []*x509.Certificate{s.Recipient}
		}
		m.Cipher, m.Digest = cmp.Or(m.Cipher, s.Cipher), cmp.Or(m.Digest, s.Digest)
	}
	envelope, err := seal(m.Content, m.Recipients, m.Cipher, m.Quirks.OAEP)
	if err != nil {
		return nil, fmt.Errorf("building a SCEP message: %w", err)
	}
	if m.Quirks.Encoding != DER {
		if envelope, err = ToBER(envelope); err != nil {
			return nil, fmt.Errorf("building a SCEP message: %w", err)
		}
	}
	signed, err := m.sign(envelope)
	if err != nil {
		return nil, fmt.Errorf("building a SCEP message: %w", err)
	}
	if m.Quirks.Encoding == BER {
		if signed, err = ToBER(signed); err != nil {
			return nil, fmt.Errorf("building a SCEP message: %w", err)
		}
	}
	m.Raw = signed
	return signed, nil
}

// sign wraps content into a SignedData with the SCEP attributes (RFC 8894,
// section 3.2).
func (m *Message) sign(content []byte) ([]byte, error) {
	hash := m.Digest
	if hash == 0 {
		hash = crypto.SHA256
	}
	ids, ok := digests[hash]
	if !ok || !hash.Available() {
		return nil, fmt.Errorf("digest %v is not supported", hash)
	}
	signer, err := readCertificate(m.Signer.Certificate)
	if err != nil {
		return nil, fmt.Errorf("signer certificate: %w", err)
	}
	digestAlgorithm := algorithm(ids.digest, nil)
	if m.Quirks.Null {
		digestAlgorithm = algorithm(ids.digest, null())
	}
	signatureAlgorithm := algorithm(oidRSA, null())
	if m.Quirks.CombinedOID {
		signatureAlgorithm = algorithm(ids.signature, nil)
	}

	attributes := m.attributes(sum(hash, content), digestAlgorithm, signatureAlgorithm)
	signature, err := rsa.SignPKCS1v15(nil, m.Signer.Key, hash, sum(hash, set(attributes...)))
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	certificates := slices.Concat(slices.Insert(slices.Clone(m.Certificates), 0, m.Signer.Certificate)...)
	signerInfo := sequence(smallInteger(1), sequence(signer.issuer, signer.serial), digestAlgorithm,
		tlv(tagContext0, attributes...), signatureAlgorithm, octets(signature))
	return sequence(oid(oidSignedData), tlv(tagContext0, sequence(
		smallInteger(1),
		set(digestAlgorithm),
		sequence(oid(oidData), tlv(tagContext0, octets(content))),
		tlv(tagContext0, certificates),
		set(signerInfo),
	))), nil
}

// attributes returns the signed attributes, each encoded, in the order of DER
// unless the quirks say otherwise.
func (m *Message) attributes(digest, digestAlgorithm, signatureAlgorithm []byte) [][]byte {
	attribute := func(id asn1.ObjectIdentifier, value []byte) []byte { return sequence(oid(id), set(value)) }
	printable := func(s string) []byte { return tlv(tagPrintableString, []byte(s)) }
	list := [][]byte{
		attribute(oidTransactionID, printable(m.TransactionID)),
		attribute(oidMessageType, printable(strconv.Itoa(int(m.Type)))),
		attribute(oidContentType, oid(oidData)),
		attribute(oidMessageDigest, octets(digest)),
	}
	if len(m.SenderNonce) > 0 {
		list = append(list, attribute(oidSenderNonce, octets(m.SenderNonce)))
	}
	if m.Quirks.SigningTime {
		list = append(list, attribute(oidSigningTime, marshalTime(m.Quirks.now())))
	}
	if m.Quirks.Protection {
		// CMSAlgorithmProtection ::= SEQUENCE { digestAlgorithm, signatureAlgorithm [1] IMPLICIT }
		implicit := slices.Clone(signatureAlgorithm)
		implicit[0] = 0xa1
		list = append(list, attribute(oidProtection, sequence(digestAlgorithm, implicit)))
	}
	if !m.Quirks.Unordered {
		slices.SortFunc(list, bytes.Compare)
	}
	return list
}

// marshalTime encodes a Time: UTCTime up to 2049 (RFC 5652, section 11.3).
func marshalTime(t time.Time) []byte {
	b, err := asn1.Marshal(t.UTC().Truncate(time.Second))
	if err != nil {
		panic(fmt.Sprintf("encoding a time: %v", err)) // years 0 to 9999 all encode
	}
	return b
}

func sum(hash crypto.Hash, b []byte) []byte {
	h := hash.New()
	h.Write(b)
	return h.Sum(nil)
}
