//go:build e2e

package e2e

import (
	"testing"

	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/intune/intunetest"
	"github.com/certconnector/certconnector/scep"
)

// TestWithheld holds back every certificate that the cloud has not been told
// of, and does so over a restart.
func TestWithheld(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.cloud.Fail(intunetest.Success, intunetest.Always, intunetest.Fault{Status: 500})
	key := testkeys.RSA2048(0)
	d, tx := w.prepare("windows", soonPath, key)
	first := send(t, d, tx.Message)
	if first.Status != scep.Pending {
		t.Fatalf("while the cloud answers 500 the device gets %s", describe(first))
	}
	for _, again := range []string{"the same PKCSReq", "CertPoll"} {
		r, err := d.Poll(t.Context(), tx)
		if again != "CertPoll" {
			r, err = d.Send(t.Context(), tx.Message)
		}
		if err != nil || r.Status != scep.Pending {
			t.Fatalf("%s: %v, %v", again, r, err)
		}
	}
	w.stop()
	w.start()
	if r := send(t, d, tx.Message); r.Status != scep.Pending {
		t.Fatalf("after a restart the device gets %s", describe(r))
	}
	if n := len(w.cloud.Notifications()); n != 0 {
		t.Fatalf("the cloud took %d notifications", n)
	}
	w.cloud.Heal()
	cert := w.mustIssue(until(t, d, tx.Message, scep.Success), key)
	// The same device, again and by a poll: the same certificate.
	r, err := d.Poll(t.Context(), tx)
	if err != nil {
		t.Fatal(err)
	}
	if r.Status != scep.Success || serialText(r.Certificate) != serialText(cert) {
		t.Error("the poll got another answer than the request")
	}
	if same := w.mustIssue(send(t, d, tx.Message), key); serialText(same) != serialText(cert) {
		t.Error("the repeated request got another certificate")
	}
	w.exactlyOne(serialText(cert))
}

// exactlyOne wants one certificate at the CA and one notification of it.
func (w *world) exactlyOne(serial string) {
	w.t.Helper()
	if list := w.certificates(); len(list) != 1 || list[0].serial != serial || list[0].revoked {
		w.t.Errorf("the CA has %d certificates, want %s alone", len(list), serial)
	}
	if list := w.cloud.Notifications(); len(list) != 1 || !list[0].Success || list[0].SerialNumber != serial {
		w.t.Errorf("the cloud was told %+v, want serial %s once", list, serial)
	}
}

// mustBeRevoked waits until the only certificate is revoked, and looks for it
// in the revocation list that a device gets.
func (w *world) mustBeRevoked() {
	w.t.Helper()
	eventually(w.t, "the certificate is revoked", func() bool {
		list := w.certificates()
		return len(list) == 1 && list[0].revoked
	})
	serial := w.certificates()[0].SerialNumber
	for _, r := range w.crl(staticPath).RevokedCertificateEntries {
		if r.SerialNumber.Cmp(serial) == 0 {
			return
		}
	}
	w.t.Error("the revocation list does not name the certificate")
}

// TestNotificationRefused revokes what the cloud refuses to know of.
func TestNotificationRefused(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.cloud.Fail(intunetest.Success, intunetest.Always, intunetest.Fault{Code: "SubjectNameMismatch"})
	d, tx := w.prepare("ios", intunePath, testkeys.RSA2048(1))
	if r := until(t, d, tx.Message, scep.Failure); r.Certificate != nil {
		t.Error("a certificate came with a failure")
	}
	if r := w.awaitRequest("devices", "failed"); r.Reason == "" {
		t.Error("requests list gives no reason")
	}
	w.mustBeRevoked()
	w.cloud.Heal()
	mustRefuse(t, send(t, d, tx.Message), scep.BadRequest)
	if n := w.cloud.Notifications(); len(n) > 0 && n[0].Success {
		t.Errorf("the cloud was told of a success: %+v", n)
	}
}

// TestWithheldTooLong abandons and revokes a certificate that nobody can wait
// for any more.
func TestWithheldTooLong(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.cloud.Fail(intunetest.Success, intunetest.Always, intunetest.Fault{Status: 500})
	d, tx := w.prepare("android", shortPath, testkeys.RSA2048(2))
	if r := send(t, d, tx.Message); r.Status != scep.Pending {
		t.Fatalf("the device gets %s", describe(r))
	}
	w.awaitRequest("short", "abandoned")
	w.mustBeRevoked()
	w.cloud.Heal()
	mustRefuse(t, send(t, d, tx.Message), scep.BadRequest)
	if n := w.cloud.Notifications(); len(n) != 0 {
		t.Errorf("the cloud was told of an abandoned certificate: %+v", n)
	}
}
