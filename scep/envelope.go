package scep

import (
	"crypto"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// envelope is an EnvelopedData (RFC 5652, section 6.1) before decryption.
type envelope struct {
	recipients []recipient
	cipher     Cipher
	iv         []byte
	content    []byte // whole blocks, at least one
}

// recipient is a KeyTransRecipientInfo (RFC 5652, section 6.2.1).
type recipient struct {
	id        identifier
	oaep      crypto.Hash // 0: PKCS #1 v1.5
	mgf       crypto.Hash
	encrypted []byte
}

// readEnvelope reads the pkcsPKIEnvelope. All of this is public, but it fails
// with the refusal of everything behind it; only algorithms are named, so that
// a device that asks for single DES can be told.
func readEnvelope(content []byte, accept Algorithms) (*envelope, error) {
	der, err := toDER(content)
	if err != nil {
		return nil, unopened("envelope: " + err.Error())
	}
	s := cryptobyte.String(der)
	var info, oid, explicit, data, version, recipients, eci cryptobyte.String
	if !s.ReadASN1(&info, cbasn1.SEQUENCE) || !info.ReadASN1(&oid, cbasn1.OBJECT_IDENTIFIER) ||
		string(oid) != oidEnvelopedData ||
		!info.ReadASN1(&explicit, cbasn1.Tag(0).ContextSpecific().Constructed()) ||
		!explicit.ReadASN1(&data, cbasn1.SEQUENCE) || !data.ReadASN1(&version, cbasn1.INTEGER) ||
		!data.SkipOptionalASN1(cbasn1.Tag(0).ContextSpecific().Constructed()) || // originatorInfo
		!data.ReadASN1(&recipients, cbasn1.SET) || !data.ReadASN1(&eci, cbasn1.SEQUENCE) {
		return nil, unopened("no CMS EnvelopedData")
	}
	e := &envelope{}
	if err := e.readContent(eci, accept); err != nil {
		return nil, err
	}
	return e, e.readRecipients(recipients)
}

// readContent reads EncryptedContentInfo. Its content type should be id-data;
// some clients say encryptedData, and it makes no difference.
func (e *envelope) readContent(eci cryptobyte.String, accept Algorithms) error {
	var skipped, octets, iv cryptobyte.String
	if !eci.ReadASN1(&skipped, cbasn1.OBJECT_IDENTIFIER) {
		return unopened("no encryptedContentInfo")
	}
	oid, parameters, ok := readAlgorithm(&eci)
	if !ok {
		return unopened("content encryption algorithm")
	}
	if e.cipher = cipherOf(oid, accept); e.cipher == 0 {
		return refuse(BadAlg, "content encryption algorithm not accepted")
	}
	block := ciphers[e.cipher].block
	p := cryptobyte.String(parameters)
	if !p.ReadASN1(&iv, cbasn1.OCTET_STRING) || len(iv) != block {
		return unopened("initialisation vector")
	}
	e.iv = iv
	var tag cbasn1.Tag
	if !eci.ReadAnyASN1(&octets, &tag) {
		return unopened("no encrypted content")
	}
	e.content = octets
	switch tag {
	case cbasn1.Tag(0).ContextSpecific():
	case cbasn1.Tag(0).ContextSpecific().Constructed(): // in segments, as Apple sends it
		joined, err := joinSegments(octets)
		if err != nil {
			return unopened("segmented content: " + err.Error())
		}
		e.content = joined
	default:
		return unopened("no encrypted content")
	}
	if len(e.content) == 0 || len(e.content)%block != 0 {
		return unopened("encrypted content is not whole blocks")
	}
	return nil
}

// readRecipients reads the recipients by key transport; others are skipped.
func (e *envelope) readRecipients(set cryptobyte.String) error {
	unknown := false
	for n := 0; !set.Empty(); n++ {
		var (
			info, version, encrypted cryptobyte.String
			tag                      cbasn1.Tag
			r                        recipient
			ok                       bool
		)
		if n == maxRecipients {
			return unopened("too many recipients")
		}
		if !set.ReadAnyASN1(&info, &tag) {
			return unopened("recipients")
		}
		if tag != cbasn1.SEQUENCE {
			unknown = true
			continue
		}
		if !info.ReadASN1(&version, cbasn1.INTEGER) {
			return unopened("recipient")
		}
		if r.id, ok = readIdentifier(&info); !ok {
			return unopened("recipient identifier")
		}
		oid, parameters, ok := readAlgorithm(&info)
		if !ok || !info.ReadASN1(&encrypted, cbasn1.OCTET_STRING) {
			return unopened("recipient")
		}
		r.encrypted = encrypted
		switch string(oid) {
		case oidRSAEncryption:
		case oidRSAESOAEP:
			if r.oaep, r.mgf, ok = readOAEP(parameters); !ok {
				unknown = true
				continue
			}
		default:
			unknown = true
			continue
		}
		e.recipients = append(e.recipients, r)
	}
	if len(e.recipients) == 0 {
		if unknown {
			return refuse(BadAlg, "key transport algorithm not accepted")
		}
		return unopened("no recipient")
	}
	return nil
}

// readOAEP reads RSAES-OAEP-params (RFC 8017, appendix A.2.1). Everything
// defaults to SHA-1, which is sound here whatever it is for signatures.
func readOAEP(parameters []byte) (hash, mgf crypto.Hash, ok bool) {
	hash, mgf = crypto.SHA1, crypto.SHA1
	if parameters == nil {
		return hash, mgf, true
	}
	s := cryptobyte.String(parameters)
	var seq, field cryptobyte.String
	var present bool
	if !s.ReadASN1(&seq, cbasn1.SEQUENCE) || !seq.ReadOptionalASN1(&field, &present, cbasn1.Tag(0).ContextSpecific().Constructed()) {
		return 0, 0, false
	}
	if present {
		oid, _, ok := readAlgorithm(&field)
		if hash = digestOf(oid); !ok || hash == 0 {
			return 0, 0, false
		}
	}
	if !seq.ReadOptionalASN1(&field, &present, cbasn1.Tag(1).ContextSpecific().Constructed()) {
		return 0, 0, false
	}
	if present {
		oid, inner, ok := readAlgorithm(&field)
		if !ok || string(oid) != oidMGF1 {
			return 0, 0, false
		}
		if inner != nil {
			p := cryptobyte.String(inner)
			oid, ok = nil, false
			oid, _, ok = readAlgorithm(&p)
			if mgf = digestOf(oid); !ok || mgf == 0 {
				return 0, 0, false
			}
		}
	}
	if !seq.ReadOptionalASN1(&field, &present, cbasn1.Tag(2).ContextSpecific().Constructed()) {
		return 0, 0, false
	}
	if present { // nobody sends a label
		oid, label, ok := readAlgorithm(&field)
		if !ok || string(oid) != oidPSpecified || len(label) != 2 || label[0] != tagOctetString {
			return 0, 0, false
		}
	}
	return hash, mgf, seq.Empty()
}
