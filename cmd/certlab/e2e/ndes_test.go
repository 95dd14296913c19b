//go:build e2e

package e2e

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"testing"

	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/intune/intunetest"
	"github.com/certconnector/certconnector/scep/scepclient"
)

// ndes plays Microsoft's NDES with our policy module: it asks the registration
// point, takes a certificate from the CA, gives it to the device whatever the
// answer to its report, and then reports.
type ndes struct {
	*world
	url         string
	transaction string
	csr         []byte
	client      *http.Client
}

// ndes configures a connector, which is started as a binary with an
// environment, as the registration point of an NDES, and has a request granted.
func (w *world) ndes(binary string, env ...string) *ndes {
	w.t.Helper()
	n := &ndes{world: w, transaction: "ndes-1"}
	n.url = w.invite("crp", `
registration_point:
  front_ends:
    - {name: ndes, certificate: {dns_name: `+neighbourName+`}, tenants: [intune], releases_itself: true, ca: `+caName+`}
`) + "/CertificateRegistrationSvc/Certificate/"
	n.client = neighbourClient(w.t, w.neighbours(), true)
	w.startAs(binary, env)
	n.csr = w.csr(w.challenge(intunetest.Ask{Platform: "windows"}), testkeys.RSA2048(0))
	status, answer, err := n.post("VerifyRequest", nil)
	if err != nil || status != http.StatusCreated || answer["verdict"] != "granted" || answer["releasesItself"] != true {
		w.t.Fatalf("a good request gets %d %v, %v", status, answer, err)
	}
	return n
}

// post sends what a method and its certificate say.
func (n *ndes) post(method string, cert *x509.Certificate) (status int, answer map[string]any, err error) {
	n.t.Helper()
	members := map[string]any{"endpoint": "ndes", "transactionId": []byte(n.transaction), "certificateRequest": n.csr}
	if cert != nil {
		members["outcome"], members["certificate"], members["issuingCa"] = "issued", cert.Raw, "ndes"
	}
	body, err := json.Marshal(members) // octets become base64
	if err != nil {
		n.t.Fatal(err)
	}
	resp, err := n.client.Post(n.url+method, "application/json", bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent && resp.StatusCode != http.StatusAccepted {
		if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
			n.t.Fatalf("%s: the answer is no JSON: %v", resp.Status, err)
		}
	}
	return resp.StatusCode, answer, nil
}

// report tells the registration point of a certificate.
func (n *ndes) report(cert *x509.Certificate, want int, rule string) {
	n.t.Helper()
	status, answer, err := n.post("Notify", cert)
	if err != nil || status != want || rule != "" && answer["rule"] != rule {
		n.t.Fatalf("the report gets %d %v, %v; want %d %s", status, answer, err, want, rule)
	}
}

// takeCertificate has the CA issue for the request's key, at the endpoint that asks
// nobody, as the CA behind an NDES would do for the request itself.
func (n *ndes) takeCertificate(name string) *x509.Certificate {
	n.t.Helper()
	key, d := testkeys.RSA2048(0), n.device("windows", staticPath)
	tx, err := d.Prepare(n.t.Context(), scepclient.EnrollRequest{Key: key, DER: n.staticCSR(name, key, n.static)})
	if err != nil {
		n.t.Fatal(err)
	}
	return n.mustIssue(send(n.t, d, tx.Message), key)
}

// awaitTold waits until the cloud has taken a certificate.
func (n *ndes) awaitTold(cert *x509.Certificate) {
	n.t.Helper()
	eventually(n.t, "the cloud knows of the certificate", func() bool {
		list := n.cloud.Notifications()
		return len(list) > 0 && list[len(list)-1].Success && list[len(list)-1].SerialNumber == serialText(cert)
	})
}

// revoked are the serial numbers that the CA has revoked.
func (w *world) revoked() map[string]bool {
	w.t.Helper()
	found := map[string]bool{}
	for _, c := range w.certificates() {
		if c.revoked {
			found[c.serial] = true
		}
	}
	return found
}

// TestNDESFrontEndReleasesItself: such a front end cannot be told to wait, and
// so its reports are kept and repeated, and a certificate that the cloud does
// not want is revoked.
func TestNDESFrontEndReleasesItself(t *testing.T) {
	t.Run("the cloud is told at once, and once", func(t *testing.T) {
		n := newWorldOf(t, false).ndes(built.release)
		cert := n.takeCertificate("phone")
		for range 2 {
			n.report(cert, http.StatusNoContent, "")
		}
		n.exactlyOne(serialText(cert))
	})
	t.Run("while the cloud is out it is recorded, and told after kill -9", func(t *testing.T) {
		n := newWorldOf(t, false).ndes(built.release)
		cert := n.takeCertificate("phone")
		n.cloud.SetOutage(true)
		n.report(cert, http.StatusAccepted, "")
		n.kill()
		n.start()
		if list := n.cloud.Notifications(); len(list) != 0 {
			t.Fatalf("the cloud was told while it was out: %+v", list)
		}
		n.cloud.SetOutage(false)
		n.awaitTold(cert)
		n.report(cert, http.StatusNoContent, "")
		n.exactlyOne(serialText(cert))
	})
	t.Run("what the cloud refuses for good is revoked", func(t *testing.T) {
		n := newWorldOf(t, false).ndes(built.release)
		cert := n.takeCertificate("phone")
		n.cloud.Fail(intunetest.Success, intunetest.Always, intunetest.Fault{Code: "SubjectNameMismatch"})
		n.report(cert, http.StatusConflict, "notify_refused")
		n.mustBeRevoked()
	})
	t.Run("a second certificate for one verdict is revoked, the first is not", func(t *testing.T) {
		n := newWorldOf(t, false).ndes(built.release)
		first, second := n.takeCertificate("phone"), n.takeCertificate("stowaway")
		n.report(first, http.StatusNoContent, "")
		n.report(second, http.StatusConflict, "outcome_differs")
		eventually(t, "the second certificate is revoked", func() bool { return n.revoked()[serialText(second)] })
		if n.revoked()[serialText(first)] {
			t.Error("the first certificate is revoked")
		}
	})
	t.Run("a request that was never granted has no outcome", func(t *testing.T) {
		n := newWorldOf(t, false).ndes(built.release)
		cert := n.takeCertificate("phone")
		n.transaction = "ndes-2"
		n.report(cert, http.StatusForbidden, "notify_without_verdict")
		if len(n.revoked()) != 0 || len(n.cloud.Notifications()) != 0 {
			t.Error("somebody was told, or the certificate is revoked")
		}
	})
}

// TestNDESReportDies kills the registration point at each step of a report.
// From the record on the cloud is told even if the front end never comes
// again; before it, the front end has no answer and comes again.
func TestNDESReportDies(t *testing.T) {
	for _, d := range []struct {
		at       string
		recorded bool
		told     int // at most
	}{
		{at: "enroll.reported.begun", told: 1}, {at: "enroll.reported.recorded", recorded: true, told: 1},
		{at: "enroll.6.told", recorded: true, told: 2}, // the cloud took it, the disk does not know
		{at: "crphttp.notified", recorded: true, told: 1}, {at: "crphttp.settled", recorded: true, told: 1},
	} {
		t.Run(d.at, func(t *testing.T) {
			n := newWorldOf(t, false).ndes(built.failpoint, "CERTCONNECTOR_FAILPOINT="+d.at)
			cert := n.takeCertificate("phone")
			if status, _, err := n.post("Notify", cert); err == nil {
				t.Fatalf("the registration point answered %d instead of dying", status)
			}
			n.awaitDeath()
			n.start()
			if d.recorded {
				n.awaitTold(cert)
			}
			eventually(t, "the report is taken", func() bool {
				status, answer, err := n.post("Notify", cert)
				if err != nil || status != http.StatusNoContent && status != http.StatusAccepted {
					t.Fatalf("the repeated report gets %d %v, %v", status, answer, err)
				}
				return status == http.StatusNoContent
			})
			n.awaitTold(cert)
			if list := n.cloud.Notifications(); len(list) > d.told {
				t.Errorf("the cloud was told %d times", len(list))
			}
			if len(n.revoked()) != 0 {
				t.Error("the certificate is revoked")
			}
		})
	}
}
