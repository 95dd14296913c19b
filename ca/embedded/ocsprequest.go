package embedded

import (
	"crypto"
	_ "crypto/sha1" // clients name issuers by it; nothing is signed or verified with it
	_ "crypto/sha256"
	_ "crypto/sha512"
	"encoding/asn1"
	"errors"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// maxOCSPRequest bounds a request in octets. Those of real clients have 70 to
// 300.
const maxOCSPRequest = 4096

// maxNonce is the upper bound of RFC 9654, section 2.1.
const maxNonce = 128

// maxSerial is the 20 octets of RFC 5280, section 4.1.2.2, and one for clients
// that count the sign.
const maxSerial = 21

// ocspRequest is what is answered of an OCSPRequest: one certificate.
type ocspRequest struct {
	id    []byte      // CertID, DER: it is repeated in the response
	hash  crypto.Hash // 0: one that is not known
	name  []byte      // digest of the issuer's name
	key   []byte      // digest of the issuer's key
	nonce []byte      // the extension's value, DER; nil: none

	serial *big.Int
}

var errOCSPRequest = errors.New("not an OCSP request for one certificate")

var (
	oidOCSPNonce = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 2}
	// ocspHashes are the digests by which an issuer may be named.
	ocspHashes = []struct {
		oid  asn1.ObjectIdentifier
		hash crypto.Hash
	}{
		{asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}, crypto.SHA1},
		{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, crypto.SHA256},
		{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}, crypto.SHA384},
		{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}, crypto.SHA512},
	}
)

var (
	tag0 = cbasn1.Tag(0).ContextSpecific().Constructed()
	tag1 = cbasn1.Tag(1).ContextSpecific().Constructed()
	tag2 = cbasn1.Tag(2).ContextSpecific().Constructed()
)

// parseOCSPRequest reads OCSPRequest of RFC 6960, section 4.1.1. A signature
// and the requestor's name are allowed and not looked at: everybody gets the
// same answer.
func parseOCSPRequest(der []byte) (ocspRequest, error) {
	var r ocspRequest
	if len(der) > maxOCSPRequest {
		return r, errOCSPRequest
	}
	var request, tbs, list cryptobyte.String
	in := cryptobyte.String(der)
	if !in.ReadASN1(&request, cbasn1.SEQUENCE) || !in.Empty() || !request.ReadASN1(&tbs, cbasn1.SEQUENCE) ||
		!request.SkipOptionalASN1(tag0) || !request.Empty() {
		return r, errOCSPRequest
	}
	var version int
	if !tbs.ReadOptionalASN1Integer(&version, tag0, 0) || version != 0 || !tbs.SkipOptionalASN1(tag1) ||
		!tbs.ReadASN1(&list, cbasn1.SEQUENCE) {
		return r, errOCSPRequest
	}
	if err := r.readExtensions(&tbs, tag2, true); err != nil || !tbs.Empty() {
		return r, errOCSPRequest
	}
	var single cryptobyte.String
	if !list.ReadASN1(&single, cbasn1.SEQUENCE) || !list.Empty() { // one certificate, no more
		return r, errOCSPRequest
	}
	if !r.readCertID(&single) {
		return r, errOCSPRequest
	}
	if err := r.readExtensions(&single, tag0, false); err != nil || !single.Empty() {
		return r, errOCSPRequest
	}
	return r, nil
}

// readCertID reads the algorithm, the digests and the serial number.
func (r *ocspRequest) readCertID(in *cryptobyte.String) bool {
	var element, id, algorithm, name, key cryptobyte.String
	if !in.ReadASN1Element(&element, cbasn1.SEQUENCE) {
		return false
	}
	r.id = element
	var oid asn1.ObjectIdentifier
	serial := new(big.Int)
	ok := element.ReadASN1(&id, cbasn1.SEQUENCE) && id.ReadASN1(&algorithm, cbasn1.SEQUENCE) &&
		algorithm.ReadASN1ObjectIdentifier(&oid) && algorithm.SkipOptionalASN1(cbasn1.NULL) && algorithm.Empty() &&
		id.ReadASN1(&name, cbasn1.OCTET_STRING) && id.ReadASN1(&key, cbasn1.OCTET_STRING) &&
		id.ReadASN1Integer(serial) && id.Empty()
	if !ok || len(serial.Bytes()) > maxSerial {
		return false
	}
	r.name, r.key, r.serial = name, key, serial
	for _, h := range ocspHashes {
		if h.oid.Equal(oid) {
			r.hash = h.hash
		}
	}
	return true
}

// readExtensions reads optional extensions. Of the request's own the nonce is
// kept. A critical one that is not known spoils the request (RFC 6960, section
// 4.4); others are left alone.
func (r *ocspRequest) readExtensions(in *cryptobyte.String, tag cbasn1.Tag, ofRequest bool) error {
	var outer, extensions cryptobyte.String
	var there bool
	if !in.ReadOptionalASN1(&outer, &there, tag) {
		return errOCSPRequest
	}
	if !there {
		return nil
	}
	if !outer.ReadASN1(&extensions, cbasn1.SEQUENCE) || !outer.Empty() {
		return errOCSPRequest
	}
	for !extensions.Empty() {
		var e, value cryptobyte.String
		var oid asn1.ObjectIdentifier
		critical := false
		if !extensions.ReadASN1(&e, cbasn1.SEQUENCE) || !e.ReadASN1ObjectIdentifier(&oid) ||
			e.PeekASN1Tag(cbasn1.BOOLEAN) && !e.ReadASN1Boolean(&critical) ||
			!e.ReadASN1(&value, cbasn1.OCTET_STRING) || !e.Empty() {
			return errOCSPRequest
		}
		switch {
		case ofRequest && oid.Equal(oidOCSPNonce):
			if r.nonce != nil || !isNonce(value) {
				return errOCSPRequest
			}
			r.nonce = value
		case critical:
			return errOCSPRequest
		}
	}
	return nil
}

// isNonce says whether a value is an OCTET STRING of 1 to 128 octets. Others
// are malformed (RFC 9654, section 2.1).
func isNonce(value cryptobyte.String) bool {
	var nonce cryptobyte.String
	return value.ReadASN1(&nonce, cbasn1.OCTET_STRING) && value.Empty() && len(nonce) >= 1 && len(nonce) <= maxNonce
}
