package identity

import (
	"cmp"
	"fmt"
	"path/filepath"
	"time"

	"github.com/certconnector/certconnector/internal/keys"
	"github.com/certconnector/certconnector/scep"
)

// Items are the pairs in use, those that still open messages, and the next CA.
func (r *RA) Items() []Item {
	s := r.live.Load()
	r.mu.Lock()
	defer r.mu.Unlock()
	var items []Item
	if s == nil {
		return append(items, Item{
			Name: r.name(), Kind: KindRASigning, Source: r.cfg.Signing.Certificate, Managed: r.cfg.Renew != nil,
			Next: "renewed as soon as the CA issues", Problem: cmp.Or(r.problem(), "there are no RA certificates that fit the CA"),
		})
	}
	for n, p := range s.current.pairs {
		i := describe(r.name(), r.kind(n), p.Certificate, r.source(s.current, n))
		i.Managed, i.RenewAt = r.renews(), s.current.renewAt() // as a pair
		i.Key = keys.PlaceOfRef(r.keyOf(s.current, n))
		i.Problem = r.problem()
		i.Next = r.nextAction(s.current, i)
		items = append(items, i)
	}
	for _, g := range s.previous {
		i := describe(r.name(), KindRAPrevious, g.pairs[len(g.pairs)-1].Certificate, g.source)
		i.RenewAt, i.Key = time.Time{}, keys.PlaceOf(g.pairs[len(g.pairs)-1].Key)
		i.Next = fmt.Sprintf("opens what devices encrypted to it; removed after %s, and not before 30 days after it was replaced", date(i.NotAfter))
		items = append(items, i)
	}
	return append(items, r.nextItems()...)
}

func (r *RA) kind(n int) Kind {
	if r.cfg.Material.Shape == scep.CombinedRA {
		return KindRACombined
	}
	return []Kind{KindRASigning, KindRAEncryption}[n]
}

// source is a file of the operator's, or where we made it.
func (r *RA) source(g generation, n int) string {
	if g.number == 0 {
		return []string{r.cfg.Signing.Certificate, r.cfg.Encryption.Certificate}[n]
	}
	return g.source
}

// keyOf names the key of a pair.
func (r *RA) keyOf(g generation, n int) string {
	if g.number == 0 {
		return []string{r.cfg.Signing.Key, r.cfg.Encryption.Key}[n]
	}
	return filepath.Join(g.source, keyFile(r.lineage.roles[n]))
}

// renews tells whether the service renews the pairs in use: not those whose
// keys are in a device where it makes none.
func (r *RA) renews() bool {
	if r.cfg.Renew == nil {
		return false
	}
	s := r.live.Load()
	return s == nil || r.device(s.current) == ""
}

// device is where a key lives whose like the service does not make, "" where
// there is none.
func (r *RA) device(g generation) keys.Place {
	for n := range g.pairs {
		if place := keys.PlaceOfRef(r.keyOf(g, n)); !place.Makes() {
			return place
		}
	}
	return ""
}

func (r *RA) nextAction(g generation, i Item) string {
	device := r.device(g)
	switch {
	case device != "":
		return fmt.Sprintf("its key is in a device (%s), so a person renews: run certconnector ra enroll --endpoint %s by %s, which keeps the key, or make another and configure it", device, r.cfg.Endpoint, date(i.RenewAt))
	case r.cfg.Renew == nil:
		return fmt.Sprintf("run certconnector ra enroll --endpoint %s by %s, or set ra.renew to auto and name templates", r.cfg.Endpoint, date(i.RenewAt))
	case pointless(g, r.chain):
		return fmt.Sprintf("ends with the CA's own certificate on %s; renew the CA by %s", date(r.chain[0].NotAfter), date(i.RenewAt))
	case r.try.problem != "":
		return "tried again at " + r.try.retryAt.UTC().Format("2006-01-02 15:04") + " UTC"
	}
	return "renewed on " + date(i.RenewAt) + ", or at once when the CA's certificate changes"
}

// nextItems says how far a change of the CA's certificate is.
func (r *RA) nextItems() []Item {
	if r.next == nil {
		if text := r.trouble["next"]; text != "" {
			return []Item{{Name: r.name(), Kind: KindNextCA, Source: r.cfg.NextCA, Problem: text, Next: "put the next CA's chain into the file, in PEM form"}}
		}
		return nil
	}
	i := describe(r.name(), KindNextCA, r.next.Chain[0], r.cfg.NextCA)
	i.RenewAt = i.NotBefore
	i.Problem = r.trouble["next"]
	switch now := r.cfg.Clock(); {
	case sameCA(r.next.Chain, r.chain):
		i.Next = "it is the CA now: take the file and get_ca_cert.next away"
	case now.Before(i.NotBefore):
		i.Next = "announced to devices; the CA changes to it on " + date(i.NotBefore) + " at the earliest"
	default:
		i.Next = "valid since " + date(i.NotBefore) + ": have the CA issue with it (for an embedded CA: configure its key and certificate); the RA certificates follow by themselves"
	}
	return []Item{i}
}
