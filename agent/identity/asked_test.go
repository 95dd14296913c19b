package identity_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/identity"
	"github.com/certconnector/certconnector/scep"
)

// careful is an RA whose certificates a person at the CA must approve.
func (w *world) careful() identity.RAConfig {
	cfg := w.config()
	cfg.Renew = &identity.Renewal{CA: w.ca, SigningTemplate: "careful"}
	return cfg
}

// ask has a renewal asked for, which the CA parks, and returns the IDs.
func (w *world) ask(own identity.Renewer, folder string) []string {
	w.t.Helper()
	err := own.Renew(w.t.Context())
	ids := parked(w.t, filepath.Join(folder, "next"))
	if err == nil || len(ids) == 0 {
		w.t.Fatalf("nothing is parked: %v", err)
	}
	return ids
}

func (w *world) approve(ids ...string) {
	w.t.Helper()
	for _, id := range ids {
		if err := w.ca.issuer.Approve(w.t.Context(), id); err != nil {
			w.t.Fatal(err)
		}
	}
}

// Somebody asked for a renewal long before it is due, and the process that was
// asked is gone: the next one, or the next configuration, carries it through.
func TestRenewalThatWasAskedForOutlivesTheProcess(t *testing.T) {
	for _, row := range []struct {
		name string
		next func(w *world, cfg identity.RAConfig, old, early *identity.RA) *identity.RA
	}{
		{"a restart", func(w *world, cfg identity.RAConfig, _, _ *identity.RA) *identity.RA { return w.open(cfg) }},
		{"a reload", func(w *world, cfg identity.RAConfig, old, _ *identity.RA) *identity.RA {
			return w.reload(w.open(cfg), old)
		}},
		{"a reload that was under way", func(w *world, _ identity.RAConfig, old, early *identity.RA) *identity.RA {
			return w.reload(early, old)
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t)
			cfg := w.careful()
			old, early := w.open(cfg), w.open(cfg)
			first := w.live(old)
			ids := w.ask(old, cfg.Folder)
			ra := row.next(w, cfg, old, early)
			if err := ra.Tend(t.Context()); err == nil {
				t.Error("nothing says that the CA waits for a person")
			}
			if i := item(t, ra, identity.KindRASigning); i.Problem == "" {
				t.Errorf("row %+v", i)
			}
			w.approve(ids...)
			w.clock.Add(time.Hour)
			w.tend(ra)
			if w.live(ra).Signing.Certificate.Equal(first.Signing.Certificate) {
				t.Error("not in use after the approvals")
			}
			w.clock.Add(50 * day)
			w.tend(ra)
			if w.ca.issues != 2 {
				t.Errorf("%d requests for two certificates", w.ca.issues)
			}
		})
	}
}

// reload is how a Service hands over, with the old one's keeper ended.
func (w *world) reload(next, old *identity.RA) *identity.RA {
	w.t.Helper()
	if err := next.Inherit(old); err != nil {
		w.t.Fatal(err)
	}
	if err := next.Reread(); err != nil {
		w.t.Fatal(err)
	}
	return next
}

// What the process before has collected while the next one was built is not
// asked for again.
func TestRenewalThatWasAskedForIsNotDoneTwice(t *testing.T) {
	w := newWorld(t)
	cfg := w.careful()
	old := w.open(cfg)
	w.approve(w.ask(old, cfg.Folder)...)
	next := w.open(cfg)
	w.clock.Add(2 * time.Hour)
	w.tend(old)
	next = w.reload(next, old)
	w.tend(next)
	if !w.live(next).Signing.Certificate.Equal(w.live(old).Signing.Certificate) {
		t.Error("another certificate is in use than the one that was collected")
	}
	if w.ca.issues != 2 {
		t.Errorf("%d requests for two certificates", w.ca.issues)
	}
}

// A restart takes up what waits, not what was denied: one denial of two ends a
// renewal, and the other request stays parked.
func TestDeniedRenewalIsNotTakenUpByARestart(t *testing.T) {
	for n := range 2 {
		w := newWorld(t)
		cfg := w.careful()
		ra := w.open(cfg)
		ids := w.ask(ra, cfg.Folder)
		if err := w.ca.issuer.Deny(t.Context(), ids[n], "not ours"); err != nil {
			t.Fatal(err)
		}
		w.clock.Add(2 * time.Hour)
		if err := ra.Tend(t.Context()); err == nil {
			t.Fatal("a denial is no error")
		}
		ra = w.open(cfg)
		w.clock.Add(2 * time.Hour)
		w.tend(ra)
		if w.ca.issues != 2 {
			t.Errorf("a denied request was sent again: %d requests", w.ca.issues)
		}
	}
}

// A run that was cut off just before the rename has everything that somebody
// asked for.
func TestRenewalThatWasAskedForAndCutOffIsFinished(t *testing.T) {
	w := newWorld(t)
	cfg := w.config()
	ra := w.open(cfg)
	if err := ra.Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	made := w.live(ra).Signing.Certificate
	if err := os.Rename(w.path("identity/ra-corp/0001"), w.path("identity/ra-corp/next")); err != nil {
		t.Fatal(err)
	}
	ra = w.open(cfg)
	w.tend(ra)
	if !w.live(ra).Signing.Certificate.Equal(made) {
		t.Error("what was asked for is not in use")
	}
}

// What waits because it is due is judged as such after a restart: a certificate
// that ends no later than the present one is not taken.
func TestParkedRenewalThatIsDueIsJudgedAsDueAfterARestart(t *testing.T) {
	w := newWorld(t)
	w.ca.validity = 100 * day
	w.ca.renew(10*365*day, "Issuing CA")
	cfg := w.careful()
	cfg.Material.Shape, cfg.Signing, cfg.Encryption = scep.CombinedRA, w.operatorPair("combined", 2), identity.Files{}
	ra := w.open(cfg)
	first := w.live(ra)
	w.clock.Add(490 * day)
	if err := ra.Tend(t.Context()); err == nil {
		t.Fatal("not parked")
	}
	ra = w.open(cfg)
	w.approve(parked(t, w.path("identity/ra-corp/next"))...)
	w.clock.Add(2 * time.Hour)
	if err := ra.Tend(t.Context()); err == nil {
		t.Error("a shorter certificate was taken")
	}
	if !w.live(ra).Signing.Certificate.Equal(first.Signing.Certificate) {
		t.Error("another one is in use")
	}
}

func TestTLSRenewalThatWasAskedForOutlivesTheProcess(t *testing.T) {
	for _, reload := range []bool{false, true} {
		w := newWorld(t)
		cfg := w.tlsConfig()
		w.openTLS(cfg)
		cfg.Renew = identity.Renewal{CA: w.ca, SigningTemplate: "careful"}
		old := w.openTLS(cfg)
		first := w.leaf(old)
		early := w.openTLS(cfg)
		ids := w.ask(old, cfg.Folder)
		own := early
		if reload {
			if err := own.Reread(); err != nil {
				t.Fatal(err)
			}
		} else {
			own = w.openTLS(cfg)
		}
		if err := own.Tend(t.Context()); err == nil {
			t.Error("nothing says that the CA waits for a person")
		}
		w.approve(ids...)
		w.clock.Add(time.Hour)
		w.tend(own)
		if w.leaf(own).Equal(first) {
			t.Errorf("reload %v: not in use after the approval", reload)
		}
	}
}
