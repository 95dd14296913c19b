package scep

import (
	"bytes"
	"crypto"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"strconv"
)

const nonceSize = 16 // RFC 8894, section 3.2.1.5

// Reply builds the CertRep for a message, whether Parse accepted or refused it
// (RFC 8894, section 3.3.2). Use the RA that the message was opened with. Digest and cipher are those of the request, and
// the envelope goes to whoever signed the request.
func (ra *RA) Reply(m *Message, res *Result) ([]byte, error) {
	content, err := ra.replyContent(m, res)
	if err != nil {
		return nil, err
	}
	by := ra.signer
	if m.replyBy != nil {
		by = m.replyBy
	}
	return by.sign(content, m.replyDigest, ra.replyAttributes(m, res))
}

// replyContent is the content to sign: an envelope around what was asked for,
// or nothing.
func (ra *RA) replyContent(m *Message, res *Result) ([]byte, error) {
	switch res.Status {
	case Pending, Failure:
		if ra.DummyContent {
			return []byte{0}, nil
		}
		return nil, nil
	case Success:
	default:
		return nil, fmt.Errorf("no reply has the status %v", res.Status)
	}
	switch {
	case m.MessageType == GetCRL && len(res.CRL) > 0:
		return m.seal(crlOnly(res.CRL))
	case m.MessageType != GetCRL && len(res.Certificate) > 0:
		// The issued certificate is the first, and normally the only one:
		// Apple's devices take the first for theirs.
		return m.seal(certsOnly(res.Certificate, ra.chain))
	}
	return nil, fmt.Errorf("a success of %v without what was asked for", m.MessageType)
}

// replyAttributes lists the SCEP attributes of a reply.
func (ra *RA) replyAttributes(m *Message, res *Result) [][]byte {
	nonce := make([]byte, nonceSize)
	_, _ = rand.Read(nonce) // never fails
	list := append(make([][]byte, 0, 9),
		attribute(oidTransactionID, tlv(m.transactionIDTag, []byte(m.TransactionID))),
		attribute(oidMessageType, decimal(int(CertRep))),
		attribute(oidPKIStatus, decimal(int(res.Status))),
		attribute(oidSenderNonce, tlv(tagOctetString, nonce)),
	)
	if m.senderNonce != nil {
		list = append(list, attribute(oidRecipientNonce, tlv(tagOctetString, m.senderNonce)))
	}
	if res.Status == Failure {
		list = append(list, attribute(oidFailInfo, decimal(int(res.FailInfo))))
		if ra.SendFailInfoText && res.FailText != "" {
			list = append(list, attribute(oidFailInfoText, tlv(tagUTF8String, []byte(res.FailText))))
		}
	}
	return list
}

func attribute(oid string, value []byte) []byte {
	return sequence(object(oid), tlv(tagSet, value))
}

func decimal(n int) []byte { return tlv(tagPrintableString, []byte(strconv.Itoa(n))) }

// sign writes a SignedData by a signing key of the RA. content nil leaves
// eContent out. attributes come on top of contentType and messageDigest, which
// every signature has: iOS crashed over a reply without.
func (s *replySigner) sign(content []byte, digest crypto.Hash, attributes [][]byte) ([]byte, error) {
	h := digest.New()
	h.Write(content)
	attributes = append(attributes,
		attribute(oidContentType, object(oidData)),
		attribute(oidMessageDigest, tlv(tagOctetString, h.Sum(nil))))
	slices.SortFunc(attributes, bytes.Compare)

	signedAttributes := tlv(tagSet, attributes...)
	h.Reset()
	h.Write(signedAttributes)
	signature, err := s.key.Sign(rand.Reader, h.Sum(nil), digest)
	if err != nil {
		return nil, fmt.Errorf("signing a reply: %w", err)
	}
	signedAttributes[0] = tagExplicit0 // [0] IMPLICIT in the message, SET OF in the signature

	digestAlgorithm := algorithm(digestOID(digest))
	encap := sequence(object(oidData))
	if content != nil {
		encap = typed(oidData, tagOctetString, content)
	}
	return typed(oidSignedData, tagSequence,
		version(1),
		tlv(tagSet, digestAlgorithm),
		encap,
		s.certificates,
		tlv(tagSet, sequence(
			version(1),
			s.id,
			digestAlgorithm,
			signedAttributes,
			algorithm(oidRSAEncryption), // not shaXWithRSA: old clients know only this
			tlv(tagOctetString, signature),
		)),
	), nil
}

// seal encrypts to the signer of the request. Issuer and serial are its
// certificate's own bytes: a name written anew with other string types is not
// recognised by the device.
func (m *Message) seal(content []byte) ([]byte, error) {
	to, ok := m.Signer.PublicKey.(*rsa.PublicKey)
	if !ok || m.Cipher == 0 {
		return nil, errors.New("a refused message cannot be answered with content")
	}
	c := ciphers[m.Cipher]
	secrets := make([]byte, c.keyLen+c.block)
	_, _ = rand.Read(secrets) // never fails
	key, iv := secrets[:c.keyLen], secrets[c.keyLen:]
	defer clear(key)
	encryptedKey, err := encryptKey(to, key)
	if err != nil {
		return nil, fmt.Errorf("encrypting to the signer of the request: %w", err)
	}
	block, err := c.open(key)
	if err != nil {
		return nil, err // cannot happen: the key has the cipher's length
	}
	padding := c.block - len(content)%c.block
	content = append(content, bytes.Repeat([]byte{byte(padding)}, padding)...)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(content, content)

	return typed(oidEnvelopedData, tagSequence,
		version(0),
		tlv(tagSet, sequence(
			version(0),
			sequence(m.Signer.RawIssuer, tlv(tagInteger, m.Signer.RawSerial)),
			algorithm(oidRSAEncryption),
			tlv(tagOctetString, encryptedKey),
		)),
		sequence(
			object(oidData),
			sequence(object(c.oid), tlv(tagOctetString, iv)),
			tlv(tagContext0, content),
		),
	), nil
}
