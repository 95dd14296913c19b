package entra

import (
	"crypto/sha1"
	"crypto/sha256"
	"fmt"
	"strings"
	"time"
)

// State is how far a generation has come.
type State string

// made → registered → working → retired.
const (
	Made       State = "made"       // here; the app registration does not have it, as far as is known
	Registered State = "registered" // added to the app registration
	Working    State = "working"    // a token was had with it
	Retired    State = "retired"    // expired, or removed from the app registration; its key is erased
)

// longest is the longest delay between attempts.
const longest = 2 * time.Hour

func (s State) valid() bool {
	return s == Made || s == Registered || s == Working || s == Retired
}

// record is what is kept of a generation beside its certificate and key.
type record struct {
	Generation  int    `json:"generation"`
	State       State  `json:"state"`
	Fingerprint string `json:"sha256"` // of the certificate, so that files cannot be mixed up
	KeyID       string `json:"key_id,omitempty"`
	Auto        bool   `json:"auto"` // this program uploads it; otherwise a person does

	MadeAt       time.Time `json:"made_at"`
	AddingAt     time.Time `json:"adding_at,omitzero"` // addKey may have been called
	RegisteredAt time.Time `json:"registered_at,omitzero"`
	WorkedAt     time.Time `json:"worked_at,omitzero"`
	RemovingAt   time.Time `json:"removing_at,omitzero"` // removeKey may have been called
	RetiredAt    time.Time `json:"retired_at,omitzero"`

	Attempts int       `json:"attempts,omitempty"`
	NextAt   time.Time `json:"next_at,omitzero"` // when the next attempt is due
	Problem  string    `json:"problem,omitempty"`
	ByHand   bool      `json:"by_hand,omitempty"` // the step that is due waits for a person
}

// generation is one certificate of the folder.
type generation struct {
	record
	Credential
}

// Fingerprint is the SHA-256 of a certificate, in hexadecimal.
func Fingerprint(certificate []byte) string {
	return fmt.Sprintf("%X", sha256.Sum256(certificate))
}

// Thumbprint is the SHA-1 of a certificate, in hexadecimal: the Entra admin
// center lists certificates by it.
func Thumbprint(certificate []byte) string {
	return fmt.Sprintf("%X", sha1.Sum(certificate))
}

// live says that a generation may sign in.
func (g *generation) live(now time.Time) bool {
	return g.State != Retired && g.Signer != nil && now.Before(g.Certificate.NotAfter)
}

// renewAt is two thirds into the certificate's life.
func (g *generation) renewAt() time.Time {
	c := g.Certificate
	return c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore) / 3 * 2)
}

// due says that the next attempt may be made. A time that no delay reaches was
// recorded by a clock that was ahead.
func (g *generation) due(now time.Time) bool {
	return !now.Before(g.NextAt) || g.NextAt.Sub(now) > longest
}

// displayName names a key of this folder in the app registration. The host's
// name comes last: Entra ID shortens long names.
func (s *Store) displayName(generation int) string {
	return s.namePrefix() + fmt.Sprintf("%04d %s", generation, s.Host)
}

func (s *Store) namePrefix() string { return "certconnector " + s.id + " " }

// is says that a key of the app registration is this generation's. Graph does
// not show a thumbprint for every key; then the key's ID tells. Where that could
// not be recorded the name does, with the host's in it: a copy of the folder on
// another host counts its own generations under the same ID.
func (s *Store) is(k Key, g *generation) bool {
	switch {
	case k.Thumbprint != "":
		return strings.EqualFold(k.Thumbprint, Thumbprint(g.Certificate.Raw))
	case g.KeyID != "":
		return k.KeyID == g.KeyID
	}
	return s.named(k.DisplayName, g.Generation)
}

// named says that a key has the name that this host gives to a generation.
// Entra ID may have shortened it, by all of the host's name at the most.
func (s *Store) named(name string, generation int) bool {
	least := s.namePrefix() + fmt.Sprintf("%04d", generation)
	name = strings.TrimSpace(name)
	return len(name) >= len(least) && strings.HasPrefix(s.displayName(generation), name)
}

// current is the newest generation that works; pending the newest that does
// not yet, if it is newer.
func (s *Store) current(now time.Time) *generation {
	for i := len(s.list) - 1; i >= 0; i-- {
		if g := s.list[i]; g.State == Working && g.live(now) {
			return g
		}
	}
	return nil
}

func (s *Store) pending(now time.Time) *generation {
	for i := len(s.list) - 1; i >= 0; i-- {
		g := s.list[i]
		if !g.live(now) {
			continue
		}
		if g.State == Working {
			return nil
		}
		return g
	}
	return nil
}

// isHostName checks labels of letters, digits and hyphens (RFC 1123, section 2.1).
func isHostName(name string) bool {
	if len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") != "" ||
			label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
	}
	return true
}
