package scep

import "crypto"

// Message is a request as it came in: the outer layer read, the envelope still
// closed. Its exported fields are for rules and logs and must not be changed.
type Message struct {
	TransactionID string      // opaque octets, 1 to 255; escape it before printing
	MessageType   MessageType // as sent, even if not supported; 0 when absent
	Signer        *Signer
	Digest        crypto.Hash // of the signature; 0 when not supported
	Cipher        Cipher      // of the envelope; 0 when not known or not supported

	transactionIDTag byte
	senderNonce      []byte
	replyDigest      crypto.Hash
	envelope         *envelope
	accept           Algorithms
	replyBy          *replySigner // whom an older key's device expects; nil: the present signer
}

// Parse reads a PKIMessage and verifies its signature with the key of the
// certificate that came with it; whose certificate that is, is not asked. The
// message keeps slices of body, which must not change.
//
// The error is a *Malformed and the message nil when there is nothing to reply
// to. It is a *Refusal, together with a message that RA.Reply takes, when the
// answer is a signed FAILURE. Everything here comes before any use of the RA's
// private keys.
func Parse(body []byte, accept Algorithms) (*Message, error) {
	u, err := Read(body)
	if err != nil {
		return nil, err
	}
	return u.Verify(accept)
}

// check judges a message that can be replied to.
func (m *Message) check(sd *signedData, attributes *signedAttributes) error {
	if m.Digest == 0 || m.Digest == crypto.SHA1 && !m.accept.LegacySHA1 {
		return refuse(BadAlg, "digest algorithm not accepted")
	}
	m.replyDigest = m.Digest
	if err := sd.verify(m.Signer, m.Digest, attributes); err != nil {
		return err
	}
	switch {
	case attributes.doubled:
		return refuse(BadRequest, "an attribute comes twice")
	case m.senderNonce == nil:
		return refuse(BadRequest, "no senderNonce")
	}
	switch m.MessageType {
	case PKCSReq, RenewalReq, CertPoll, GetCert, GetCRL:
	default:
		return refuse(BadRequest, "messageType not supported")
	}
	if sd.content == nil {
		return refuse(BadRequest, "no content")
	}
	e, err := readEnvelope(sd.content, m.accept)
	if err != nil {
		return err
	}
	m.envelope, m.Cipher = e, e.cipher // only now can it be opened
	return nil
}
