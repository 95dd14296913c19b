package scepclient

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/certconnector/certconnector/internal/cms"
	"github.com/certconnector/certconnector/scep"
)

// Reply is what a server answered to a PKIOperation. Everything but
// HTTPStatus, RetryAfter and Raw was verified: the signer is known from
// GetCACert, transactionID and nonce belong to the request, the envelope was
// sealed for its signer.
type Reply struct {
	Status       scep.Status
	FailInfo     scep.FailInfo // of a Failure
	FailInfoText string        // of a Failure, where the server sends it
	Certificate  *x509.Certificate
	Certificates []*x509.Certificate // all that came, in order
	CRL          *x509.RevocationList
	Signer       *x509.Certificate // who signed the CertRep
	Nonce        []byte            // the reply's own senderNonce
	Elapsed      time.Duration     // of the HTTP exchange

	Transaction *Transaction // of Enroll: what Poll goes on with

	Raw        []byte
	HTTPStatus int
	RetryAfter time.Duration // of a 503; 0: not said
}

// parseCMS reads CMS within the limits of RFC 8894's own messages; only what
// is read off the wire in one piece, maxBody, bounds its length: a revocation
// list can be long.
func parseCMS(b []byte) (*cms.Message, error) {
	return cms.Parse(b, cms.Limits{Bytes: maxBody})
}

// read verifies and decrypts the CertRep that answers m (RFC 8894, sections
// 3.2.1 and 3.3.2). It is as strict as the strictest client seen.
func (m *Message) read(raw []byte, s *Service) (r *Reply, err error) {
	r = &Reply{Raw: raw}
	if _, rest, err := readElement(raw); err != nil || len(rest) > 0 {
		return r, errors.New("CertRep is not one DER value")
	}
	p, err := parseCMS(raw)
	if err != nil {
		return r, fmt.Errorf("CertRep: %w", err)
	}
	if r.Signer, err = verify(p, s.Certificates); err != nil {
		return r, fmt.Errorf("CertRep: %w", err)
	}
	if err := m.readAttributes(p, r); err != nil {
		return r, fmt.Errorf("CertRep: %w", err)
	}
	if r.Status != scep.Success {
		return r, nil
	}
	if err := m.open(p.Content(), r); err != nil {
		return r, fmt.Errorf("CertRep: %w", err)
	}
	return r, nil
}

// verify checks the signature of a reply and that its signer is one of the
// certificates known from GetCACert.
func verify(p *cms.Message, known []*x509.Certificate) (*x509.Certificate, error) {
	signer, err := p.Verify(known) // certificates inside the message prove nothing
	if errors.Is(err, cms.ErrUnknownSigner) {
		return nil, errors.New("signed by a certificate that GetCACert does not name")
	}
	if err != nil {
		return nil, err
	}
	if signer.KeyUsage != 0 && signer.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return nil, fmt.Errorf("signed by %q, whose key usage lacks digitalSignature", signer.Subject)
	}
	return signer, nil
}

// readAttributes checks the SCEP attributes, types included: jscep refuses
// anything but PrintableString and OCTET STRING.
func (m *Message) readAttributes(p *cms.Message, r *Reply) error {
	attribute := func(id asn1.ObjectIdentifier, tag int) (string, error) {
		v, err := p.Attribute(id)
		if err != nil {
			return "", fmt.Errorf("attribute %v: %w", id, err)
		}
		if v.Class != asn1.ClassUniversal || v.Tag != tag {
			return "", fmt.Errorf("attribute %v has tag %d, want %d", id, v.Tag, tag)
		}
		return string(v.Bytes), nil
	}
	number := func(id asn1.ObjectIdentifier) (int, error) {
		s, err := attribute(id, asn1.TagPrintableString)
		if err != nil {
			return 0, err
		}
		return strconv.Atoi(s)
	}

	if t, err := number(oidMessageType); err != nil || t != int(scep.CertRep) {
		return fmt.Errorf("messageType is %d, want CertRep (%v)", t, err)
	}
	if id, err := attribute(oidTransactionID, asn1.TagPrintableString); err != nil || id != m.TransactionID {
		return fmt.Errorf("transactionID %q is not that of the request (%v)", id, err)
	}
	if len(m.SenderNonce) > 0 {
		if n, err := attribute(oidRecipientNonce, asn1.TagOctetString); err != nil || n != string(m.SenderNonce) {
			return fmt.Errorf("recipientNonce is not the senderNonce of the request (%v)", err)
		}
	}
	nonce, err := attribute(oidSenderNonce, asn1.TagOctetString)
	if err != nil {
		return err
	}
	r.Nonce = []byte(nonce)
	status, err := number(oidPKIStatus)
	if err != nil {
		return err
	}
	switch r.Status = scep.Status(status); r.Status {
	case scep.Success, scep.Pending:
	case scep.Failure:
		info, err := number(oidFailInfo)
		if err != nil {
			return err
		}
		r.FailInfo = scep.FailInfo(info)
		r.FailInfoText, _ = attribute(oidFailInfoText, asn1.TagUTF8String)
	default:
		return fmt.Errorf("unknown pkiStatus %d", status)
	}
	return nil
}

// open decrypts the envelope and reads the certificates and the CRL.
func (m *Message) open(content []byte, r *Reply) error {
	envelope, err := parseCMS(content)
	if err != nil {
		return fmt.Errorf("envelope: %w", err)
	}
	to, err := parsedSigner(m.Signer.Certificate)
	if err != nil {
		return fmt.Errorf("own signer certificate: %w", err)
	}
	plain, err := envelope.Decrypt(to, m.Signer.Key)
	if errors.Is(err, cms.ErrUnsupported) {
		plain, err = unseal(content, m.Signer.Key)
	}
	if err != nil {
		return fmt.Errorf("envelope: %w", err)
	}
	bag, err := parseCMS(plain)
	if err != nil {
		return fmt.Errorf("certs-only message: %w", err)
	}
	r.Certificates = bag.Certificates()
	if len(r.Certificates) > 0 {
		r.Certificate = r.Certificates[0] // Apple takes the first one
	}
	if m.Type == scep.GetCRL {
		return r.readCRL(plain)
	}
	if r.Certificate == nil {
		return errors.New("SUCCESS without a certificate")
	}
	return nil
}

// readCRL finds the first CertificateList in a degenerate SignedData; the
// library keeps it only in a type that x509 has given up.
func (r *Reply) readCRL(plain []byte) error {
	fields, err := contentFields(plain)
	if err != nil {
		return fmt.Errorf("certs-only message: %w", err)
	}
	i := slices.IndexFunc(fields, func(e element) bool { return e.tag == 0xa1 })
	if i < 0 {
		return errors.New("SUCCESS without a CRL")
	}
	list, _, err := readElement(fields[i].content)
	if err != nil {
		return fmt.Errorf("CRL: %w", err)
	}
	r.CRL, err = x509.ParseRevocationList(list.full)
	if err != nil {
		return fmt.Errorf("CRL: %w", err)
	}
	return nil
}

// contentFields returns the members of the SEQUENCE in a ContentInfo.
func contentFields(der []byte) ([]element, error) {
	outer, _, err := readElement(der)
	if err != nil {
		return nil, err
	}
	info, err := readElements(outer.content)
	if err != nil || len(info) != 2 {
		return nil, errors.New("not a ContentInfo")
	}
	inner, _, err := readElement(info[1].content)
	if err != nil {
		return nil, err
	}
	return readElements(inner.content)
}
