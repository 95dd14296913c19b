// Package identity is the connector's own certificates and secrets: an
// inventory of all of them, renewed early and reloaded while the service runs.
// Silent expiry of a connector's own certificates is the most frequent outage
// of this kind of system, and the one that nobody needs to have.
//
// A Keeper tends every Own: the registration authority's pairs (RA), server
// certificates that our CA issues (TLS), files that a person or another
// program replaces (Watched), and what can only be looked at (Noted). What is
// renewed is complete on disk and checked before it is used; the old one goes
// on until then, and what devices encrypted for it is opened for a while after.
package identity

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/certconnector/certconnector/internal/keys"
)

// Kind is what a certificate or secret is for.
type Kind string

// The kinds of an inventory.
const (
	KindRASigning      Kind = "ra-signing"    // signs SCEP replies
	KindRAEncryption   Kind = "ra-encryption" // devices encrypt to it
	KindRACombined     Kind = "ra-combined"   // both
	KindRAPrevious     Kind = "ra-previous"   // still opens what devices encrypted to it
	KindNextCA         Kind = "next-ca"       // what GetNextCACert announces
	KindTLS            Kind = "tls"           // a listener's server certificate
	KindCRPClient      Kind = "crp-client"    // shown to a registration point elsewhere
	KindCRPServer      Kind = "crp-server"    // of the registration point that we are
	KindEntraClient    Kind = "entra-client"  // signs our assertions to Entra ID
	KindEntraSecret    Kind = "entra-secret"  // a client secret; its end is known to Entra only
	KindCALink         Kind = "ca-link"       // shown to the CA's web services
	KindEmbeddedCA     Kind = "embedded-ca"   // of the CA in the process
	KindOCSPSigner     Kind = "ocsp-signer"   // answers for that CA
	KindTokenSigning   Kind = "token-signing" // signs challenges of our own
	KindJobQueueClient Kind = "job-queue-client"
)

// Item is one row of the inventory.
type Item struct {
	Name    string `json:"name"` // of the part that uses it, as "endpoint corp"
	Kind    Kind   `json:"kind"`
	Subject string `json:"subject,omitempty"`
	Issuer  string `json:"issuer,omitempty"`
	SHA256  string `json:"sha256,omitempty"` // of the certificate, hexadecimal
	Source  string `json:"source"`           // a file, or where we made it
	// Key is where its private key lives; "": that does not matter here.
	Key       keys.Place `json:"key,omitempty"`
	NotBefore time.Time  `json:"not_before,omitzero"`
	NotAfter  time.Time  `json:"not_after,omitzero"` // zero: not known
	RenewAt   time.Time  `json:"renew_at,omitzero"`  // when it is renewed, or should be
	Next      string     `json:"next"`               // what happens next, or what a person has to do
	Problem   string     `json:"problem,omitempty"`  // why that does not happen
	Managed   bool       `json:"managed"`            // we renew it
}

// Own is a certificate or secret of our own, or a few that belong together.
// Implementations are safe for concurrent use.
type Own interface {
	// Items are its rows. They cost nothing: nobody is asked.
	Items() []Item
	// Tend does what is due. An error says what could not be done; what was
	// there before is still in use. It is called again within the hour.
	Tend(ctx context.Context) error
}

// Looker is an Own that can look after its files more often than it is tended.
type Looker interface {
	Look() error
}

// Renewer is an Own that can be renewed before it is due.
type Renewer interface {
	// Named tells whether a name of the inventory is meant.
	Named(name string) bool
	Renew(ctx context.Context) error
}

// describe fills a row from a certificate.
func describe(name string, kind Kind, cert *x509.Certificate, source string) Item {
	sum := sha256.Sum256(cert.Raw)
	return Item{
		Name: name, Kind: kind, Subject: cert.Subject.String(), Issuer: cert.Issuer.String(), SHA256: hex.EncodeToString(sum[:]),
		Source: source, NotBefore: cert.NotBefore, NotAfter: cert.NotAfter, RenewAt: twoThirds(cert),
	}
}

// twoThirds is when a certificate should be renewed: early enough for a CA
// that is down for months, late enough not to bother it.
func twoThirds(cert *x509.Certificate) time.Time {
	return cert.NotBefore.Add(cert.NotAfter.Sub(cert.NotBefore) / 3 * 2)
}

// valid tells whether a certificate can be used at a time.
func valid(cert *x509.Certificate, now time.Time) bool {
	return !now.Before(cert.NotBefore) && now.Before(cert.NotAfter)
}

// date is a day for people.
func date(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// expired says that a certificate must not be used any more.
func expired(what string, cert *x509.Certificate) error {
	return fmt.Errorf("%s %q expired on %s", what, cert.Subject, date(cert.NotAfter))
}

// day is what people count the rest of a life in.
const day = 24 * time.Hour
