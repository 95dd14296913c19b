package enroll_test

import (
	"bytes"
	"crypto/x509/pkix"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/enroll"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/scep"
)

// TestSpentChallenge has one row for each use of a challenge after a device
// had its certificate with it (M2): the same request again, whatever its bytes,
// gets that certificate, and anything else nothing.
func TestSpentChallenge(t *testing.T) {
	names := func(d *device, t *testing.T, name string) {
		d.extra = []pkix.Extension{generalNames(t, dns(name))}
	}
	for name, tc := range map[string]struct {
		again func(t *testing.T, w *world, d *device)
		same  bool // the certificate comes again
	}{
		"same key and names, fresh CSR":         {func(*testing.T, *world, *device) {}, true},
		"same key and names, other transaction": {func(_ *testing.T, _ *world, d *device) { d.transaction = "another" }, true},
		"same, after a restart":                 {func(_ *testing.T, w *world, _ *device) { w.restart() }, true},
		"another key":                           {func(_ *testing.T, _ *world, d *device) { d.key = testkeys.RSA2048(5) }, false},
		"another key, other transaction":        {func(_ *testing.T, _ *world, d *device) { d.key, d.transaction = testkeys.RSA2048(5), "another" }, false},
		"another key, after a restart":          {func(_ *testing.T, w *world, d *device) { d.key = testkeys.RSA2048(5); w.restart() }, false},
		"another key, long after": {func(_ *testing.T, w *world, d *device) {
			d.key = testkeys.RSA2048(5)
			w.later(30 * time.Minute)
			w.restart()
		}, false},
		"another subject":                          {func(_ *testing.T, _ *world, d *device) { d.cn = "administrator" }, false},
		"another subject, other transaction":       {func(_ *testing.T, _ *world, d *device) { d.cn, d.transaction = "administrator", "another" }, false},
		"another subjectAltName":                   {func(t *testing.T, _ *world, d *device) { names(d, t, "dc.example.test") }, false},
		"same key and names, beyond replay window": {func(_ *testing.T, w *world, d *device) { w.later(30 * time.Minute) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.stop()
				w.config.ReplayWindow = 10 * time.Minute
				w.start()
				d := newDevice(0, "good")
				first := w.want(w.ask(d), scep.Success)
				tc.again(t, w, &d)
				res := w.ask(d)
				if tc.same {
					if w.want(res, scep.Success); !bytes.Equal(res.Certificate, first.Certificate) {
						t.Error("another certificate")
					}
				} else {
					w.wantFailure(res, scep.BadRequest)
					if line := w.line("request refused"); line["rule"] != string(enroll.RuleChallengeUsed) || line["ndes_event"] != int64(29) {
						t.Errorf("refused by %v with event %v", line["rule"], line["ndes_event"])
					}
				}
				if w.core.issues != 1 {
					t.Errorf("CA was asked %d times", w.core.issues)
				}
				w.told(1, 0)
			})
		})
	}
}

// TestWhatSpendsAChallenge has one row for each way in which a first try can
// end; then a thief comes with the same challenge, and then the device again.
func TestWhatSpendsAChallenge(t *testing.T) {
	for name, tc := range map[string]struct {
		before func(w *world)
		after  func(w *world)
		thief  scep.Status // Success: the challenge was left unspent
		device scep.Status // when it comes again, if the thief got nothing
	}{
		"refused by the module": {
			func(w *world) { w.cloud.set(func(c *cloud) { c.strict = true }) },
			func(w *world) { w.cloud.set(func(c *cloud) { c.strict = false }) }, scep.Success, 0},
		"module that cannot be asked": {
			func(w *world) { w.cloud.set(func(c *cloud) { c.down = true }) },
			func(w *world) { w.cloud.set(func(c *cloud) { c.down = false }) }, scep.Success, 0},
		"refused by a rule after the grant": {
			func(w *world) { w.cloud.set(func(c *cloud) { c.made = time.Now().Add(-2 * time.Hour) }) },
			func(w *world) { w.cloud.set(func(c *cloud) { c.made = time.Now() }) }, scep.Failure, scep.Failure},
		"refused by a rule where nobody is told": {
			func(w *world) {
				w.cloud.set(func(c *cloud) { c.uninformed, c.made = true, time.Now().Add(-2*time.Hour) })
			},
			func(w *world) { w.cloud.set(func(c *cloud) { c.made = time.Now() }) }, scep.Success, 0},
		"CA down": {
			func(w *world) { w.core.set(func(f *fakeCA) { f.down = true }) },
			func(w *world) { w.core.set(func(f *fakeCA) { f.down = false }) }, scep.Failure, scep.Success},
		"CA that does not say what it did": {
			func(w *world) { w.core.set(func(f *fakeCA) { f.deafTo = true }) },
			func(w *world) { w.core.set(func(f *fakeCA) { f.deafTo = false }) }, scep.Failure, scep.Success},
		"CA that parks": {
			func(w *world) { w.core.set(func(f *fakeCA) { f.park = true }) },
			func(w *world) { w.core.set(func(f *fakeCA) { f.park, f.parked["1"].approved = false, true }) }, scep.Failure, scep.Success},
		"denied by the CA": {
			func(w *world) {
				w.core.set(func(f *fakeCA) { f.deny = &ca.Denied{HResult: ca.HResultTemplateDenied, Text: "no"} })
			},
			func(w *world) { w.core.set(func(f *fakeCA) { f.deny = nil }) }, scep.Failure, scep.Failure},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.stop()
				w.setup = func(c *enroll.Config) { c.RestoredAt = time.Now().Add(-time.Hour) }
				w.cloud.made = time.Now()
				w.start()
				tc.before(w)
				d := newDevice(0, "good")
				if res, err := w.endpoint.Enroll(t.Context(), d.request(t, scep.PKCSReq)); err == nil && res.Status == scep.Success {
					t.Fatal("the first try succeeded")
				}
				tc.after(w)
				thief := newDevice(5, "good")
				w.want(w.ask(thief), tc.thief)
				w.later(20 * time.Minute)
				if tc.thief == scep.Failure {
					w.want(w.ask(d), tc.device)
				}
				if n := len(w.core.issued); n > 1 {
					t.Errorf("%d certificates with one challenge", n)
				}
			})
		})
	}
}

// TestPanicOfAModuleCostsOneExchange: the device is told to come again, the
// line of it has the stack, and the next one is served.
func TestPanicOfAModuleCostsOneExchange(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.cloud.set(func(c *cloud) { c.broken = true })
		d := newDevice(0, "good")
		for range 3 {
			if res, err := w.endpoint.Enroll(t.Context(), d.request(t, scep.PKCSReq)); err == nil {
				t.Fatalf("got %v, want an error that becomes HTTP 503", res.Status)
			}
		}
		if lines := w.log.FilterMessage("deciding about a request panicked").All(); len(lines) != 3 || lines[0].ContextMap()["stack"] == nil {
			t.Errorf("lines %v", lines)
		}
		w.entries(0)
		w.cloud.set(func(c *cloud) { c.broken = false })
		w.want(w.ask(d), scep.Success)
	})
}
