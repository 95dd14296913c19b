package embedded

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/certconnector/certconnector/ca"
)

// cachedCRL is the list that is handed out until there is reason for another.
type cachedCRL struct {
	der     []byte
	entries []x509.RevocationListEntry
	halfway time.Time // half of its life is over
	looked  time.Time // when the register was asked last
}

// lookAgain is how often the register is asked whether another machine, which
// shares it, has revoked something.
const lookAgain = time.Minute

// CRL returns the current revocation list (RFC 5280, section 5). The same list
// is returned until a certificate is revoked or half of its life is over: a
// reader then always gets one that lasts a good while longer.
func (c *CA) CRL(ctx context.Context) ([]byte, error) {
	c.crlMu.Lock()
	defer c.crlMu.Unlock()
	now := c.clock().UTC().Truncate(time.Second)
	last := c.crl
	fresh := last != nil && now.Before(last.halfway) && !now.Before(last.looked)
	if fresh && now.Sub(last.looked) < lookAgain {
		return slices.Clone(last.der), nil
	}
	entries, err := c.revoked(ctx, now)
	if err != nil {
		return nil, err
	}
	if fresh && slices.EqualFunc(entries, last.entries, sameEntry) {
		last.looked = now
		return slices.Clone(last.der), nil
	}
	der, err := c.signCRL(ctx, now, entries)
	if err != nil {
		return nil, err
	}
	c.crl = &cachedCRL{der: der, entries: entries, halfway: now.Add(c.crlValidity / 2), looked: now}
	return slices.Clone(der), nil
}

// forgetCRL makes the next reader get a new list.
func (c *CA) forgetCRL() {
	c.crlMu.Lock()
	defer c.crlMu.Unlock()
	c.crl = nil
}

// revoked lists what must be on a list made now, by serial number.
func (c *CA) revoked(ctx context.Context, now time.Time) ([]x509.RevocationListEntry, error) {
	rows, err := c.register.Revoked(ctx, c.name, now)
	if err != nil {
		return nil, fmt.Errorf("%w: reading the revoked certificates: %v", ca.ErrUnavailable, err)
	}
	entries := make([]x509.RevocationListEntry, len(rows))
	for i, row := range rows {
		entries[i] = x509.RevocationListEntry{
			SerialNumber: row.Serial, RevocationTime: row.RevokedAt.UTC().Truncate(time.Second), ReasonCode: int(row.Reason),
		}
	}
	slices.SortFunc(entries, func(a, b x509.RevocationListEntry) int { return a.SerialNumber.Cmp(b.SerialNumber) })
	return entries, nil
}

func sameEntry(a, b x509.RevocationListEntry) bool {
	return a.SerialNumber.Cmp(b.SerialNumber) == 0 && a.RevocationTime.Equal(b.RevocationTime) && a.ReasonCode == b.ReasonCode
}

// signCRL makes a list with the next number. A number is spent even when
// signing fails: numbers must grow, not follow each other.
func (c *CA) signCRL(ctx context.Context, now time.Time, entries []x509.RevocationListEntry) ([]byte, error) {
	number, err := c.register.NextCRLNumber(ctx, c.name)
	if err != nil {
		return nil, fmt.Errorf("%w: taking the next number of a revocation list: %v", ca.ErrUnavailable, err)
	}
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(number), ThisUpdate: now, NextUpdate: now.Add(c.crlValidity),
		RevokedCertificateEntries: entries,
	}, c.cert, c.key)
	if err != nil {
		return nil, fmt.Errorf("%w: signing the revocation list: %v", ca.ErrUnavailable, err)
	}
	return der, nil
}
