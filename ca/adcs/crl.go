package adcs

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"sync"
	"time"
)

const maxCRL = maxReply

// listCache remembers the last list: a CA's numbers never go back.
type listCache struct {
	mu     sync.Mutex
	number *big.Int
	issuer string // SubjectPublicKeyInfo of the key that signed it
}

// publisher shows the CA's revocation list.
type publisher struct{ c *CA }

// CRL implements ca.Publisher: the newest base list of the newest key
// (CR_PROP_BASECRL), verified and not older than the last one.
func (p publisher) CRL(ctx context.Context) ([]byte, error) {
	c := p.c
	ctx, cancel := c.within(ctx)
	defer cancel()
	const step = "reading the revocation list"
	der, err := c.property(ctx, step, propertyBaseCRL, newest, kindBinary)
	if err != nil {
		return nil, err
	}
	if len(der) > maxCRL {
		return nil, &problem{ca: c.name, step: step, cause: fmt.Errorf("list of %d bytes", len(der))}
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, &problem{ca: c.name, step: step, cause: fmt.Errorf("the list does not read: %w", err)}
	}
	issuer, err := c.signerOf(ctx, list)
	if err != nil {
		return nil, &problem{ca: c.name, step: step, cause: err}
	}
	if err := c.lists.admit(list, issuer); err != nil {
		return nil, &problem{ca: c.name, step: step, cause: err}
	}
	return der, nil
}

// signerOf verifies the list; a CA that renewed its key meanwhile is asked for
// its chain again.
func (c *CA) signerOf(ctx context.Context, list *x509.RevocationList) (*x509.Certificate, error) {
	for _, age := range []time.Duration{chainAge, 0} {
		chain, err := c.chain(ctx, age)
		if err != nil {
			return nil, err
		}
		if list.CheckSignatureFrom(chain[0]) == nil {
			return chain[0], nil
		}
	}
	return nil, errors.New("the list is not signed by this CA")
}

func (l *listCache) admit(list *x509.RevocationList, issuer *x509.Certificate) error {
	if list.Number == nil {
		return errors.New("the list has no number")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	key := string(issuer.RawSubjectPublicKeyInfo)
	if l.number != nil && l.issuer == key && list.Number.Cmp(l.number) < 0 {
		return fmt.Errorf("list %v is older than list %v seen before: is a restored or another machine answering?", list.Number, l.number)
	}
	l.number, l.issuer = list.Number, key
	return nil
}
