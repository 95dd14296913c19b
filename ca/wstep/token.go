package wstep

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"github.com/certconnector/certconnector/internal/cms"
)

// answer is what a RequestSecurityTokenResponse holds.
type answer struct {
	requestID   string            // "" when there is none
	message     string            // the CA's words
	certificate *x509.Certificate // nil: the request is parked
	others      []*x509.Certificate
}

// isRequestID takes the CA's identifier: a number at a Microsoft CA, any short
// word by the protocol.
func isRequestID(id string) bool {
	return id != "" && len(id) <= 64 && !strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' })
}

// readAnswer reads a RequestSecurityTokenResponseCollection, which holds one
// response ([MS-WSTEP], section 3.1.4.1.3.5). A certificate may come twice:
// alone in RequestedSecurityToken, and in a CMC full PKI response beside it,
// where it is looked for if the first is left out: by spki, or, where that is
// nil, as the only one that is not a CA's.
func readAnswer(body *element, spki []byte) (*answer, error) {
	response := body.only(nsTrust, "RequestSecurityTokenResponseCollection").only(nsTrust, "RequestSecurityTokenResponse")
	if response == nil {
		return nil, errors.New("the answer holds no token response, or several")
	}
	a := &answer{
		requestID: response.only(nsEnroll, "RequestID").content(),
		message:   plain(response.only(nsEnroll, "DispositionMessage").content()),
	}
	if a.requestID != "" && !isRequestID(a.requestID) {
		return nil, errors.New("the answer's request ID is none")
	}
	a.others = chainCertificates(response.only(nsSecurity, "BinarySecurityToken"))
	requested := response.all(nsTrust, "RequestedSecurityToken")
	if len(requested) > 1 {
		return nil, errors.New("the answer holds several tokens")
	}
	if len(requested) == 1 {
		if tokens := requested[0].all(nsSecurity, "BinarySecurityToken"); len(tokens) > 0 {
			return a, a.readToken(tokens)
		}
	}
	if len(requested) == 0 { // a parked request has a reference there
		a.certificate = endEntity(a.others, spki)
	}
	if a.certificate == nil && a.requestID == "" {
		return nil, errors.New("the answer holds neither a certificate nor a request ID")
	}
	return a, nil
}

// endEntity picks the issued certificate among those of a response; nil when
// none or several may be it.
func endEntity(certs []*x509.Certificate, spki []byte) (found *x509.Certificate) {
	for _, cert := range certs {
		switch {
		case spki != nil && bytes.Equal(cert.RawSubjectPublicKeyInfo, spki):
			return cert
		case spki == nil && !cert.IsCA && found != nil:
			return nil
		case spki == nil && !cert.IsCA:
			found = cert
		}
	}
	return found
}

func (a *answer) readToken(tokens []*element) error {
	if len(tokens) != 1 {
		return errors.New("the answer holds several tokens")
	}
	der, err := tokens[0].bytes()
	if err != nil {
		return fmt.Errorf("the token is no base64: %v", err)
	}
	if a.certificate, err = x509.ParseCertificate(der); err != nil {
		return fmt.Errorf("the token is no certificate: %v", err)
	}
	return nil
}

// chainCertificates are those inside a PKCS #7 or CMC response. They only help
// to find the way to the root, so one that does not read holds none.
func chainCertificates(token *element) []*x509.Certificate {
	der, err := token.bytes()
	if err != nil || len(der) == 0 {
		return nil
	}
	m, err := cms.Parse(der, cms.Limits{Bytes: maxReply})
	if err != nil {
		return nil
	}
	return m.Certificates()
}
