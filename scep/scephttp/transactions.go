package scephttp

import (
	"sync"
	"time"

	"github.com/certconnector/certconnector/scep"
)

// transaction is what a device comes again with. Before the signature is
// verified it is only what somebody claims: it changes an order, nothing more.
type transaction struct {
	endpoint, id string
	key          [32]byte
}

// sighting is what is remembered of a transaction.
type sighting struct {
	first, last time.Time
	granted     bool // it was answered with PENDING: somebody has vouched for it
}

// transactions remembers when those who were sent away, or told PENDING, came
// first: their challenge is older than a newcomer's. The challenge itself, and
// when it ends, is in the envelope that is not opened yet.
type transactions struct {
	life time.Duration // of a challenge
	most int

	mu   sync.Mutex
	seen map[transaction]sighting
}

func newTransactions(life time.Duration, most int) *transactions {
	return &transactions{life: life, most: most, seen: map[transaction]sighting{}}
}

// visit is a transaction's turn at an endpoint.
type visit struct {
	transaction
	first time.Time // when it came first
	known bool      // it is remembered
}

// visit looks a message up. One whose challenge must have ended is a new one: a
// renewal with the transaction ID of the last (strongSwan), or a poll for what a
// person decides about, which needs no challenge any more.
func (t *transactions) visit(endpoint string, u *scep.Unverified, now time.Time) visit {
	v := visit{transaction: transaction{endpoint: endpoint, id: u.TransactionID}, first: now}
	t.mu.Lock()
	nobody := len(t.seen) == 0
	t.mu.Unlock()
	if nobody { // the usual case needs no digest
		return v
	}
	v.key = u.Signer.KeyDigest()
	t.mu.Lock()
	defer t.mu.Unlock()
	switch s, ok := t.seen[v.transaction]; {
	case !ok:
	case now.Sub(s.first) < t.life && !now.Before(s.first):
		v.first, v.known = s.first, true
	default:
		delete(t.seen, v.transaction)
	}
	return v
}

// deadline is when the challenge of a visit ends at the latest.
func (t *transactions) deadline(v visit) time.Time { return v.first.Add(t.life) }

// remember keeps a visit whose device should come again.
func (t *transactions) remember(v visit, signer *scep.Signer, granted bool, now time.Time) {
	v.key = signer.KeyDigest()
	t.mu.Lock()
	defer t.mu.Unlock()
	old, known := t.seen[v.transaction]
	if !known && len(t.seen) >= t.most {
		t.makeRoom(now)
	}
	t.seen[v.transaction] = sighting{first: v.first, last: now, granted: granted || old.granted}
}

// forget drops a visit that has ended.
func (t *transactions) forget(v visit) {
	if !v.known {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.seen, v.transaction)
}

// makeRoom keeps the table bounded: of a few, picked as map iteration pleases,
// those whose time is over go, or else the one that has not come for longest;
// one that was granted only when there is no other.
func (t *transactions) makeRoom(now time.Time) {
	var worst transaction
	var of sighting
	looked := 0
	for key, s := range t.seen {
		if now.Sub(s.first) >= t.life {
			delete(t.seen, key)
		} else if looked == 0 || of.granted && !s.granted || of.granted == s.granted && s.last.Before(of.last) {
			worst, of = key, s
		}
		if looked++; looked == 32 {
			break
		}
	}
	if len(t.seen) >= t.most {
		delete(t.seen, worst)
	}
}
