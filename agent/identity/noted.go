package identity

import (
	"context"
	"crypto/x509"
	"fmt"
	"time"
)

// Noted is what others look after or nobody can: it is in the inventory, and
// warned about, and no more.
type Noted func(now time.Time) []Item

// noted is a Noted with its clock. A function is no key of a map, so that it
// is kept behind a pointer.
type noted struct {
	rows  Noted
	clock func() time.Time
}

// Note makes an Own of rows that are computed when they are asked for. clock
// nil: time.Now.
func Note(rows Noted, clock func() time.Time) Own {
	if clock == nil {
		clock = time.Now
	}
	return &noted{rows, clock}
}

// Items are the rows.
func (n *noted) Items() []Item { return n.rows(n.clock()) }

// Tend does nothing.
func (n *noted) Tend(context.Context) error { return nil }

// Describe fills a row from a certificate, for a Noted.
func Describe(name string, kind Kind, cert *x509.Certificate, source string) Item {
	return describe(name, kind, cert, source)
}

// Secret is the row of a secret whose end only its issuer knows, as a client
// secret of Entra ID. ends is what the operator wrote down; zero: nothing.
func Secret(name string, kind Kind, source string, ends time.Time) Noted {
	return func(time.Time) []Item {
		i := Item{Name: name, Kind: kind, Source: source, NotAfter: ends}
		if ends.IsZero() {
			i.Next = "its end is known to its issuer alone: look there, or use a certificate, which is renewed"
		} else {
			i.RenewAt = ends.Add(-30 * day)
			i.Next = "make a new one by " + date(i.RenewAt) + " and replace the file"
		}
		return []Item{i}
	}
}

// ownLife is how long the certificates are that an embedded CA issues for us:
// nearer to its end than this it cuts them short.
const ownLife = 2 * 365 * day

// EmbeddedCA is the row of a CA in the process. Its certificate is not renewed
// by the service: devices must be given the next one first.
func EmbeddedCA(name, source string, chain []*x509.Certificate) Noted {
	return func(now time.Time) []Item {
		i := describe("CA "+name, KindEmbeddedCA, chain[0], source)
		if at := i.NotAfter.Add(-ownLife); at.After(i.NotBefore) {
			i.RenewAt = at
		}
		i.Next = "by " + date(i.RenewAt) + " make the next CA, give devices its certificate, and announce it with get_ca_cert.next"
		if !now.Before(i.RenewAt) {
			i.Problem = fmt.Sprintf("what it issues is cut short: nothing can be valid beyond %s", date(i.NotAfter))
		}
		return []Item{i}
	}
}

// OCSPSigner is the row of a signer that the OCSP responder renews by itself.
// signer returns the present certificate, nil for none yet.
func OCSPSigner(name string, signer func() *x509.Certificate) Noted {
	return func(now time.Time) []Item {
		cert := signer()
		if cert == nil {
			return []Item{{
				Name: "CA " + name, Kind: KindOCSPSigner, Source: "made here", Managed: true,
				Next: "made as soon as the CA can sign", Problem: "there is none: requests are answered with tryLater",
			}}
		}
		i := describe("CA "+name, KindOCSPSigner, cert, "made here")
		i.Managed = true
		i.Next = "renewed on " + i.RenewAt.UTC().Format("2006-01-02 15:04") + " UTC"
		if now.After(i.RenewAt.Add(time.Hour)) {
			i.Problem = "it was not renewed in time; see the log for the reason"
		}
		return []Item{i}
	}
}
