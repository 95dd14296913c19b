package negotiate

import (
	"context"
	"crypto/x509"
	"errors"

	"github.com/certconnector/certconnector/internal/sspi"
)

// request is a sign-in to a web server, whose certificate names the channel.
func (s SSPI) request(spn string, server *x509.Certificate) sspi.Request {
	r := sspi.Request{Package: s.Package(), Target: spn, TestingAs: s.TestingAs}
	if server != nil {
		r.Binding = endPoint(server)
	}
	return r
}

// header makes the value of an Authorization header. Without mutual
// authentication, which TLS has done, Kerberos is one message.
func (s SSPI) header(ctx context.Context, spn string, server *x509.Certificate) (string, error) {
	c, err := sspi.New(s.request(spn, server))
	if err != nil {
		return "", err
	}
	token, done, err := c.Step(ctx, nil)
	if err != nil {
		return "", err
	}
	c.Close() // of a sign-in that was given up Windows takes care itself
	if !done {
		return "", errors.New("sspi: Kerberos wants more than one message")
	}
	return inNegotiate(token)
}

// sspiDialogue is NTLM by Windows.
type sspiDialogue struct {
	as SSPI
	c  *sspi.Context
}

func (d *sspiDialogue) negotiate(ctx context.Context, spn string, server *x509.Certificate) ([]byte, error) {
	c, err := sspi.New(d.as.request(spn, server))
	if err != nil {
		return nil, err
	}
	d.c = c
	token, _, err := c.Step(ctx, nil)
	return token, err
}

func (d *sspiDialogue) authenticate(ctx context.Context, challenge []byte, _ string, _ *x509.Certificate) ([]byte, error) {
	token, done, err := d.c.Step(ctx, challenge)
	if err == nil && !done {
		err = errors.New("sspi: NTLM wants more than three messages")
	}
	return token, err
}
