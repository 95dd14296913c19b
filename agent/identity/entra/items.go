package entra

import (
	"fmt"
	"slices"
	"time"

	"github.com/certconnector/certconnector/internal/keys"
)

// Item is one certificate of the folder, for the inventory of everything that
// this host depends on.
type Item struct {
	Name      string // Entra certificate 0001 of contoso
	Subject   string
	SHA256    string // hexadecimal
	SHA1      string // as the Entra admin center lists it
	Path      string
	Key       keys.Place // where its private key lives
	NotBefore time.Time
	NotAfter  time.Time
	State     State
	Current   bool      // it is the one that signs in
	Next      string    // what happens to it next, and when
	NextAt    time.Time // zero: nothing is planned
	Problem   string    // what keeps that from happening, "" when nothing does
	ByHand    bool      // a person must do something
}

// Items lists the certificates that are not retired, newest first, and what is
// wrong with the folder.
func (s *Store) Items() []Item {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.Clock()
	current, pending := s.current(now), s.pending(now)
	var items []Item
	for _, g := range slices.Backward(s.list) {
		if g.State == Retired {
			continue
		}
		c := g.Certificate
		item := Item{
			Name: s.itemName(g.Generation), Subject: c.Subject.String(), SHA256: g.Fingerprint, SHA1: Thumbprint(c.Raw),
			Path: s.file(g.Generation, "pem"), Key: keys.PlaceOfFile(s.file(g.Generation, "key")), NotBefore: c.NotBefore, NotAfter: c.NotAfter, State: g.State,
			Current: g == current, Problem: g.Problem, ByHand: g.ByHand,
		}
		s.plan(&item, g, current, pending, now)
		items = append(items, item)
	}
	for _, f := range s.foreign {
		items = append(items, Item{Name: "Entra certificate of " + s.Tenant, Path: s.Dir, Problem: f, ByHand: true,
			Next: "is not used until the files are put right"})
	}
	for _, k := range s.unknown {
		items = append(items, Item{Name: "Entra certificate of " + s.Tenant, SHA1: k.Thumbprint, NotBefore: k.NotBefore, NotAfter: k.NotAfter, ByHand: true,
			Problem: fmt.Sprintf("the app registration has the certificate %q, which this folder does not know", k.DisplayName),
			Next:    "remove it there, unless a copy of this folder is in use on another host"})
	}
	return items
}

func (s *Store) itemName(generation int) string {
	return fmt.Sprintf("Entra certificate %04d of %s", generation, s.Tenant)
}

// plan says what happens to a generation next.
func (s *Store) plan(item *Item, g, current, pending *generation, now time.Time) {
	switch {
	case !g.live(now):
		item.Next, item.Problem, item.ByHand = "make another one and upload it", "it has expired", true
	case g == pending && g.State == Registered:
		item.Next, item.NextAt = "tried again, until Entra ID knows it", g.NextAt
	case g == pending && g.Auto && !g.ByHand && s.graph != nil && current != nil:
		item.Next, item.NextAt = "added to the app registration", g.NextAt
	case g == pending:
		item.Next, item.NextAt, item.ByHand = "upload it to the app registration; it is tried by itself", g.NextAt, true
	case g == current && s.graph == nil:
		item.Next, item.NextAt = "replace it by hand", g.renewAt()
	case g == current && pending != nil && now.After(g.renewAt()):
		item.Next = fmt.Sprintf("replaced by generation %d when that works", pending.Generation)
	case g == current && s.ByHand:
		item.Next, item.NextAt = "a successor is made, for a person to upload", g.renewAt()
	case g == current:
		item.Next, item.NextAt = "replaced", g.renewAt()
	case current != nil && g.Generation < current.Generation:
		item.Next, item.NextAt = "removed from the app registration, once its successor has worked for a while", later(current.WorkedAt.Add(s.Overlap), g.NextAt)
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
