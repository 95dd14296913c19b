//go:build e2e

package e2e

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/intune/intunetest"
	"github.com/certconnector/certconnector/scep"
	"github.com/certconnector/certconnector/scep/scepclient"
)

// newToken is "certconnector challenge new" for a name below corp.example.
func (b *besieged) newToken(name string) string {
	b.t.Helper()
	out, err := b.command("challenge", "new", "--endpoint", "token", "--subject", "CN="+name+".corp.example", "--san", "dns:"+name+".corp.example")
	if err != nil {
		b.t.Fatal(err)
	}
	return b.secret(strings.TrimSpace(out))
}

// reuse uses a challenge again that has given its certificate.
func (b *besieged) reuse(t *testing.T) {
	for _, e := range []struct {
		name, path, challenge string
		otherNames            string // the rule of a request for other names
	}{
		{"one-time password", onetimePath, b.password("jamf"), "challenge_used"},
		{"signed challenge", tokenPath, b.newToken("watch"), "token_subject"},
	} {
		t.Run("P3 "+e.name, func(t *testing.T) {
			defer b.during(t)()
			first := b.enrol(0, b.request("watch", e.challenge))
			first.TransactionID = rand.Text()
			cert := b.get(e.path, first)
			b.repel(e.path, b.enrol(1, b.request("watch", e.challenge)), scep.BadRequest, "challenge_used")
			b.repel(e.path, b.enrol(0, b.request("other", e.challenge)), scep.BadRequest, e.otherNames)
			// The same key with another key's signer: the proof does not fit.
			der, err := first.CSR.Encode(testkeys.RSA2048(0))
			if err != nil {
				t.Fatal(err)
			}
			thief := scepclient.EnrollRequest{Key: testkeys.RSA2048(1), DER: der}
			b.repel(e.path, thief, scep.BadMessageCheck, "key_proof")
			// The device itself, whose answer was lost, and one that signs anew.
			before := len(b.certificates())
			reply, _ := b.try(e.path, first)
			if again := b.mustIssue(reply, first.Key); !again.Equal(cert) {
				t.Error("the device got another certificate for the same request")
			}
			anew := b.enrol(0, b.request("watch", e.challenge, func(c *scepclient.CSR) { c.KeyUsage = x509.KeyUsageDigitalSignature }))
			reply, _ = b.try(e.path, anew)
			if again := b.mustIssue(reply, anew.Key); !again.Equal(cert) {
				t.Error("the device got another certificate for the same key and names")
			}
			if n := len(b.certificates()) - before; n != 0 {
				t.Errorf("%d more certificates for one challenge", n)
			}
		})
	}
	t.Run("P3 challenge of Intune", func(t *testing.T) {
		defer b.during(t)()
		ch := b.challenge(intunetest.Ask{Platform: "ios"})
		first := testkeys.RSA2048(2)
		b.get(intunePath, scepclient.EnrollRequest{Key: first, DER: b.csr(ch, first)})
		key := testkeys.RSA2048(3)
		der := b.csr(ch, key)
		b.repel(intunePath, scepclient.EnrollRequest{Key: key, DER: der}, scep.BadRequest, "challenge_used")
		b.heard(der, 0) // a failure after the success would contradict it
		// Nor is it good once at each endpoint of the tenant.
		b.repel(shortPath, scepclient.EnrollRequest{Key: key, DER: der}, scep.BadRequest, "challenge_used")
		b.repel(shortPath, scepclient.EnrollRequest{Key: first, DER: b.csr(ch, first)}, scep.BadRequest, "challenge_used")
	})
}

// crowd uses one challenge with 64 keys at once.
func (b *besieged) crowd(t *testing.T) {
	keys := manyKeys(t, crowd)
	for _, e := range []struct{ name, path, challenge string }{
		{"one-time password", onetimePath, b.password("jamf")},
		{"signed challenge", tokenPath, b.newToken("crowd")},
	} {
		t.Run("P3 "+e.name, func(t *testing.T) {
			defer b.during(t)()
			before := len(b.certificates())
			d := &scepclient.Client{URL: b.url(e.path)}
			service, err := d.Discover(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			prefix := rand.Text()
			var messages []*scepclient.Message
			for i, key := range keys {
				tx, err := d.Prepare(t.Context(), scepclient.EnrollRequest{
					Key: key, CSR: b.request("crowd", e.challenge), Service: service, TransactionID: fmt.Sprint(prefix, "-", i),
				})
				if err != nil {
					t.Fatal(err)
				}
				messages = append(messages, tx.Message)
			}
			got := b.sendAtOnce(d, messages)
			if len(got) != 1 {
				t.Fatalf("%d certificates for one challenge", len(got))
			}
			if n := len(b.certificates()) - before; n != 1 {
				t.Errorf("the CA issued %d certificates", n)
			}
			used := 0
			for _, event := range b.trace("") {
				if strings.HasPrefix(event.TransactionID, prefix) && event.Rule == "challenge_used" {
					used++
				}
			}
			if used != len(keys)-1 {
				t.Errorf("the trace tells of %d that came too late, want %d", used, len(keys)-1)
			}
		})
	}
}

// sendAtOnce returns the certificates that come of it; whatever is refused is
// badRequest.
func (b *besieged) sendAtOnce(d *scepclient.Client, messages []*scepclient.Message) []*x509.Certificate {
	var mu sync.Mutex
	var got []*x509.Certificate
	var all sync.WaitGroup
	for _, m := range messages {
		all.Go(func() {
			r, err := patiently(b.t, d, m)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				b.t.Error(err)
			case r.Status == scep.Success:
				got = append(got, r.Certificate)
			case r.Status != scep.Failure || r.FailInfo != scep.BadRequest:
				b.t.Errorf("the answer is %s", describe(r))
			}
		})
	}
	all.Wait()
	return got
}

// renew tries with every certificate but a good one, and with a good one for
// other names (P10).
func (b *besieged) renew(t *testing.T) {
	key, other := testkeys.RSA2048(4), testkeys.RSA2048(5)
	old := b.get(fencedPath, b.enrol(4, b.request("laptop", b.static)))
	caKey := readKey(t, b.path("ca/ca.key.pem"))
	like := func(change func(*x509.Certificate), parent *x509.Certificate, signer any) []byte {
		template := &x509.Certificate{
			SerialNumber: old.SerialNumber, RawSubject: old.RawSubject, DNSNames: old.DNSNames, KeyUsage: old.KeyUsage,
			NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
		}
		change(template)
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	nothing := func(*x509.Certificate) {}
	renewal := func(certificate []byte, k *rsa.PrivateKey, csr scepclient.CSR) scepclient.EnrollRequest {
		return scepclient.EnrollRequest{Key: other, CSR: csr, Renew: &scepclient.Identity{Certificate: certificate, Key: k}}
	}
	same := b.request("laptop", "")
	foreign := &x509.Certificate{RawSubject: b.root.RawSubject, SubjectKeyId: b.root.SubjectKeyId}
	for _, a := range []struct {
		name        string
		path        string
		certificate []byte
		csr         scepclient.CSR
		info        scep.FailInfo
		rule        string
	}{
		{"by a certificate of another CA with our CA's name", fencedPath, like(nothing, foreign, testkeys.P256(1)), same, scep.BadCertID, "renewal_signer"},
		{"by an expired certificate", fencedPath, like(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) }, b.root, caKey), same, scep.BadCertID, "renewal_signer"},
		{"by a certificate that the CA does not know", fencedPath, like(func(c *x509.Certificate) { c.SerialNumber = b.root.SerialNumber }, b.root, caKey), same, scep.BadCertID, "renewal_signer"},
		{"for another subject", fencedPath, old.Raw, b.request("laptop", "", commonName("server.corp.example")), scep.BadRequest, "renewal_names"},
		{"for another letter case", fencedPath, old.Raw, b.request("laptop", "", commonName("LAPTOP.corp.example")), scep.BadRequest, "renewal_names"},
		{"for one more name", fencedPath, old.Raw, b.request("laptop", "", dnsNames("laptop.corp.example", "dc1.corp.example")), scep.BadRequest, "renewal_names"},
		{"for no alternative name", fencedPath, old.Raw, b.request("laptop", "", dnsNames()), scep.BadRequest, "renewal_names"},
		{"by a certificate of a sibling endpoint", staticPath, old.Raw, same, scep.BadCertID, "renewal_signer"},
		{"where Intune decides", intunePath, old.Raw, same, scep.BadRequest, "renewal_signer"},
	} {
		t.Run("P10 "+a.name, func(t *testing.T) {
			defer b.during(t)()
			b.repel(a.path, renewal(a.certificate, key, a.csr), a.info, a.rule)
		})
	}
	t.Run("P10 by a certificate of one's own", func(t *testing.T) {
		defer b.during(t)()
		self, err := scepclient.SelfSigned(key, old.RawSubject, scepclient.Quirks{})
		if err != nil {
			t.Fatal(err)
		}
		b.repel(fencedPath, renewal(self.Certificate, key, same), scep.BadMessageCheck, "key_proof")
		own := renewal(self.Certificate, key, same)
		own.Key = key
		b.repel(fencedPath, own, scep.BadCertID, "renewal_signer")
	})
	t.Run("P10 by a revoked certificate", func(t *testing.T) {
		defer b.during(t)()
		b.get(fencedPath, renewal(old.Raw, key, same)) // until now it would do
		if _, err := b.command("revoke", "--ca", caName, serialText(old)); err != nil {
			t.Fatal(err)
		}
		b.repel(fencedPath, renewal(old.Raw, key, same), scep.BadCertID, "renewal_signer")
	})
}
