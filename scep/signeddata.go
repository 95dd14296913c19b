package scep

import (
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Why this package reads CMS itself. github.com/smallstep/pkcs7 serves us as a
// client and as a second opinion in tests, but a server for real devices needs
// what it does not offer:
//
//   - it reads every certificate with crypto/x509, which refuses what Windows
//     sends (a critical authorityKeyIdentifier);
//   - it cannot copy a recipient's issuer as bytes, so that a name with other
//     string types comes back changed and the device does not find its key;
//   - it writes shaXWithRSAEncryption into SignerInfo, where old clients want
//     rsaEncryption;
//   - its failures after decryption differ by kind, each one an oracle;
//   - its BER conversion has no limits, its algorithms are global variables.

// Limits on one message.
const (
	maxCertificates = 16
	maxRecipients   = 10
	maxAttributes   = 64
)

// signedData is the outer layer of a message (RFC 5652, section 5.1).
type signedData struct {
	content      []byte // octets of eContent, nil when absent
	certificates [][]byte

	signer             identifier
	digestAlgorithm    []byte // object identifiers' content
	signatureAlgorithm []byte
	attributes         []byte // content of signedAttrs
	signature          []byte
}

// readSignedData reads a ContentInfo holding SignedData; der has DER lengths.
func readSignedData(der []byte) (*signedData, error) {
	s := cryptobyte.String(der)
	var info, oid, explicit, data, version, digests, encap cryptobyte.String
	if !s.ReadASN1(&info, cbasn1.SEQUENCE) || !info.ReadASN1(&oid, cbasn1.OBJECT_IDENTIFIER) ||
		string(oid) != oidSignedData ||
		!info.ReadASN1(&explicit, cbasn1.Tag(0).ContextSpecific().Constructed()) ||
		!explicit.ReadASN1(&data, cbasn1.SEQUENCE) || !data.ReadASN1(&version, cbasn1.INTEGER) ||
		!data.ReadASN1(&digests, cbasn1.SET) || !data.ReadASN1(&encap, cbasn1.SEQUENCE) {
		return nil, malformed("no CMS SignedData")
	}
	var sd signedData
	if err := sd.readContent(encap); err != nil {
		return nil, err
	}
	if err := sd.readCertificates(&data); err != nil {
		return nil, err
	}
	var signers cryptobyte.String
	if !data.SkipOptionalASN1(cbasn1.Tag(1).ContextSpecific().Constructed()) || !data.ReadASN1(&signers, cbasn1.SET) {
		return nil, malformed("no signerInfos")
	}
	return &sd, sd.readSignerInfo(signers)
}

// readContent reads EncapsulatedContentInfo. Its content type is not looked
// at: what is inside shows.
func (sd *signedData) readContent(encap cryptobyte.String) error {
	var oid, explicit, octets cryptobyte.String
	if !encap.ReadASN1(&oid, cbasn1.OBJECT_IDENTIFIER) {
		return malformed("no content type")
	}
	if encap.Empty() {
		return nil
	}
	if !encap.ReadASN1(&explicit, cbasn1.Tag(0).ContextSpecific().Constructed()) ||
		!explicit.ReadASN1(&octets, cbasn1.OCTET_STRING) {
		return malformed("content is no OCTET STRING")
	}
	sd.content = octets
	return nil
}

func (sd *signedData) readCertificates(data *cryptobyte.String) error {
	var (
		set     cryptobyte.String
		present bool
	)
	if !data.ReadOptionalASN1(&set, &present, cbasn1.Tag(0).ContextSpecific().Constructed()) {
		return malformed("certificates")
	}
	for !set.Empty() {
		var (
			cert cryptobyte.String
			tag  cbasn1.Tag
		)
		if !set.ReadAnyASN1Element(&cert, &tag) {
			return malformed("certificates")
		}
		if tag != cbasn1.SEQUENCE { // an attribute certificate or the like
			continue
		}
		if sd.certificates = append(sd.certificates, cert); len(sd.certificates) > maxCertificates {
			return malformed(fmt.Sprintf("more than %d certificates", maxCertificates))
		}
	}
	return nil
}

// readSignerInfo reads the one SignerInfo of a message (RFC 5652, section 5.3).
func (sd *signedData) readSignerInfo(signers cryptobyte.String) error {
	var info, version, attributes, signature cryptobyte.String
	if !signers.ReadASN1(&info, cbasn1.SEQUENCE) || !signers.Empty() {
		return malformed("not exactly one signer")
	}
	var ok bool
	if !info.ReadASN1(&version, cbasn1.INTEGER) {
		return malformed("SignerInfo")
	}
	if sd.signer, ok = readIdentifier(&info); !ok {
		return malformed("signer identifier")
	}
	if sd.digestAlgorithm, _, ok = readAlgorithm(&info); !ok {
		return malformed("digest algorithm")
	}
	if !info.ReadASN1(&attributes, cbasn1.Tag(0).ContextSpecific().Constructed()) {
		return malformed("no signed attributes")
	}
	if sd.signatureAlgorithm, _, ok = readAlgorithm(&info); !ok {
		return malformed("signature algorithm")
	}
	if !info.ReadASN1(&signature, cbasn1.OCTET_STRING) {
		return malformed("no signature")
	}
	sd.attributes, sd.signature = attributes, signature
	return nil
}

// findSigner returns the certificate the signer is named by. A message with a
// single certificate means that one, however its name was re-encoded: the
// signature has to fit its key anyway.
func (sd *signedData) findSigner() (*Signer, error) {
	if len(sd.certificates) == 1 {
		s, err := ParseSigner(sd.certificates[0])
		if err != nil {
			return nil, malformed("signer certificate")
		}
		return s, nil
	}
	for _, der := range sd.certificates {
		s, err := ParseSigner(der)
		if err != nil {
			continue // of somebody else, perhaps
		}
		if sd.signer.names(s.RawIssuer, s.RawSerial, func() []byte { return subjectKeyID(der) }) {
			return s, nil
		}
	}
	return nil, malformed("no certificate of the signer")
}
