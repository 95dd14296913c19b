package certsrv

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/certconnector/certconnector/ca"
)

// codes of a request ID that the CA does not know.
const (
	propertyEmpty   = 0x80094004 // CERTSRV_E_PROPERTY_EMPTY
	invalidArgument = 0x80070057 // E_INVALIDARG
)

// Collect implements ca.Collector.
func (c *CA) Collect(ctx context.Context, id string) (*ca.Issued, error) {
	n, ok := requestID(id)
	if !ok {
		return nil, fmt.Errorf("CA %s: %w: %q is no request ID", c.Name, ca.ErrNotFound, id)
	}
	ctx, cancel := context.WithTimeout(ctx, c.SubmitTimeout)
	defer cancel()
	issued, err := c.fetch(ctx, n, nil)
	if err == nil {
		c.saw(n)
	}
	return issued, err
}

// fetch gets a request's certificate and checks that the CA signed it, and
// that it is for the key, if there is one to compare with.
func (c *CA) fetch(ctx context.Context, id uint32, spki []byte) (*ca.Issued, error) {
	cert, err := c.retrieve(ctx, id)
	if err != nil {
		return nil, err
	}
	if spki != nil && !bytes.Equal(cert.RawSubjectPublicKeyInfo, spki) {
		return nil, fmt.Errorf("CA %s, checking the certificate: %w: that of request %d is for another key", c.Name, ca.ErrOutcomeUnknown, id)
	}
	if err := c.checkIssuer(ctx, cert); err != nil {
		return nil, err
	}
	return &ca.Issued{Certificate: cert, RequestID: fmt.Sprint(id)}, nil
}

// retrieve asks for a request's certificate, whoever signed it.
func (c *CA) retrieve(ctx context.Context, id uint32) (*x509.Certificate, error) {
	const step = "fetching the certificate"
	got, err := c.get(ctx, step, fmt.Sprintf("certnew.cer?ReqID=%d&Enc=bin", id))
	if err != nil {
		return nil, err
	}
	cert, err := parseCertificate(got)
	if err == nil {
		return cert, nil
	}
	switch v := readStatus(got); {
	case v.outcome == refused && (uint32(v.code) == propertyEmpty || uint32(v.code) == invalidArgument):
		return nil, fmt.Errorf("CA %s: %w: request %d", c.Name, ca.ErrNotFound, id)
	case v.outcome == refused:
		return nil, c.refusal(v)
	case v.outcome == parked:
		return nil, &ca.Pending{RequestID: fmt.Sprint(id)}
	}
	return nil, c.unknown(step, "the answer is neither a certificate nor a page of web enrollment", got)
}

var errNoCertificate = errors.New("no certificate")

// parseCertificate reads DER or PEM, one certificate and nothing after it.
func parseCertificate(b []byte) (*x509.Certificate, error) {
	der, err := unwrap(b, "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// unwrap returns DER, whether it came so or as PEM.
func unwrap(b []byte, kinds ...string) ([]byte, error) {
	if len(b) > 0 && b[0] == 0x30 {
		return b, nil
	}
	block, rest := pem.Decode(b)
	if block == nil || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errNoCertificate
	}
	for _, kind := range kinds {
		if block.Type == kind {
			return block.Bytes, nil
		}
	}
	return nil, errNoCertificate
}
