//go:build e2e

package e2e

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"testing"
	"time"

	"github.com/certconnector/certconnector/intune/intunetest"
	"github.com/certconnector/certconnector/scep"
	"github.com/certconnector/certconnector/scep/scepclient"
)

// device is an emulated device that is not patient: it never polls by itself.
func (w *world) device(platform, path string) *scepclient.Client {
	w.t.Helper()
	q, err := scepclient.Platform(platform)
	if err != nil {
		w.t.Fatal(err)
	}
	q.Retries = 0
	return &scepclient.Client{URL: w.url(path), Quirks: q}
}

// challenge has the cloud make a challenge.
func (w *world) challenge(ask intunetest.Ask) intunetest.Challenge {
	w.t.Helper()
	ch, err := w.cloud.Challenge(ask)
	if err != nil {
		w.t.Fatal(err)
	}
	w.secret(ch.Challenge)
	return ch
}

// managed is the platform whose profile a device gets: the simulated tenant has
// no Linux.
func managed(platform string) string {
	if platform == "linux" {
		return "windows"
	}
	return platform
}

// csr makes the request that belongs to a challenge.
func (w *world) csr(ch intunetest.Challenge, key *rsa.PrivateKey) []byte {
	w.t.Helper()
	der, err := ch.CSR(key)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.secretCSR(der)
}

// prepare builds the message of an emulated device for a fresh challenge.
func (w *world) prepare(platform, path string, key *rsa.PrivateKey) (*scepclient.Client, *scepclient.Transaction) {
	w.t.Helper()
	d := w.device(platform, path)
	t, err := d.Prepare(w.t.Context(), scepclient.EnrollRequest{
		Key: key, DER: w.csr(w.challenge(intunetest.Ask{Platform: managed(platform)}), key),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return d, t
}

// staticCSR is a request for the static endpoints.
func (w *world) staticCSR(name string, key *rsa.PrivateKey, challenge string) []byte {
	w.t.Helper()
	csr := scepclient.CSR{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{name + ".example.test"}, Challenge: secretText(challenge),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
	}
	der, err := csr.Encode(key)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.secretCSR(der)
}

// send sends a message once more and wants an answer that is a CertRep.
func send(t *testing.T, d *scepclient.Client, m *scepclient.Message) *scepclient.Reply {
	t.Helper()
	r, err := d.Send(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// until repeats a device's message until the answer has a status.
func until(t *testing.T, d *scepclient.Client, m *scepclient.Message, want scep.Status) *scepclient.Reply {
	t.Helper()
	var last string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		r, err := d.Send(ctx, m)
		cancel()
		if err == nil && r.Status == want {
			return r
		}
		if last = fmt.Sprint(err); err == nil {
			last = describe(r)
		}
		if err == nil && r.Status != scep.Pending {
			break
		}
	}
	t.Fatalf("the answer never was %v, at last %s", want, last)
	return nil
}

func describe(r *scepclient.Reply) string {
	if r.Status == scep.Failure {
		return fmt.Sprintf("FAILURE %v (%s)", r.FailInfo, r.FailInfoText)
	}
	return fmt.Sprint(r.Status)
}

// mustIssue wants a certificate that chains to the CA and is for the key.
func (w *world) mustIssue(r *scepclient.Reply, key *rsa.PrivateKey) *x509.Certificate {
	w.t.Helper()
	if r.Status != scep.Success {
		w.t.Fatalf("no certificate: %s", describe(r))
	}
	w.checkCertificate(r.Certificate, key)
	return r.Certificate
}

func (w *world) checkCertificate(cert *x509.Certificate, key *rsa.PrivateKey) {
	w.t.Helper()
	if err := cert.CheckSignatureFrom(w.root); err != nil {
		w.t.Errorf("not issued by the CA: %v", err)
	}
	if key != nil && !key.PublicKey.Equal(cert.PublicKey) {
		w.t.Error("the certificate is for another key")
	}
	lint(w.t, cert)
}

// mustRefuse wants a signed FAILURE.
func mustRefuse(t *testing.T, r *scepclient.Reply, want scep.FailInfo) {
	t.Helper()
	if r.Status != scep.Failure || r.FailInfo != want {
		t.Fatalf("the answer is %s, want FAILURE %v", describe(r), want)
	}
}
