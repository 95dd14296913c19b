package identity

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"time"

	"github.com/certconnector/certconnector/agent/identity/ownenroll"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/embedded"
	"github.com/certconnector/certconnector/internal/retry"
)

// Renewal says who issues our own certificates: a CA in the process, or a
// bridge with its templates.
type Renewal struct {
	Direct ownenroll.Direct // see Embedded; nil: CA is asked
	CA     ca.Authority

	// Templates at a Microsoft CA. Encryption "": that for signing.
	SigningTemplate, EncryptionTemplate string
	Subject                             pkix.Name // of RA certificates; zero: as they are
	KeyBits                             int       // 0: 2048
}

// Embedded has a CA in the process issue without templates.
func Embedded(issuer *embedded.CA) ownenroll.Direct {
	return func(ctx context.Context, role ownenroll.Role, key crypto.PublicKey, subject pkix.Name) (*x509.Certificate, error) {
		if len(role.Hosts) > 0 {
			return issuer.IssueTLS(ctx, role.Hosts, key)
		}
		return issuer.IssueRA(ctx, embedded.RAPurpose(role.Name), key, subject)
	}
}

// schedule is when a renewal that failed is tried again.
var schedule = retry.Schedule{First: time.Hour, Most: day}

// attempts is the memory of a renewal that does not succeed. Its owner guards
// it.
type attempts struct {
	failed  int
	retryAt time.Time
	problem string
	seen    string // why it was tried; another reason is tried at once
	asked   bool   // somebody asked for a renewal, and the CA has not decided; see recall
}

// asked is the reason of a renewal that is not due.
const asked = "somebody asked for it"

// due tells whether to try now.
func (a *attempts) due(why string, now time.Time) bool {
	return why != "" && (!now.Before(a.retryAt) || why != a.seen)
}

// failedWith remembers a failure. end is when the certificate in use ends: the
// nearer it is, the more often we try.
func (a *attempts) failedWith(why string, err error, now, end time.Time) {
	a.seen, a.problem = why, err.Error()
	a.failed++
	wait := schedule.Delay(a.failed)
	_, parked := errors.AsType[*parkedError](err)
	if parked {
		a.failed, wait = 0, schedule.First // asking whether it was approved costs nothing
	}
	a.asked = parked && why == asked
	if left := end.Sub(now) / 8; left < wait {
		wait = max(left, 10*time.Minute)
	}
	a.retryAt = now.Add(wait)
}

// recall finds out whether somebody asked another process, or the
// configuration before, for the renewal that is under way: one that is not due
// otherwise. One that was denied is not begun anew.
func (a *attempts) recall(l lineage, reason func() string) {
	a.asked = false
	a.asked = reason() == "" && l.begun()
}

// err is what stands against the renewal, the same words until that changes.
func (a *attempts) err(name string) error {
	if a.problem == "" {
		return nil
	}
	return fmt.Errorf("%s: not renewed, though %s: %s", name, a.seen, a.problem)
}

func (a *attempts) succeeded() { *a = attempts{} }

// gain refuses a new generation that is no better than the present one: a CA
// near its own end, or a template with a short life, would have us renew
// without end. A person who asks gets it: the old key may be known to others.
func gain(why string, present, next generation) error {
	if why == asked || len(present.pairs) == 0 || !sameCA(present.chain, next.chain) || next.notAfter().After(present.notAfter()) {
		return nil
	}
	return fmt.Errorf("the CA's new certificate ends on %s, no later than the present one; look at the end of the CA's own certificate and at the template's validity",
		date(next.notAfter()))
}

// pointless tells whether a renewal can gain nothing since the CA itself ends.
func pointless(present generation, chain []*x509.Certificate) bool {
	return len(chain) > 0 && sameCA(present.chain, chain) && chain[0].NotAfter.Sub(present.notAfter()) < day
}

// bits is the size of an RSA key, for its successor.
func bits(key crypto.PublicKey) int {
	if k, ok := key.(*rsa.PublicKey); ok {
		return k.N.BitLen()
	}
	return 0
}
