package adcstest

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"time"
)

// What PublishCRLs makes ([MS-CSRA], section 3.1.4.2.1).
const (
	PublishBase      uint32 = 0x1
	PublishDelta     uint32 = 0x2
	PublishRepublish uint32 = 0x10 // what was made last, unchanged
)

// lists are the revocation lists that the CA has published.
type lists struct {
	number      int64
	base, delta []byte
	baseNumber  int64
	baseAt      time.Time
}

var oidDeltaIndicator = asn1.ObjectIdentifier{2, 5, 29, 27}

// PublishCRLs makes new revocation lists, for an administrator of the CA. They
// hold for a time, or, if it is 0, for a week (base) and a day (delta).
func (c *CA) PublishCRLs(administrator string, life time.Duration, flags uint32) int32 {
	if hr := c.require(administrator, RoleAdministrator); hr != 0 {
		return hr
	}
	switch {
	case flags&PublishRepublish != 0:
		return 0
	case flags&(PublishBase|PublishDelta) == 0 || flags&^(PublishBase|PublishDelta) != 0:
		return InvalidArgument
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.publish(life, flags) != nil {
		return Unexpected
	}
	return 0
}

// CRL returns the newest list, nil if there is none.
func (c *CA) CRL(delta bool) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if delta {
		return c.lists.delta
	}
	return c.lists.base
}

// publish makes the lists. The caller holds mu.
func (c *CA) publish(life time.Duration, flags uint32) error {
	now := c.clock()
	lifeOr := func(d time.Duration) time.Time {
		if life > 0 {
			d = life
		}
		return now.Add(d)
	}
	c.lists.number++
	number := big.NewInt(c.lists.number)
	if flags&PublishBase != 0 {
		list, err := c.signList(&x509.RevocationList{
			Number: number, ThisUpdate: now.Add(-10 * time.Minute), NextUpdate: lifeOr(7 * 24 * time.Hour),
			RevokedCertificateEntries: c.entries(now),
		})
		if err != nil {
			return err
		}
		c.lists.base, c.lists.baseNumber, c.lists.baseAt = list, c.lists.number, now
	}
	if flags&PublishDelta == 0 {
		return nil
	}
	indicator, err := asn1.Marshal(c.lists.baseNumber)
	if err != nil {
		return err
	}
	c.lists.delta, err = c.signList(&x509.RevocationList{
		Number: number, ThisUpdate: now.Add(-10 * time.Minute), NextUpdate: lifeOr(24 * time.Hour),
		RevokedCertificateEntries: c.changes(now),
		ExtraExtensions:           []pkix.Extension{{Id: oidDeltaIndicator, Critical: true, Value: indicator}},
	})
	return err
}

func (c *CA) signList(list *x509.RevocationList) ([]byte, error) {
	return x509.CreateRevocationList(rand.Reader, list, c.cert, c.key)
}

// entries are the revoked certificates that have not expired.
func (c *CA) entries(now time.Time) []x509.RevocationListEntry {
	var list []x509.RevocationListEntry
	for _, r := range c.rows {
		if r.disposition != DispositionRevoked || r.parsed == nil || r.parsed.NotAfter.Before(now) && !r.keepExpired {
			continue
		}
		list = append(list, x509.RevocationListEntry{
			SerialNumber: r.parsed.SerialNumber, RevocationTime: r.effective, ReasonCode: int(r.reason),
		})
	}
	return list
}

// changes are what happened since the base list (RFC 5280, section 5.2.4).
func (c *CA) changes(now time.Time) []x509.RevocationListEntry {
	var list []x509.RevocationListEntry
	for _, r := range c.rows {
		switch {
		case r.parsed == nil:
		case r.disposition == DispositionRevoked && !r.revoked.Before(c.lists.baseAt):
			list = append(list, x509.RevocationListEntry{
				SerialNumber: r.parsed.SerialNumber, RevocationTime: r.effective, ReasonCode: int(r.reason),
			})
		case r.disposition == DispositionIssued && !r.released.IsZero() && !r.released.Before(c.lists.baseAt):
			list = append(list, x509.RevocationListEntry{
				SerialNumber: r.parsed.SerialNumber, RevocationTime: now, ReasonCode: int(ReasonRemoveFromCRL),
			})
		}
	}
	return list
}
