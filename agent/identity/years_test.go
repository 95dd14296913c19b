package identity_test

import (
	"context"
	"crypto/x509"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/identity"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/scep"
)

// years lets a connector be left alone. At every simulated hour everything
// that is served is within its dates.
type years struct {
	*world
	ra      *identity.RA
	tls     *identity.TLS
	watched *identity.Watched
	keeper  *identity.Keeper

	stop     context.CancelFunc
	end      time.Time
	events   []event        // in the order of time
	unserved map[string]int // hours in which nothing could be served
	renewed  map[string]int
	last     map[string]string
}

// event happens at a time after the start, once.
type event struct {
	at time.Duration
	do func()
}

// wait is how the keeper's time passes: an hour at a time.
func (y *years) wait(ctx context.Context, d time.Duration) error {
	y.check()
	y.clock.Add(d)
	passed := y.clock.Now().Sub(start)
	for len(y.events) > 0 && passed >= y.events[0].at {
		y.events[0].do()
		y.events = y.events[1:]
	}
	if !y.clock.Now().Before(y.end) {
		y.stop()
	}
	return ctx.Err()
}

func (y *years) check() {
	now := y.clock.Now()
	served := func(what string, cert *x509.Certificate) {
		if now.Before(cert.NotBefore) || !now.Before(cert.NotAfter) {
			y.t.Fatalf("%s: %s is served, valid from %s to %s", now, what, cert.NotBefore, cert.NotAfter)
		}
		if serial := cert.SerialNumber.String(); y.last[what] != serial {
			y.last[what] = serial
			y.renewed[what]++
		}
	}
	if live := y.ra.Live(); live == nil {
		y.unserved["ra"]++
		if y.ra.Expired() == nil {
			y.t.Fatalf("%s: there is no RA, and it is said to be fine", now)
		}
	} else {
		served("ra-signing", live.Signing.Certificate)
		served("ra-encryption", live.Encryption.Certificate)
		for _, p := range live.PreviousSigning {
			if p.Certificate != nil && !now.Before(p.Certificate.NotAfter) {
				y.t.Fatalf("%s: an expired certificate signs answers", now)
			}
		}
	}
	for what, get := range map[string]func() (*x509.Certificate, error){
		"tls":     func() (*x509.Certificate, error) { c, err := y.tls.GetCertificate(nil); return leafOf(c), err },
		"watched": func() (*x509.Certificate, error) { c, err := y.watched.GetCertificate(nil); return leafOf(c), err },
	} {
		if cert, err := get(); err != nil {
			y.unserved[what]++
		} else {
			served(what, cert)
		}
	}
}

func newYears(t *testing.T, events ...event) *years {
	y := &years{world: newWorld(t), unserved: map[string]int{}, renewed: map[string]int{}, last: map[string]string{}, events: events}
	y.end = start.Add(3 * 365 * day)
	y.ra = y.open(y.config())
	y.tls = y.openTLS(y.tlsConfig())
	y.watched = y.watch(nil)
	y.keeper = identity.NewKeeper(identity.Config{
		Clock: y.clock.Now, Wait: y.wait, LookEvery: time.Hour, TendEvery: time.Hour, Log: y.logger,
	})
	y.keeper.Add(y.ra, y.tls, y.watched)
	return y
}

func (y *years) run() {
	y.t.Helper()
	ctx, stop := context.WithCancel(y.t.Context())
	y.stop = stop
	if err := y.keeper.Run(ctx); err != nil {
		y.t.Fatal(err)
	}
}

// A connector that is left alone for three years renews what it owns and warns
// of what it does not own. A device opens its mouth with what it learned long
// ago and is still understood.
func TestThreeYearsAlone(t *testing.T) {
	y := newYears(t)
	url := y.serve(y.ra)
	old := newDevice(t, url, 4)
	y.events = []event{
		{360 * day, func() { y.tlsPair(1) }}, // somebody replaces the watched files
		{490 * day, func() { // renewed by now
			if live := y.ra.Live(); live.Signing.Certificate.Equal(y.fileCertificate(identity.Files{Certificate: y.path("signing.crt.pem")})) {
				t.Error("not renewed after 490 days")
			}
			if err := old.enrol(t.Context()); err != nil {
				t.Errorf("a device that knows the pair of the first day: %v", err)
			}
		}},
		{720 * day, func() { y.tlsPair(2) }}, // and nobody does so in the third year
	}
	y.run()
	if y.unserved["ra"] != 0 || y.unserved["tls"] != 0 {
		t.Errorf("hours without: %v", y.unserved)
	}
	for what, want := range map[string]int{"ra-signing": 3, "ra-encryption": 3, "tls": 5, "watched": 3} {
		if y.renewed[what] != want {
			t.Errorf("%d certificates of %s in three years, want %d", y.renewed[what], what, want)
		}
	}
	for _, e := range y.log.All() {
		if kind := e.ContextMap()["kind"]; (e.Message == "own certificate ends soon" || e.Message == "own certificate has expired") && e.ContextMap()["source"] != y.path("tls.crt.pem") {
			t.Errorf("warned of %v, which is renewed: %s", kind, e.Message)
		}
	}
}

// The CA is down for so long that everything expires, and comes back: there
// were warnings from the first day on, nothing expired was ever served, and
// everything is well within a day.
func TestTheCAIsDownForMonths(t *testing.T) {
	y := newYears(t)
	var warnings int
	y.events = []event{
		{200 * day, func() { y.ca.set(ca.ErrUnavailable) }},
		{330 * day, func() {
			if y.log.FilterMessage("own certificate needs attention").Len() == 0 {
				t.Error("nobody was told that the CA is down")
			}
			warnings = y.log.FilterMessage("own certificate ends soon").Len()
		}},
		{396 * day, func() {
			if y.log.FilterMessage("own certificate ends soon").Len() <= warnings {
				t.Error("no warning of the end of the TLS certificate")
			}
		}},
		{760 * day, func() {
			if y.ra.Live() != nil {
				t.Error("the CA was down for 560 days and the RA is live")
			}
			if y.log.FilterMessage("own certificate has expired").Len() == 0 {
				t.Error("no error about what expired")
			}
			y.ca.set(nil)
		}},
		{761*day + 12*time.Hour, func() {
			if y.ra.Expired() != nil {
				t.Errorf("a day after the CA came back: %v", y.ra.Expired())
			}
			if _, err := y.tls.GetCertificate(nil); err != nil {
				t.Errorf("a day after the CA came back: %v", err)
			}
		}},
	}
	y.run()
	if got := y.unserved["ra"]; got < 29*24 || got > 32*24 {
		t.Errorf("%d hours without an RA, want the thirty days from its end to the CA's return", got)
	}
	if len(y.keeper.Problems()) != 1 { // the watched files, which nobody replaced
		t.Errorf("problems at the end: %+v", y.keeper.Problems())
	}
}

// The CA is renewed with another key in the middle; then its road is down for
// two months just when certificates are due.
func TestThreeYearsWithANewCAAndAnOutage(t *testing.T) {
	y := newYears(t)
	url := y.serve(y.ra)
	var before *scep.RA
	var late *device
	y.events = []event{
		{250 * day, func() { y.ca.set(ca.ErrUnavailable) }},
		{310 * day, func() { y.ca.set(nil) }},
		{400 * day, func() {
			before, late = y.ra.Live(), newDevice(t, url, 5)
			y.ca.renew(10*365*day, "Issuing CA 2")
		}},
		{402 * day, func() {
			live := y.ra.Live()
			if live.Chain[0].Subject.CommonName != "Issuing CA 2" || live.Signing.Certificate.Issuer.CommonName != "Issuing CA 2" {
				t.Error("the RA did not follow the CA within two days")
			}
			if live == before {
				t.Error("nothing was renewed")
			}
			if err := late.enrol(t.Context()); err != nil {
				t.Errorf("a device that knows the pair under the old CA: %v", err)
			}
		}},
	}
	y.run()
	if y.unserved["ra"]+y.unserved["tls"] != 0 {
		t.Errorf("hours without: %v", y.unserved)
	}
}
