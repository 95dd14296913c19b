//go:build e2e

package e2e

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"net/http"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/intune/intunetest"
	"github.com/certconnector/certconnector/scep"
	"github.com/certconnector/certconnector/scep/scepclient"
)

const crowd = 64

// TestIdenticalRequests sends one message 64 times at once: one certificate,
// one question and one notification to the cloud.
func TestIdenticalRequests(t *testing.T) {
	w := newWorld(t)
	w.start()
	key := testkeys.RSA2048(3)
	d, tx := w.prepare("windows", intunePath, key)
	replies := make([]*scepclient.Reply, crowd)
	var all sync.WaitGroup
	for i := range replies {
		all.Go(func() {
			m := *tx.Message
			r, err := patiently(t, d, &m)
			if err != nil {
				t.Error(err)
				return
			}
			replies[i] = r
		})
	}
	all.Wait()
	if t.Failed() {
		return
	}
	serial := serialText(w.mustIssue(replies[0], key))
	for i, r := range replies {
		if r.Status != scep.Success || serialText(r.Certificate) != serial {
			t.Errorf("reply %d: %s, want certificate %s", i, describe(r), serial)
		}
	}
	w.exactlyOne(serial)
	if n := w.cloud.Count(intunetest.Validate); n != 1 {
		t.Errorf("the cloud was asked %d times", n)
	}
}

// patiently sends a message, and again as devices do: while the answer is
// PENDING, or HTTP 503 where a slow machine has no turn for so many at once. It
// returns the last answer.
func patiently(t *testing.T, d *scepclient.Client, m *scepclient.Message) (r *scepclient.Reply, err error) {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		r, err = d.Send(t.Context(), m)
		if again := err == nil && r.Status == scep.Pending || err != nil && r != nil && r.HTTPStatus == http.StatusServiceUnavailable; !again {
			break
		}
	}
	return r, err
}

// manyKeys makes keys on all processors.
func manyKeys(t *testing.T, n int) []*rsa.PrivateKey {
	t.Helper()
	keys := make([]*rsa.PrivateKey, n)
	next := make(chan int, n)
	for i := range n {
		next <- i
	}
	close(next)
	var all sync.WaitGroup
	for range runtime.NumCPU() {
		all.Go(func() {
			for i := range next {
				key, err := rsa.GenerateKey(rand.Reader, 2048)
				if err != nil {
					t.Error(err)
					return
				}
				keys[i] = key
			}
		})
	}
	all.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return keys
}

// TestOneChallenge uses one challenge with 64 keys at once: one certificate.
func TestOneChallenge(t *testing.T) {
	w := newWorld(t)
	w.start()
	ch := w.challenge(intunetest.Ask{Platform: "ios"})
	d := w.device("ios", intunePath)
	service, err := d.Discover(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	messages := make([]*scepclient.Message, crowd)
	for i, key := range manyKeys(t, crowd) {
		tx, err := d.Prepare(t.Context(), scepclient.EnrollRequest{Key: key, DER: w.csr(ch, key), Service: service})
		if err != nil {
			t.Fatal(err)
		}
		messages[i] = tx.Message
	}
	var mu sync.Mutex
	var got []*x509.Certificate
	var all sync.WaitGroup
	for _, m := range messages {
		all.Go(func() {
			r, err := patiently(t, d, m)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				t.Error(err)
			case r.Status == scep.Success:
				got = append(got, r.Certificate)
			case r.Status == scep.Pending:
				t.Error("still PENDING")
			}
		})
	}
	all.Wait()
	if len(got) != 1 {
		t.Fatalf("%d certificates for one challenge", len(got))
	}
	w.checkCertificate(got[0], nil)
	w.exactlyOne(serialText(got[0]))
}
