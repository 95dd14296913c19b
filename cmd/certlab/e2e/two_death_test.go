//go:build e2e

package e2e

import (
	"testing"

	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/intune/intunetest"
	"github.com/certconnector/certconnector/scep"
)

// TestTwoConnectors has certmonger enrol and renew at the connector with the
// CA, which asks the one with the Intune credential. A challenge that was used
// is refused.
func TestTwoConnectors(t *testing.T) {
	w := newWorldOf(t, true)
	w.start()
	w.certmongerProfile()
	w.certmongerRun(w.record(), intunePath, func() string {
		return w.challenge(intunetest.Ask{Profile: "certmonger", Device: matrixDevice}).Challenge
	})
}

// deathsOfTwo are the places in the path of one enrolment through two
// connectors. The front end tells again whatever it does not know to be taken;
// the registration point knows what it settled, and so the cloud hears twice
// only of what was taken and not settled.
var deathsOfTwo = []struct {
	at     string
	behind bool // the registration point dies, not the front end
	twice  bool // the cloud may be told twice
}{
	{at: "enroll.2.asked"}, {at: "enroll.3.begun"}, {at: "enroll.4.submitted"}, {at: "enroll.4.issued"},
	{at: "enroll.5.recorded"}, {at: "enroll.6.told"}, {at: "enroll.7.answer"},
	{at: "crphttp.asked", behind: true}, {at: "crphttp.granted-recorded", behind: true},
	{at: "crphttp.notified", behind: true, twice: true}, {at: "crphttp.settled", behind: true},
}

// TestTwoConnectorsDie kills one of the two at each step, starts it again and
// has the device repeat its message: one certificate, of which the cloud knows.
func TestTwoConnectorsDie(t *testing.T) {
	for _, d := range deathsOfTwo {
		t.Run(d.at, func(t *testing.T) {
			w := newWorldOf(t, true)
			key := testkeys.RSA2048(4)
			failpoint := "CERTCONNECTOR_FAILPOINT=" + d.at
			await := w.awaitDeath
			if d.behind {
				await = w.back.awaitDeath
				w.back.kill()
				w.back.start(built.failpoint, failpoint)
				w.start()
			} else {
				w.startAs(built.failpoint, []string{failpoint})
			}
			device, tx := w.prepare("windows", intunePath, key)
			answered := make(chan error, 1)
			go func() {
				_, err := device.Send(t.Context(), tx.Message)
				answered <- err
			}()
			await()
			w.resume()
			// Behind a front end that lives, the device may not even notice.
			if err := <-answered; err == nil && !d.behind {
				t.Fatal("the connector answered instead of dying")
			}
			cert := w.mustIssue(until(t, device, tx.Message, scep.Success), key)
			if again := send(t, device, tx.Message); serialText(again.Certificate) != serialText(cert) {
				t.Error("the device got two certificates")
			}
			if list := w.certificates(); len(list) != 1 {
				t.Errorf("the CA issued %d certificates, want one", len(list))
			}
			w.reconcile(map[string]string{tx.Message.TransactionID: serialText(cert)}, d.twice)
		})
	}
}

// TestRegistrationPointGone has the registration point die between the
// certificate and its report: nothing leaves until the cloud was told.
func TestRegistrationPointGone(t *testing.T) {
	const at = "enroll.5.recorded"
	w := newWorldOf(t, true)
	w.startAs(built.failpoint, []string{"CERTCONNECTOR_FAILPOINT=" + at})
	key := testkeys.RSA2048(4)
	device, tx := w.prepare("windows", soonPath, key)
	if r, err := device.Send(t.Context(), tx.Message); err == nil {
		t.Fatalf("the connector answered %s instead of dying", describe(r))
	}
	w.awaitDeath()
	w.back.kill()
	w.start()
	if r := send(t, device, tx.Message); r.Status != scep.Pending {
		t.Errorf("without its registration point the connector answers %s", describe(r))
	}
	if list := w.certificates(); len(list) != 1 || len(w.cloud.Notifications()) != 0 {
		t.Fatalf("%d certificates and %d notifications, want one that nobody was told of", len(list), len(w.cloud.Notifications()))
	}
	w.resume()
	cert := w.mustIssue(until(t, device, tx.Message, scep.Success), key)
	w.reconcile(map[string]string{tx.Message.TransactionID: serialText(cert)}, false)
	w.exactlyOne(serialText(cert))
}
