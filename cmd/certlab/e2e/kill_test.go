//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/scep"
	"github.com/certconnector/certconnector/scep/scepclient"
)

// deaths are the places in the path of one enrolment where the power may fail,
// and what is found afterwards, before any device comes back. A success that
// is recorded lazily together with the next durable step may be found one step
// earlier; what matters is that the end is the same.
var deaths = []struct {
	at       string
	told     bool // the cloud had taken the notification: it may be told twice
	approval bool // needs a parked request
}{
	{at: "enroll.2.asked"}, {at: "enroll.3.begun"}, {at: "enroll.4.submitted"}, {at: "enroll.4.issued"},
	{at: "enroll.4.collected", approval: true}, {at: "enroll.5.recorded"},
	{at: "enroll.6.told", told: true}, {at: "enroll.7.answer"},
}

// TestDeathAtEachStep kills the connector at each numbered step, starts it
// again and has the device repeat its message: exactly one certificate, and
// never one that the cloud does not know of.
func TestDeathAtEachStep(t *testing.T) {
	for _, d := range deaths {
		t.Run(d.at, func(t *testing.T) {
			w := newWorld(t)
			if d.approval {
				w.dieApproved(d.at)
				return
			}
			w.startAs(built.failpoint, []string{"CERTCONNECTOR_FAILPOINT=" + d.at})
			key := testkeys.RSA2048(4)
			device, tx := w.prepare("windows", intunePath, key)
			if r, err := device.Send(t.Context(), tx.Message); err == nil {
				t.Fatalf("the connector answered %s instead of dying", describe(r))
			}
			w.awaitDeath()
			w.start()
			cert := w.mustIssue(until(t, device, tx.Message, scep.Success), key)
			if again := send(t, device, tx.Message); serialText(again.Certificate) != serialText(cert) {
				t.Error("the device got two certificates")
			}
			w.reconcile(map[string]string{tx.Message.TransactionID: serialText(cert)}, d.told)
		})
	}
}

// TestDeathWithoutCloud does the same where nobody needs to be told, so that
// fewer steps are on disk of their own.
func TestDeathWithoutCloud(t *testing.T) {
	for _, at := range []string{"enroll.2.asked", "enroll.3.begun", "enroll.4.submitted", "enroll.4.issued", "enroll.5.recorded", "enroll.7.answer"} {
		t.Run(at, func(t *testing.T) {
			w := newWorld(t)
			w.startAs(built.failpoint, []string{"CERTCONNECTOR_FAILPOINT=" + at})
			key := testkeys.RSA2048(6)
			device := w.device("android", staticPath)
			tx, err := device.Prepare(t.Context(), scepclient.EnrollRequest{Key: key, DER: w.staticCSR("mortal", key, w.static)})
			if err != nil {
				t.Fatal(err)
			}
			if r, err := device.Send(t.Context(), tx.Message); err == nil {
				t.Fatalf("the connector answered %s instead of dying", describe(r))
			}
			w.awaitDeath()
			w.start()
			cert := w.mustIssue(until(t, device, tx.Message, scep.Success), key)
			if list := w.certificates(); len(list) != 1 || list[0].serial != serialText(cert) {
				t.Errorf("the CA has %d certificates, want the device's alone", len(list))
			}
			w.reconcile(nil, false)
		})
	}
}

// dieApproved parks a request and kills the connector when it collects what a
// person approved.
func (w *world) dieApproved(at string) {
	t := w.t
	w.startAs(built.failpoint, []string{"CERTCONNECTOR_FAILPOINT=" + at})
	key := testkeys.RSA2048(5)
	device := w.device("windows", approvalPath)
	tx, err := device.Prepare(t.Context(), scepclient.EnrollRequest{Key: key, DER: w.staticCSR("parked", key, w.static)})
	if err != nil {
		t.Fatal(err)
	}
	if r := send(t, device, tx.Message); r.Status != scep.Pending {
		t.Fatalf("the request was not parked: %s", describe(r))
	}
	if n := len(w.certificates()); n != 0 {
		t.Fatalf("the CA issued %d certificates before anyone approved", n)
	}
	// The answer may be lost with the process.
	_, _ = w.command("requests", "approve", w.awaitRequest("approval", "parked").ID)
	w.awaitDeath()
	w.start()
	cert := w.mustIssue(until(t, device, tx.Message, scep.Success), key)
	if list := w.certificates(); len(list) != 1 || list[0].serial != serialText(cert) {
		t.Errorf("the CA has %d certificates, want one", len(list))
	}
}

// reconcile compares what devices have, what the CA issued, what the journal
// knows and what the cloud was told, after all is settled. delivered is by
// transaction ID.
func (w *world) reconcile(delivered map[string]string, mayRepeat bool) {
	w.t.Helper()
	entries := w.entries()
	known, perChallenge := map[string]entry{}, map[string]int{}
	for _, e := range entries {
		if e.serial != "" {
			if other, twice := known[e.serial]; twice {
				w.t.Errorf("serial %s belongs to entries %d and %d", e.serial, other.id, e.id)
			}
			known[e.serial] = e
		}
		if e.challenge != "" && e.state == stateReleased {
			if perChallenge[e.challenge]++; perChallenge[e.challenge] > 1 {
				w.t.Errorf("entry %d: a challenge yielded a second certificate", e.id)
			}
		}
	}
	issuedHere := map[string]issued{}
	for _, c := range w.certificates() {
		issuedHere[c.serial] = c
		e, ok := known[c.serial]
		switch {
		case !ok:
			w.t.Errorf("the CA issued %s and the journal does not know it", c.serial)
		case e.state != stateReleased && !c.revoked:
			w.t.Errorf("certificate %s of entry %d is neither released nor revoked (state %d)", c.serial, e.id, e.state)
		}
	}
	told, ends := map[string]int{}, map[[2]string]string{}
	for _, n := range w.cloud.Notifications() {
		request, end := [2]string{n.TransactionID, n.CSRHash}, fmt.Sprint(n.Success, n.SerialNumber)
		if before, again := ends[request]; again && before != end {
			w.t.Errorf("the cloud was told two ends of transaction %s: %s, %s", n.TransactionID, before, end)
		}
		ends[request] = end
		if n.Success {
			told[n.SerialNumber]++
		}
	}
	for transaction, serial := range delivered {
		if told[serial] == 0 {
			w.t.Errorf("transaction %s has certificate %s, which the cloud was never told of", transaction, serial)
		}
		if c, ok := issuedHere[serial]; !ok || c.revoked {
			w.t.Errorf("delivered certificate %s is not in the CA's register, or revoked", serial)
		}
	}
	for serial, n := range told {
		if _, ok := issuedHere[serial]; !ok {
			w.t.Errorf("the cloud was told of %s, which the CA does not know", serial)
		}
		if n > 1 && !mayRepeat {
			w.t.Errorf("the cloud was told %d times of %s", n, serial)
		}
	}
}

// TestReleaseHasNoFailpoints looks for their names in what is shipped.
func TestReleaseHasNoFailpoints(t *testing.T) {
	has := func(file, name string) bool {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(string(b), name)
	}
	names := []string{"enroll.reported.begun", "enroll.reported.recorded", "identity.installed", "identity.complete"}
	for _, d := range deaths {
		names = append(names, d.at)
	}
	for _, d := range deathsOfTwo {
		names = append(names, d.at)
	}
	for _, d := range deathsOfRevocations {
		name, _, _ := strings.Cut(d.at, ":")
		names = append(names, name)
	}
	for _, d := range deathsOfIssuance {
		name, _, _ := strings.Cut(d.at, ":")
		names = append(names, name)
	}
	for _, name := range names {
		if has(built.release, name) {
			t.Errorf("the release contains %q", name)
		}
		if !has(built.failpoint, name) {
			t.Errorf("the failpoint build does not contain %q: this test looks for the wrong text", name)
		}
	}
	if has(built.release, "CERTCONNECTOR_FAILPOINT") {
		t.Error("the release reads the failpoint variable")
	}
}

// short is a context for calls that may meet a dead connector.
func short(t *testing.T) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), 5*time.Second)
}
