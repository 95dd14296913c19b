package embedded

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"github.com/certconnector/certconnector/ca"
)

// draft is a certificate before it has a serial number.
type draft struct {
	subject, spki       []byte // DER, as they came
	san                 []byte // the octets of subjectAltName, as they came; nil: none
	keyUsage            x509.KeyUsage
	extKeyUsage         []asn1.ObjectIdentifier
	extra               []pkix.Extension
	issuedAt            time.Time
	notBefore, notAfter time.Time
	csrDigest           [32]byte // zero where there was no CSR
	noAddresses         bool     // leave out where lists, responder and issuer are
}

// serialSize makes every serial number 16 octets, 126 bits of them random:
// within RFC 5280's 20 octets, unguessable, and never two equal.
const serialSize = 16

func newSerial() *big.Int {
	b := make([]byte, serialSize)
	rand.Read(b)
	b[0] = b[0]&0x7f | 0x40 // positive, and always of the same length
	return new(big.Int).SetBytes(b)
}

// sign turns a draft into a certificate and the row that must be recorded
// before it leaves.
//
// The draft is read back with a signature of zeros first: what does not parse,
// or does not say what was meant, is never signed. The certificate is not read
// a second time; only its signature differs. crypto/rsa itself checks that a
// fault did not spoil the signature.
func (c *CA) sign(ctx context.Context, d draft) (ca.RegisteredCertificate, *x509.Certificate, error) {
	var none ca.RegisteredCertificate
	serial := newSerial()
	tbs, err := c.toBeSigned(serial, d)
	if err != nil {
		return none, nil, denied("the certificate cannot be encoded: %v", err)
	}
	cert, err := c.readBack(tbs, serial, d)
	if err != nil {
		return none, nil, err
	}
	if err := ctx.Err(); err != nil {
		return none, nil, fmt.Errorf("%w: %v before the certificate was signed", ca.ErrUnavailable, err)
	}
	h := c.alg.hash.New()
	h.Write(tbs)
	signature, err := c.key.Sign(rand.Reader, h.Sum(nil), c.alg.hash)
	if err != nil {
		return none, nil, fmt.Errorf("%w: its key does not sign: %v", ca.ErrUnavailable, err)
	}
	if cert.Raw, err = c.assemble(tbs, signature); err != nil {
		return none, nil, fmt.Errorf("%w: encoding the signed certificate: %v", ca.ErrUnavailable, err)
	}
	cert.Signature = signature
	return ca.RegisteredCertificate{
		Serial: serial, DER: cert.Raw, CSRDigest: d.csrDigest, IssuedAt: d.issuedAt, NotAfter: cert.NotAfter,
	}, cert, nil
}

// readBack parses what is about to be signed and compares it with what was
// meant. A name that crypto/x509 cannot read is the request's fault.
func (c *CA) readBack(tbs []byte, serial *big.Int, d draft) (*x509.Certificate, error) {
	der, err := c.assemble(tbs, make([]byte, c.alg.size))
	if err != nil {
		return nil, denied("the certificate cannot be encoded: %v", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, denied("the certificate could not be read by others: %v", err)
	}
	same := bytes.Equal(cert.RawTBSCertificate, tbs) && bytes.Equal(cert.RawSubject, d.subject) &&
		bytes.Equal(cert.RawSubjectPublicKeyInfo, d.spki) && cert.SerialNumber.Cmp(serial) == 0 &&
		cert.NotAfter.Equal(d.notAfter) && cert.KeyUsage == d.keyUsage && cert.BasicConstraintsValid && !cert.IsCA
	if !same {
		return nil, denied("the certificate would not say what was asked for")
	}
	return cert, nil
}

// assemble is Certificate of RFC 5280, section 4.1.
func (c *CA) assemble(tbs, signature []byte) ([]byte, error) {
	b := cryptobyte.NewBuilder(make([]byte, 0, len(tbs)+len(c.fixed.algorithm)+len(signature)+16))
	addSequence(b, func(b *cryptobyte.Builder) {
		b.AddBytes(tbs)
		b.AddBytes(c.fixed.algorithm)
		b.AddASN1BitString(signature)
	})
	return b.Bytes()
}
