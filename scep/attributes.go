package scep

import (
	"fmt"
	"strconv"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

const (
	maxTransactionID = 255
	maxNonce         = 64 // octets; RFC 8894 says 16
)

// signedAttributes are those of a request (RFC 8894, section 3.2.1).
type signedAttributes struct {
	transactionID    string
	transactionIDTag byte // string type to echo it in
	messageType      int  // -1: absent or no number
	senderNonce      []byte
	messageDigest    []byte

	elements [][]byte // every attribute, whole, in the order sent
	doubled  bool     // one of ours came twice or with several values
}

// readAttributes reads the content of signedAttrs. Only what makes a CertRep
// impossible is an error; the rest is for Parse to judge. Unknown attributes,
// and those that only replies have, are ignored.
func readAttributes(content []byte) (*signedAttributes, error) {
	a := &signedAttributes{messageType: -1, elements: make([][]byte, 0, 8)}
	s := cryptobyte.String(content)
	seenType, seenID := false, false
	for !s.Empty() {
		var whole, attribute, oid, values, value cryptobyte.String
		var tag cbasn1.Tag
		if !s.ReadASN1Element(&whole, cbasn1.SEQUENCE) {
			return nil, malformed("signed attributes")
		}
		if a.elements = append(a.elements, whole); len(a.elements) > maxAttributes {
			return nil, malformed(fmt.Sprintf("more than %d signed attributes", maxAttributes))
		}
		if !whole.ReadASN1(&attribute, cbasn1.SEQUENCE) || !attribute.ReadASN1(&oid, cbasn1.OBJECT_IDENTIFIER) ||
			!attribute.ReadASN1(&values, cbasn1.SET) {
			return nil, malformed("signed attributes")
		}
		switch string(oid) {
		case oidTransactionID, oidMessageType, oidSenderNonce, oidMessageDigest:
		default:
			continue
		}
		if !values.ReadAnyASN1(&value, &tag) || !values.Empty() {
			a.doubled = true
			continue
		}
		switch string(oid) {
		case oidTransactionID:
			if seenID {
				return nil, malformed("two transactionIDs")
			}
			seenID = true
			a.setTransactionID(byte(tag), value)
		case oidMessageType:
			a.doubled = a.doubled || seenType
			seenType = true
			if n, err := strconv.ParseUint(string(value), 10, 16); err == nil {
				a.messageType = int(n)
			}
		case oidSenderNonce:
			a.doubled = a.doubled || a.senderNonce != nil
			a.senderNonce = value
		case oidMessageDigest:
			a.doubled = a.doubled || a.messageDigest != nil
			a.messageDigest = value
		}
	}
	if n := len(a.transactionID); n == 0 || n > maxTransactionID {
		return nil, malformed("no transactionID of 1 to 255 octets")
	}
	return a, nil
}

// setTransactionID keeps the octets, whatever they mean, and the string type
// to echo them in: clients compare both.
func (a *signedAttributes) setTransactionID(tag byte, value []byte) {
	switch tag {
	case tagUTF8String, 0x12, tagPrintableString, 0x14, 0x16, 0x1a: // Numeric-, Teletex-, IA5-, VisibleString
		a.transactionIDTag = tag
	case tagOctetString:
		a.transactionIDTag = tagPrintableString
	default:
		return
	}
	a.transactionID = string(value)
}
