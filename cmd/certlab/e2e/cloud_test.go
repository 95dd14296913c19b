//go:build e2e

package e2e

import (
	"sync"
	"testing"

	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/intune/intunetest"
	"github.com/certconnector/certconnector/scep"
	"github.com/certconnector/certconnector/scep/scepclient"
)

// TestRefusedToken renews a token once when the cloud takes it no more, and
// the device notices nothing. (Within the next minute a token is not dropped
// again: a service that refuses every token must not make us hammer Entra.)
func TestRefusedToken(t *testing.T) {
	for _, at := range []intunetest.Endpoint{intunetest.Validate, intunetest.Success} {
		t.Run(string(at), func(t *testing.T) {
			w := newWorld(t)
			w.start()
			w.enrolOne(0)
			tokens, calls := w.cloud.Count(intunetest.Token), w.cloud.Count(at)
			w.cloud.Fail(at, 1, intunetest.Fault{Status: 401})
			w.enrolOne(1)
			if n := w.cloud.Count(at) - calls; n != 2 {
				t.Errorf("called %d times, want once and once more", n)
			}
			if n := w.cloud.Count(intunetest.Token) - tokens; n != 1 {
				t.Errorf("%d new tokens, want one", n)
			}
		})
	}
}

func (w *world) enrolOne(i int) {
	w.t.Helper()
	key := testkeys.RSA2048(i)
	d, tx := w.prepare("windows", intunePath, key)
	w.mustIssue(send(w.t, d, tx.Message), key)
}

// TestOneSignIn has 100 devices come at once to a connector that has no token
// yet: it signs in once for each service and asks once where they are.
func TestOneSignIn(t *testing.T) {
	w := newWorld(t)
	w.start()
	const devices = 100
	d := w.device("windows", intunePath)
	service, err := d.Discover(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	messages := make([]*scepclient.Message, devices)
	for i := range messages {
		key := testkeys.RSA2048(i % 8)
		tx, err := d.Prepare(t.Context(), scepclient.EnrollRequest{
			Key: key, DER: w.csr(w.challenge(intunetest.Ask{Platform: "windows"}), key), Service: service,
		})
		if err != nil {
			t.Fatal(err)
		}
		messages[i] = tx.Message
	}
	var all sync.WaitGroup
	for _, m := range messages {
		all.Go(func() {
			if r, err := patiently(t, d, m); err != nil || r.Status != scep.Success {
				t.Errorf("no certificate: %v", err)
			}
		})
	}
	all.Wait()
	if n := w.cloud.Count(intunetest.Token); n > 2 { // Graph, Intune
		t.Errorf("%d sign-ins", n)
	}
	if n := w.cloud.Count(intunetest.Discovery); n != 1 {
		t.Errorf("the service list was asked for %d times", n)
	}
	if n := len(w.certificates()); n != devices {
		t.Errorf("%d certificates for %d devices", n, devices)
	}
	w.told()
}

// TestUnreachableCloud stores and issues nothing while nobody can vouch; when
// the cloud is back, the same message is enough.
func TestUnreachableCloud(t *testing.T) {
	w := newWorld(t)
	w.start()
	key := testkeys.RSA2048(2)
	d, tx := w.prepare("ios", intunePath, key)
	w.cloud.SetOutage(true)
	if r, err := d.Send(t.Context(), tx.Message); err == nil || r == nil || r.HTTPStatus != 503 {
		t.Errorf("while the cloud is out the device gets %v, want HTTP 503", err)
	} else if r.RetryAfter == 0 {
		t.Error("503 says no Retry-After")
	}
	if n := len(w.entries()); n != 0 {
		t.Errorf("%d requests are stored", n)
	}
	w.cloud.SetOutage(false)
	w.mustIssue(send(t, d, tx.Message), key)
}
