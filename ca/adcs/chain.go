package adcs

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/ca"
)

// Properties of a CA ([MS-WCCE], section 3.2.1.4.3.2).
const (
	propertyCAName    = 6
	propertyCert      = 12
	propertyCertChain = 13
	propertyBaseCRL   = 17
	propertyDNSName   = 22
	propertyTemplates = 29

	newest     = -1 // index 0xFFFFFFFF
	kindBinary = 3
	kindString = 4
)

const (
	// chainAge is how often the chain is read again: a CA renews its
	// certificate once in years, and announces it.
	chainAge     = time.Hour
	maxChain     = 8
	maxChainSize = 1 << 20
)

type chainCache struct {
	pinned []*x509.Certificate

	mu   sync.Mutex
	list []*x509.Certificate
	read time.Time
}

// Chain implements ca.Authority. It is read from the CA, kept for an hour, and
// kept longer while the CA cannot be reached. A root that the CA does not show
// is taken from the configured certificates.
func (c *CA) Chain(ctx context.Context) ([]*x509.Certificate, error) {
	return c.chain(ctx, chainAge)
}

func (c *CA) chain(ctx context.Context, age time.Duration) ([]*x509.Certificate, error) {
	if !c.hasDCOM() {
		return c.chains.pinned, nil
	}
	c.chains.mu.Lock()
	defer c.chains.mu.Unlock()
	if c.chains.list != nil && c.now().Sub(c.chains.read) < age {
		return c.chains.list, nil
	}
	list, err := c.readChain(ctx)
	if err != nil {
		if !errors.Is(err, ca.ErrUnavailable) {
			return nil, err
		}
		known := c.chains.list
		if known == nil {
			known = c.chains.pinned
		}
		if len(known) == 0 {
			return nil, err
		}
		c.log.Warn("the CA's chain could not be read; the one known before is used", zap.Error(err))
		return known, nil
	}
	c.chains.list, c.chains.read = list, c.now()
	return list, nil
}

func (c *CA) readChain(ctx context.Context) ([]*x509.Certificate, error) {
	ctx, cancel := c.within(ctx)
	defer cancel()
	const step = "reading the CA's chain"
	own, err := c.property(ctx, step, propertyCert, newest, kindBinary)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(own)
	if err != nil {
		return nil, &problem{ca: c.name, step: step, cause: fmt.Errorf("the CA's certificate does not read: %w", err)}
	}
	others := c.chains.pinned
	blob, err := c.property(ctx, step, propertyCertChain, newest, kindBinary)
	if err != nil {
		return nil, err
	}
	shown, err := certificates(blob)
	if err != nil {
		return nil, &problem{ca: c.name, step: step, cause: err}
	}
	list, err := order(cert, append(shown, others...))
	if err != nil {
		return nil, &problem{ca: c.name, step: step, cause: err}
	}
	return list, nil
}

// property asks for a property over whatever road has it.
func (c *CA) property(ctx context.Context, step string, id, index, kind int32) (value []byte, err error) {
	var ret int32
	p, ok := c.requests[DCOM]
	if !ok {
		err := c.administer(ctx, step, func(ctx context.Context, a *admin) (err error) {
			if value, ret, err = a.property(ctx, id, index, kind); err != nil {
				return err
			}
			return c.codeOf(step, ret)
		})
		return value, err
	}
	for attempt := 0; ; attempt++ {
		k, reused, err := p.get(ctx)
		if err != nil {
			return nil, c.unreachable(step, err, 0)
		}
		value, ret, err = k.conn.(*dcomRequester).property(ctx, id, index, kind)
		if err == nil {
			p.give(k)
			return value, c.codeOf(step, ret)
		}
		_, fault := k.conn.wire().outcome()
		p.drop(k)
		if !reused || attempt > 0 || ctx.Err() != nil {
			return nil, c.unreachable(step, err, fault)
		}
	}
}

// order returns the chain of a CA's certificate up to the root.
func order(cert *x509.Certificate, others []*x509.Certificate) ([]*x509.Certificate, error) {
	list := []*x509.Certificate{cert}
	for len(list) <= maxChain {
		last := list[len(list)-1]
		if bytes.Equal(last.RawIssuer, last.RawSubject) && last.CheckSignatureFrom(last) == nil {
			return list, nil
		}
		next := issuerOf(last, others)
		if next == nil {
			return nil, fmt.Errorf("the issuer of %q is missing: give it in the configuration (certificates of the chain, up to the root)", last.Subject)
		}
		list = append(list, next)
	}
	return nil, errors.New("the chain has no end")
}

func issuerOf(cert *x509.Certificate, among []*x509.Certificate) *x509.Certificate {
	for _, other := range among {
		if bytes.Equal(cert.RawIssuer, other.RawSubject) && !other.Equal(cert) && cert.CheckSignatureFrom(other) == nil {
			return other
		}
	}
	return nil
}

// checkOrder checks certificates from the configuration.
func checkOrder(list []*x509.Certificate) error {
	for i, cert := range list {
		if !cert.IsCA {
			return fmt.Errorf("configured certificate %q is not one of a CA", cert.Subject)
		}
		if i > 0 && list[i-1].CheckSignatureFrom(cert) != nil {
			return fmt.Errorf("configured certificates: %q was not issued by the next, %q: give the CA first and its root last", list[i-1].Subject, cert.Subject)
		}
	}
	return nil
}

// certificates reads those of a PKCS #7 without content (RFC 5652, section 5),
// as CR_PROP_CASIGCERTCHAIN has them.
func certificates(der []byte) ([]*x509.Certificate, error) {
	var outer struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue // [0] explicit
	}
	var signed struct {
		Version      int
		Digests      asn1.RawValue
		Info         asn1.RawValue
		Certificates asn1.RawValue `asn1:"optional,tag:0"`
	}
	if len(der) > maxChainSize {
		return nil, fmt.Errorf("chain of %d bytes", len(der))
	}
	if _, err := asn1.Unmarshal(der, &outer); err != nil {
		return nil, fmt.Errorf("chain: %w", err)
	}
	if !outer.Type.Equal(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}) {
		return nil, fmt.Errorf("chain: content type %v is not SignedData", outer.Type)
	}
	if _, err := asn1.Unmarshal(outer.Content.Bytes, &signed); err != nil {
		return nil, fmt.Errorf("chain: %w", err)
	}
	list, err := x509.ParseCertificates(signed.Certificates.Bytes)
	if err != nil {
		return nil, fmt.Errorf("chain: %w", err)
	}
	return list, nil
}
