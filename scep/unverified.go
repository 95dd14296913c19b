package scep

import "crypto"

// Unverified is a message of which the outer layer was read and nothing
// checked: whoever sent it may have chosen any of this. It is good for putting
// messages in order before anything costly is done for them, and for nothing
// else.
type Unverified struct {
	TransactionID string
	MessageType   MessageType // as sent, even if not supported; 0 when absent
	Signer        *Signer

	sd         *signedData
	attributes *signedAttributes
}

// Read reads the outer layer of a PKIMessage and uses no key. The error is a
// *Malformed: there is nothing to reply to. The result keeps slices of body,
// which must not change.
func Read(body []byte) (*Unverified, error) {
	der, err := toDER(body)
	if err != nil {
		return nil, malformed(err.Error())
	}
	sd, err := readSignedData(der)
	if err != nil {
		return nil, err
	}
	attributes, err := readAttributes(sd.attributes)
	if err != nil {
		return nil, err
	}
	signer, err := sd.findSigner()
	if err != nil {
		return nil, err
	}
	return &Unverified{
		TransactionID: attributes.transactionID, MessageType: MessageType(max(attributes.messageType, 0)), Signer: signer,
		sd: sd, attributes: attributes,
	}, nil
}

// Verify is the other half of Parse: it verifies the signature and judges the
// message. The message is never nil; the error is a *Refusal.
func (u *Unverified) Verify(accept Algorithms) (*Message, error) {
	m := &Message{
		TransactionID:    u.TransactionID,
		MessageType:      u.MessageType,
		Signer:           u.Signer,
		Digest:           digestOf(u.sd.digestAlgorithm),
		transactionIDTag: u.attributes.transactionIDTag,
		replyDigest:      crypto.SHA256,
		accept:           accept,
	}
	if n := len(u.attributes.senderNonce); n > 0 && n <= maxNonce {
		m.senderNonce = u.attributes.senderNonce
	}
	return m, m.check(u.sd, u.attributes)
}
