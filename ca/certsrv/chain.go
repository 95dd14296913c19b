package certsrv

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/internal/cms"
)

// chainFor is how long the chain is kept. A certificate that it does not
// explain makes us ask again at once.
const chainFor = time.Hour

// Chain implements ca.Authority.
func (c *CA) Chain(ctx context.Context) ([]*x509.Certificate, error) {
	chain, _, err := c.knownChain(ctx, chainFor)
	return chain, err
}

// knownChain returns the chain and the index of the CA's certificate, read
// within the last age. An older one does where none is to be had: what it does
// not explain is refused anyway.
func (c *CA) knownChain(ctx context.Context, age time.Duration) ([]*x509.Certificate, int, error) {
	select {
	case c.chainBusy <- struct{}{}:
		defer func() { <-c.chainBusy }()
	case <-ctx.Done():
		return nil, 0, fmt.Errorf("CA %s, reading the chain: %w: %w", c.Name, ca.ErrOutcomeUnknown, ctx.Err())
	}
	if c.chain != nil && c.Now().Sub(c.chainAt) < age {
		return c.chain, c.renewal, nil
	}
	if err := c.readChain(ctx); err != nil && c.chain == nil {
		return nil, 0, err
	}
	return c.chain, c.renewal, nil
}

// readChain asks for the chain of the CA's newest certificate. The caller
// holds chainBusy.
func (c *CA) readChain(ctx context.Context) error {
	const step = "reading the chain"
	ctx, cancel := context.WithTimeout(ctx, c.SubmitTimeout)
	defer cancel()
	page, err := c.get(ctx, step, "certcarc.asp")
	if err != nil {
		return err
	}
	renewal, ok := readRenewals(page)
	if !ok {
		return c.unknown(step, "certcarc.asp does not tell how often the CA's certificate was renewed", page)
	}
	got, err := c.get(ctx, step, fmt.Sprintf("certnew.p7b?ReqID=CACert&Renewal=%d&Enc=bin", renewal))
	if err != nil {
		return err
	}
	chain, err := parseChain(got, c.Issuer)
	if err != nil {
		return fmt.Errorf("CA %s, %s: %w: %v: check the address, and that nothing between answers in the CA's place",
			c.Name, step, ca.ErrOutcomeUnknown, err)
	}
	c.chain, c.chainAt, c.renewal = chain, c.Now(), renewal
	return nil
}

// parseChain reads certificates out of a SignedData without signers and puts
// them in order: the one that issued none of the others first, up to the root.
func parseChain(b []byte, issuer *x509.Certificate) ([]*x509.Certificate, error) {
	der, err := unwrap(b, "PKCS7", "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	message, err := cms.Parse(der, cms.Limits{Bytes: maxReply})
	if err != nil {
		return nil, err
	}
	all := message.Certificates()
	first := issuer
	for _, cert := range all {
		if issuer != nil {
			break
		}
		if isLowest(cert, all) {
			first = cert
		}
	}
	if first == nil || !first.IsCA {
		return nil, fmt.Errorf("none of %d certificates is that of the issuing CA", len(all))
	}
	chain := []*x509.Certificate{first}
	for top := first; !bytes.Equal(top.RawSubject, top.RawIssuer); {
		next := above(top, all)
		if next == nil || len(chain) > len(all) {
			return nil, fmt.Errorf("the chain has no certificate of %q", top.Issuer)
		}
		chain, top = append(chain, next), next
	}
	root := chain[len(chain)-1]
	if err := root.CheckSignatureFrom(root); err != nil {
		return nil, fmt.Errorf("the root's signature: %w", err)
	}
	return chain, nil
}

// isLowest reports whether a certificate issued none of the others.
func isLowest(cert *x509.Certificate, all []*x509.Certificate) bool {
	for _, other := range all {
		if !other.Equal(cert) && other.CheckSignatureFrom(cert) == nil {
			return false
		}
	}
	return true
}

func above(cert *x509.Certificate, all []*x509.Certificate) *x509.Certificate {
	for _, other := range all {
		if !other.Equal(cert) && cert.CheckSignatureFrom(other) == nil {
			return other
		}
	}
	return nil
}

// checkIssuer checks that the CA signed a certificate. The CA's own may have
// been renewed since we asked for it.
func (c *CA) checkIssuer(ctx context.Context, cert *x509.Certificate) error {
	chain, err := c.Chain(ctx)
	if err != nil {
		return err
	}
	if cert.CheckSignatureFrom(chain[0]) == nil {
		return nil
	}
	if c.Issuer == nil {
		if chain, _, err = c.knownChain(ctx, 0); err != nil {
			return err
		}
	}
	if err := cert.CheckSignatureFrom(chain[0]); err != nil {
		return fmt.Errorf("CA %s, checking the certificate: %w: %q did not sign it: %v", c.Name, ca.ErrOutcomeUnknown, chain[0].Subject, err)
	}
	return nil
}

// CRL implements ca.Publisher: the base list of the CA's newest key, checked
// to be the CA's.
func (c *CA) CRL(ctx context.Context) ([]byte, error) {
	const step = "reading the revocation list"
	chain, renewal, err := c.knownChain(ctx, chainFor)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.SubmitTimeout)
	defer cancel()
	got, err := c.get(ctx, step, fmt.Sprintf("certcrl.crl?Type=base&Renewal=%d&Enc=bin", renewal))
	if err != nil {
		return nil, err
	}
	der, err := unwrap(got, "X509 CRL")
	if err != nil {
		return nil, c.unknown(step, "the answer is no revocation list", got)
	}
	list, err := x509.ParseRevocationList(der)
	if err == nil {
		err = list.CheckSignatureFrom(chain[0])
	}
	if err != nil {
		return nil, fmt.Errorf("CA %s, %s: %w: %v", c.Name, step, ca.ErrOutcomeUnknown, err)
	}
	return der, nil
}
