package scep

import (
	"errors"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/certconnector/certconnector/internal/pkcs10"
)

// readContent reads the decrypted content by the kind of the message
// (RFC 8894, section 3.3).
func (r *Request) readContent(plain []byte) error {
	switch r.MessageType {
	case PKCSReq, RenewalReq:
		csr, err := pkcs10.Parse(plain)
		if err != nil {
			return err
		}
		r.CSR = csr
		return nil
	case CertPoll:
		return r.readIssuerAndSubject(plain)
	default:
		return r.readIssuerAndSerial(plain)
	}
}

// readIssuerAndSubject reads what a CertPoll asks for (RFC 8894, section 3.3.3).
func (r *Request) readIssuerAndSubject(plain []byte) error {
	seq, issuer, err := r.openPair(plain)
	if err != nil {
		return err
	}
	var subject cryptobyte.String
	if !seq.ReadASN1Element(&subject, cbasn1.SEQUENCE) || !seq.Empty() {
		return errors.New("not an IssuerAndSubject")
	}
	r.Issuer, r.Subject = issuer, subject
	return nil
}

// readIssuerAndSerial reads what a GetCert or GetCRL asks for (RFC 8894,
// sections 3.3.4 and 3.3.5).
func (r *Request) readIssuerAndSerial(plain []byte) error {
	seq, issuer, err := r.openPair(plain)
	if err != nil {
		return err
	}
	var serial cryptobyte.String
	if !seq.ReadASN1(&serial, cbasn1.INTEGER) || len(serial) == 0 || len(serial) > maxSerial || !seq.Empty() {
		return errors.New("not an IssuerAndSerialNumber")
	}
	r.Issuer, r.Serial = issuer, integer(serial)
	return nil
}

// openPair reads the start that both have in common. No signature covers them,
// so that they may be BER like the rest of a message.
func (r *Request) openPair(plain []byte) (rest cryptobyte.String, issuer []byte, err error) {
	der, err := toDER(plain)
	if err != nil {
		return nil, nil, err
	}
	s := cryptobyte.String(der)
	var seq, name cryptobyte.String
	if !s.ReadASN1(&seq, cbasn1.SEQUENCE) || !seq.ReadASN1Element(&name, cbasn1.SEQUENCE) {
		return nil, nil, errors.New("content does not begin with a name")
	}
	return seq, name, nil
}
