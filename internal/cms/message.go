package cms

import (
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/smallstep/pkcs7"
)

// Message is a SignedData or an EnvelopedData of any sender, as
// github.com/smallstep/pkcs7 reads it. It is not for concurrent use.
type Message struct {
	p *pkcs7.PKCS7
}

// Parse reads one CMS message in BER or DER within limits.
func Parse(b []byte, limits Limits) (m *Message, err error) {
	if err := limits.check(b); err != nil {
		return nil, err
	}
	defer survive(&err)
	p, err := pkcs7.Parse(b)
	if err != nil {
		return nil, err
	}
	return &Message{p}, nil
}

// survive turns a panic of the library into an error: it does not check every
// length and padding.
func survive(err *error) {
	if v := recover(); v != nil {
		*err = fmt.Errorf("%w: %v", ErrMalformed, v)
	}
}

// Content returns what a SignedData holds; in a degenerate one it is empty.
func (m *Message) Content() []byte { return m.p.Content }

// Certificates returns the certificates inside a SignedData, which prove
// nothing.
func (m *Message) Certificates() []*x509.Certificate { return m.p.Certificates }

// Verify checks the only signature and returns its signer, one of the known
// certificates, or ErrUnknownSigner; those inside the message are not looked
// at. The contentType attribute must be there and say id-data, which the
// library does not check (RFC 5652, section 11.1).
func (m *Message) Verify(known []*x509.Certificate) (signer *x509.Certificate, err error) {
	defer survive(&err)
	if len(m.p.Signers) != 1 {
		return nil, fmt.Errorf("%d signers, want one", len(m.p.Signers))
	}
	p := *m.p
	p.Certificates = known
	signer = p.GetOnlySigner()
	if signer == nil {
		return nil, ErrUnknownSigner
	}
	var contentType asn1.ObjectIdentifier
	if err := p.UnmarshalSignedAttribute(oidContentType, &contentType); err != nil || !contentType.Equal(oidData) {
		return nil, fmt.Errorf("contentType attribute is %v, want id-data", contentType)
	}
	if err := p.Verify(); err != nil {
		return nil, fmt.Errorf("signature: %w", err)
	}
	return signer, nil
}

// Attribute returns the first value of a signed attribute. It is worth
// something after Verify only.
func (m *Message) Attribute(id asn1.ObjectIdentifier) (v asn1.RawValue, err error) {
	defer survive(&err)
	err = m.p.UnmarshalSignedAttribute(id, &v)
	return v, err
}

// Decrypt opens an EnvelopedData with any algorithm that the library knows;
// ErrUnsupported: another one. Of the certificate only issuer and serial
// number count. It tells a wrong key from wrong padding, and so is for a
// client that reads its own replies, never for what a stranger sends.
func (m *Message) Decrypt(to *x509.Certificate, key crypto.PrivateKey) (plain []byte, err error) {
	defer survive(&err)
	plain, err = m.p.Decrypt(to, key)
	if errors.Is(err, pkcs7.ErrUnsupportedAlgorithm) {
		err = fmt.Errorf("%w: %v", ErrUnsupported, err)
	}
	return plain, err
}
