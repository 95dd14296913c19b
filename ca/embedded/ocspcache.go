package embedded

import (
	linked "container/list"
	"math/big"
	"sync"
	"time"
)

// ocspEntry is a signed response and when it must be made anew.
type ocspEntry struct {
	der                    []byte
	thisUpdate, nextUpdate time.Time
	until                  time.Time // the register is asked again then
	signer                 *ocspSigner
}

// ocspCache keeps signed responses of one CA, at most so many; the one that
// nobody has asked for the longest goes first. A revocation takes its
// certificate's responses out, also those that are being made meanwhile.
type ocspCache struct {
	limit int

	mu      sync.Mutex
	entries map[string]*linked.Element // by CertID; values are *cachedResponse
	recent  *linked.List               // most recently used first
	serials map[string]map[string]struct{}
	age     uint64 // counts revocations
}

type cachedResponse struct {
	id, serial string
	ocspEntry
}

func newOCSPCache(limit int) *ocspCache {
	return &ocspCache{limit: limit, entries: map[string]*linked.Element{}, recent: linked.New(), serials: map[string]map[string]struct{}{}}
}

// get returns a response that is still good, or the age of the cache, which
// put wants to know.
func (c *ocspCache) get(id []byte, now time.Time) (e ocspEntry, ok bool, age uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	el, ok := c.entries[string(id)]
	if !ok {
		return ocspEntry{}, false, c.age
	}
	r := el.Value.(*cachedResponse)
	if !now.Before(r.until) || now.Before(r.thisUpdate) {
		c.drop(el)
		return ocspEntry{}, false, c.age
	}
	c.recent.MoveToFront(el)
	return r.ocspEntry, true, c.age
}

// put keeps a response whose status was read when the cache had this age.
func (c *ocspCache) put(id []byte, serial *big.Int, e ocspEntry, age uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if age != c.age {
		return // something was revoked meanwhile: perhaps this
	}
	if el, ok := c.entries[string(id)]; ok {
		c.drop(el)
	}
	for len(c.entries) >= c.limit {
		c.drop(c.recent.Back())
	}
	r := &cachedResponse{string(id), string(serial.Bytes()), e}
	c.entries[r.id] = c.recent.PushFront(r)
	if c.serials[r.serial] == nil {
		c.serials[r.serial] = map[string]struct{}{}
	}
	c.serials[r.serial][r.id] = struct{}{}
}

// forget drops what is kept for a serial number.
func (c *ocspCache) forget(serial *big.Int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.age++
	for id := range c.serials[string(serial.Bytes())] {
		c.drop(c.entries[id])
	}
}

// drop takes an element out of all three. The caller holds mu.
func (c *ocspCache) drop(el *linked.Element) {
	r := el.Value.(*cachedResponse)
	c.recent.Remove(el)
	delete(c.entries, r.id)
	delete(c.serials[r.serial], r.id)
	if len(c.serials[r.serial]) == 0 {
		delete(c.serials, r.serial)
	}
}
