package enroll_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/scep"
)

func TestCAThatCannotBeSearchedGetsOneResubmission(t *testing.T) {
	for name, prepare := range map[string]func(w *world){
		"no road to search":      func(w *world) { w.ca = blindCA{w.core} },
		"no right to search":     func(w *world) { w.core.search = ca.ErrForbidden },
		"behind roads, no right": func(w *world) { w.ca, w.core.search = roads{w.core}, ca.ErrForbidden },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.stop()
				prepare(w)
				w.start()
				w.core.set(func(f *fakeCA) { f.mute = true })
				d := newDevice(0, "good")
				w.ask(d)
				w.later(5 * time.Minute)
				if w.core.issues != 2 {
					t.Errorf("CA was asked %d times, want one resubmission", w.core.issues)
				}
				if w.audit.FilterMessage("possible_orphan").Len() == 0 {
					t.Error("no audit line names the possible orphan")
				}
				w.wantFailure(w.ask(d), scep.BadRequest)
				w.told(0, 1)
			})
		})
	}
}

// A search that fails until nobody waits any more ends the request; whoever
// reconciles the CA's database is told.
func TestSearchThatNeverSucceedsEnds(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.core.set(func(f *fakeCA) { f.mute, f.search = true, ca.ErrUnavailable })
		d := newDevice(0, "good")
		w.want(w.ask(d), scep.Pending)
		w.later(2 * time.Hour)
		if e := w.entries(1)[0]; e.State != journal.Failed || e.Failure.Rule != "outcome_unknown" || w.core.issues != 1 {
			t.Errorf("entry is %v, %+v after %d submissions", e.State, e.Failure, w.core.issues)
		}
		if w.audit.FilterMessage("possible_orphan").Len() == 0 {
			t.Error("no audit line names the possible orphan")
		}
		w.told(0, 1)
	})
}

func TestWrongCertificateNeverLeaves(t *testing.T) {
	for name, tamper := range map[string]func(*x509.Certificate){
		"another subject":           func(c *x509.Certificate) { c.RawSubject = []byte{0x30, 0} },
		"another key":               func(c *x509.Certificate) { c.PublicKey = testkeys.RSA2048(7).Public() },
		"an added name":             func(c *x509.Certificate) { c.ExtraExtensions = nil; c.DNSNames = []string{"dc.corp.example"} },
		"a CA certificate":          func(c *x509.Certificate) { c.IsCA = true; c.KeyUsage |= x509.KeyUsageCertSign },
		"the right to sign a CRL":   func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCRLSign },
		"longer than the cap":       func(c *x509.Certificate) { c.NotAfter = time.Now().AddDate(3, 0, 0) },
		"expired before it is seen": func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.core.tamper = tamper
				w.cloud.maxLife = 2 * 365 * 24 * time.Hour
				w.wantFailure(w.ask(newDevice(0, "good")), scep.BadRequest)
				w.later(5 * time.Second)
				if name == "another key" { // it is somebody else's: not ours to have revoked
					if len(w.core.revoked) != 0 {
						t.Error("somebody else's certificate was revoked")
					}
				} else {
					w.wantRevoked()
				}
				w.told(0, 1)
				if e := w.entries(1)[0]; e.State != journal.Failed || e.Failure.Rule != "issued_certificate" {
					t.Errorf("entry is %v, %+v", e.State, e.Failure)
				}
			})
		})
	}
}

// Somebody else on the way to the CA has the CA's name and not its key.
func TestCertificateOfAnImpostorNeverLeaves(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.core.impostor = true
		w.wantFailure(w.ask(newDevice(0, "good")), scep.BadRequest)
		w.later(5 * time.Second)
		w.told(0, 1)
		if e := w.entries(1)[0]; e.State != journal.Failed || e.Failure.Rule != "issued_certificate" {
			t.Errorf("entry is %v, %+v", e.State, e.Failure)
		}
		if len(w.core.revoked) != 0 {
			t.Error("the CA was told to revoke what it has not signed")
		}
	})
}

// A Microsoft CA may write a name's strings in other types than the device.
func TestNameInOtherStringTypesIsTheSame(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.core.tamper = func(c *x509.Certificate) {
			other := bytes.Replace(c.RawSubject, []byte{0x13, 8}, []byte{0x0c, 8}, 1) // PrintableString "device 0" as UTF8String
			if bytes.Equal(other, c.RawSubject) {
				t.Error("the name was not changed")
			}
			c.RawSubject = other
		}
		w.want(w.ask(newDevice(0, "good")), scep.Success)
	})
}

// roads has no ability of its own: those of the bridge behind it are found.
type roads struct{ bridge ca.Authority }

func (r roads) Issue(ctx context.Context, req ca.Request) (*ca.Issued, error) {
	return r.bridge.Issue(ctx, req)
}

func (r roads) Chain(ctx context.Context) ([]*x509.Certificate, error) { return r.bridge.Chain(ctx) }

func (r roads) Roads() []ca.Authority { return []ca.Authority{r.bridge} }
