package embedded

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/certconnector/certconnector/ca"
)

// list is one revocation list as it is handed out. It never changes.
type list struct {
	der        []byte
	number     int64
	thisUpdate time.Time
	nextUpdate time.Time
	halfway    time.Time // half of its life is over: time for another
}

// lists are what is handed out until there is reason for others.
type lists struct {
	full    *list
	delta   *list // nil where no addresses for one are configured
	entries []x509.RevocationListEntry
}

// anchor is a full list that delta lists may refer to.
type anchor struct {
	number  int64
	made    time.Time
	entries []x509.RevocationListEntry
}

// lookAgain is how often the register is asked whether another machine, which
// shares it, has revoked something.
const lookAgain = time.Minute

// CRL returns the current revocation list (RFC 5280, section 5). The same list
// is returned until a certificate is revoked or half of its life is over: a
// reader then always gets one that lasts a good while longer.
func (c *CA) CRL(ctx context.Context) ([]byte, error) {
	current, err := c.currentLists(ctx)
	if err != nil {
		return nil, err
	}
	return slices.Clone(current.full.der), nil
}

// DeltaCRL returns the current delta revocation list (RFC 5280, section
// 5.2.4), or ca.ErrNotFound where Config.DeltaCRLURLs is empty.
//
// It is made together with each full list and has its number; where half of
// its own, shorter life is over it is made alone, with the next number of the
// sequence that both share. It completes every full list that is still valid.
func (c *CA) DeltaCRL(ctx context.Context) ([]byte, error) {
	if !c.makesDeltas {
		return nil, fmt.Errorf("delta revocation list of CA %q: %w", c.name, ca.ErrNotFound)
	}
	current, err := c.currentLists(ctx)
	if err != nil {
		return nil, err
	}
	return slices.Clone(current.delta.der), nil
}

// currentLists returns the lists and makes new ones if there is reason to.
func (c *CA) currentLists(ctx context.Context) (*lists, error) {
	c.crlMu.Lock()
	defer c.crlMu.Unlock()
	now := c.clock().UTC().Truncate(time.Second)
	last := c.published.Load()
	kept := last != nil && !now.Before(c.crlLooked) // the clock was not set back
	fullDue := !kept || !now.Before(last.full.halfway)
	deltaDue := c.makesDeltas && (fullDue || !now.Before(last.delta.halfway))
	if !fullDue && !deltaDue && !c.crlStale && now.Sub(c.crlLooked) < lookAgain {
		return last, nil
	}
	entries, err := c.revoked(ctx, now)
	if err != nil {
		return nil, err
	}
	fullDue = fullDue || len(added(entries, last.entries)) > 0
	current := last
	if fullDue || deltaDue {
		if current, err = c.signLists(ctx, now, last, entries, fullDue); err != nil {
			return nil, err
		}
		c.published.Store(current)
	}
	c.crlLooked, c.crlStale = now, false
	return current, nil
}

// forgetCRL makes the next reader look into the register, and tells those who
// keep answers that there is news.
func (c *CA) forgetCRL(serial *big.Int) {
	c.crlMu.Lock()
	c.crlStale = true
	c.crlMu.Unlock()
	c.watchMu.Lock()
	defer c.watchMu.Unlock()
	for _, tell := range c.watchers {
		tell(serial)
	}
}

// watch has tell called after each revocation by this process, until stop is.
// It must return at once.
func (c *CA) watch(tell func(serial *big.Int)) (stop func()) {
	c.watchMu.Lock()
	defer c.watchMu.Unlock()
	key := new(byte)
	c.watchers[key] = tell
	return func() {
		c.watchMu.Lock()
		defer c.watchMu.Unlock()
		delete(c.watchers, key)
	}
}

// news has one value after one revocation or several.
func (c *CA) news() (news <-chan struct{}, stop func()) {
	ch := make(chan struct{}, 1)
	return ch, c.watch(func(*big.Int) {
		select {
		case ch <- struct{}{}:
		default: // it knows already
		}
	})
}

// revoked lists what must be on a list made now, by serial number. A
// certificate stays for the life of a list after it has expired, so that it is
// on one that was made after its life (RFC 5280, section 3.3).
func (c *CA) revoked(ctx context.Context, now time.Time) ([]x509.RevocationListEntry, error) {
	rows, err := c.register.Revoked(ctx, c.name, now.Add(-c.crlValidity))
	if err != nil {
		return nil, fmt.Errorf("%w: reading the revoked certificates: %v", ca.ErrUnavailable, err)
	}
	entries := make([]x509.RevocationListEntry, len(rows))
	for i, row := range rows {
		entries[i] = x509.RevocationListEntry{
			SerialNumber: row.Serial, RevocationTime: row.RevokedAt.UTC().Truncate(time.Second), ReasonCode: int(row.Reason),
		}
	}
	slices.SortFunc(entries, bySerial)
	return entries, nil
}

func bySerial(a, b x509.RevocationListEntry) int { return a.SerialNumber.Cmp(b.SerialNumber) }

// added returns what is in entries and not in base, or differs; both are
// sorted. What is only in base has expired and is no news.
func added(entries, base []x509.RevocationListEntry) []x509.RevocationListEntry {
	var news []x509.RevocationListEntry
	for _, e := range entries {
		for len(base) > 0 && bySerial(base[0], e) < 0 {
			base = base[1:]
		}
		if len(base) == 0 || !sameEntry(base[0], e) {
			news = append(news, e)
		}
	}
	return news
}

func sameEntry(a, b x509.RevocationListEntry) bool {
	return a.SerialNumber.Cmp(b.SerialNumber) == 0 && a.RevocationTime.Equal(b.RevocationTime) && a.ReasonCode == b.ReasonCode
}

// signLists makes lists with the next number: the full one if it is due, the
// delta list in any case. A number is spent even when signing fails: numbers
// must grow, not follow each other.
func (c *CA) signLists(ctx context.Context, now time.Time, last *lists, entries []x509.RevocationListEntry, fullDue bool) (*lists, error) {
	number, err := c.register.NextCRLNumber(ctx, c.name)
	if err != nil {
		return nil, fmt.Errorf("%w: taking the next number of a revocation list: %v", ca.ErrUnavailable, err)
	}
	next := &lists{entries: entries}
	if !fullDue {
		next.full = last.full
	} else if next.full, err = c.signList(now, number, c.crlValidity, entries, c.fullExtensions...); err != nil {
		return nil, err
	}
	if !c.makesDeltas {
		return next, nil
	}
	anchors := c.anchorsAt(now)
	if fullDue && (len(anchors) == 0 || !now.Before(anchors[len(anchors)-1].made.Add(c.crlValidity/2))) {
		anchors = append(anchors, anchor{number, now, entries})
	}
	base := anchors[0]
	indicator, err := deltaIndicator(base.number)
	if err != nil {
		return nil, err
	}
	if next.delta, err = c.signList(now, number, c.deltaValidity, added(entries, base.entries), indicator); err != nil {
		return nil, err
	}
	c.anchors = anchors
	return next, nil
}

// anchorsAt returns the anchors without those that no valid full list needs
// any more. A delta list refers to the oldest of them: all valid lists were
// made later, and their holders can use it.
func (c *CA) anchorsAt(now time.Time) []anchor {
	anchors := c.anchors
	for len(anchors) > 1 && !now.Before(anchors[1].made.Add(c.crlValidity)) {
		anchors = anchors[1:]
	}
	return slices.Clone(anchors)
}

// signList signs one list, with SHA-256 (SHA-384 where the key is P-384).
func (c *CA) signList(now time.Time, number int64, life time.Duration, entries []x509.RevocationListEntry, extra ...pkix.Extension) (*list, error) {
	l := &list{number: number, thisUpdate: now, nextUpdate: now.Add(life), halfway: now.Add(life / 2)}
	var err error
	l.der, err = x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(number), ThisUpdate: l.thisUpdate, NextUpdate: l.nextUpdate,
		RevokedCertificateEntries: entries, ExtraExtensions: extra,
	}, c.cert, c.key)
	if err != nil {
		return nil, fmt.Errorf("%w: signing the revocation list: %v", ca.ErrUnavailable, err)
	}
	return l, nil
}

// deltaIndicator names the full list that a delta list completes (RFC 5280,
// section 5.2.4): critical, so that no reader takes it for a full one.
func deltaIndicator(base int64) (pkix.Extension, error) {
	der, err := asn1.Marshal(base)
	if err != nil {
		return pkix.Extension{}, fmt.Errorf("encoding the number of a revocation list: %w", err)
	}
	return pkix.Extension{Id: oidDeltaCRLIndicator, Critical: true, Value: der}, nil
}
