package wstep

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	maxPath   = 8
	maxLearnt = 16
)

// Chain implements ca.Authority: the CA's certificate from the policy, then its
// issuers from the configuration or, where none are configured, from replies.
func (c *CA) Chain(ctx context.Context) ([]*x509.Certificate, error) {
	cert, err := c.issuingCertificate(ctx, time.Time{})
	if err != nil {
		return nil, fmt.Errorf("wstep: %w", err)
	}
	chain, err := c.pathFrom(cert)
	if err != nil {
		return nil, fmt.Errorf("wstep: %w", unavailable(err))
	}
	return chain, nil
}

// pathFrom leads from a CA certificate to a root. With configured issuers the
// root is one of them.
func (c *CA) pathFrom(cert *x509.Certificate) ([]*x509.Certificate, error) {
	c.mu.Lock()
	known := slices.Concat(c.config.Issuers, c.learnt)
	c.mu.Unlock()
	path := []*x509.Certificate{cert}
	for len(path) <= maxPath {
		last := path[len(path)-1]
		if isRoot(last) {
			if len(c.config.Issuers) > 0 && !slices.ContainsFunc(c.config.Issuers, last.Equal) {
				return nil, fmt.Errorf("the CA's root %q is none of the configured issuers", last.Subject)
			}
			return path, nil
		}
		next := issuerOf(last, known)
		if next == nil || slices.ContainsFunc(path, next.Equal) {
			return nil, fmt.Errorf("the certificate that issued %q is not known: add it, and those above it, to the configured issuers", last.Subject)
		}
		path = append(path, next)
	}
	return nil, errors.New("the CA's chain is too long")
}

func isRoot(cert *x509.Certificate) bool {
	return bytes.Equal(cert.RawSubject, cert.RawIssuer) && cert.CheckSignatureFrom(cert) == nil
}

func issuerOf(cert *x509.Certificate, known []*x509.Certificate) *x509.Certificate {
	for _, k := range known {
		if bytes.Equal(k.RawSubject, cert.RawIssuer) && cert.CheckSignatureFrom(k) == nil {
			return k
		}
	}
	return nil
}

// learn keeps CA certificates of a reply that led to an accepted certificate.
func (c *CA) learn(certs []*x509.Certificate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, cert := range certs {
		if cert.IsCA && cert.BasicConstraintsValid && len(c.learnt) < maxLearnt && !slices.ContainsFunc(c.learnt, cert.Equal) {
			c.learnt = append(c.learnt, cert)
		}
	}
}

// checkIssuer says whether our CA issued a certificate. One with an unknown
// signature may come from a CA key that is newer than our copy of the policy,
// which is then asked for again.
func (c *CA) checkIssuer(ctx context.Context, cert *x509.Certificate) error {
	began := c.config.Clock()
	for _, since := range []time.Time{{}, began} {
		issuer, err := c.issuingCertificate(ctx, since)
		if err != nil {
			return err
		}
		if bytes.Equal(issuer.RawSubject, cert.RawIssuer) && cert.CheckSignatureFrom(issuer) == nil {
			if len(c.config.Issuers) == 0 {
				return nil
			}
			_, err := c.pathFrom(issuer)
			return err
		}
		if c.config.Policy == "" {
			break
		}
	}
	return errors.New("the certificate in the answer was not issued by this CA")
}
