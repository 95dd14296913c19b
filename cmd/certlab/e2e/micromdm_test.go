//go:build e2e

package e2e

import (
	"crypto/x509"
	"encoding/pem"
	"testing"

	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/intune/intunetest"
)

func pemOf(cert *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
}

// TestSingleDESIsRefused runs micromdm's scepclient as it is, which encrypts
// with single DES whatever is offered: a signed answer, badAlg, and neither
// cloud nor CA hears of it.
func TestSingleDESIsRefused(t *testing.T) {
	w := newWorld(t)
	w.start()
	for path, challenge := range map[string]string{
		staticPath: w.static, intunePath: w.challenge(intunetest.Ask{Platform: "windows"}).Challenge,
	} {
		rec := w.record()
		dir := shortDir(t)
		o := execute(t, dir, nil, built.micromdm, "-server-url", rec.URL+path, "-private-key", writeKey(t, dir+"/k.pem", testkeys.RSA2048(0)),
			"-certificate", dir+"/c.pem", "-challenge", challenge, "-cn", "mmc1", "-key-encipherment-selector")
		if o.err == nil {
			t.Errorf("%s: single DES was accepted", path)
		}
		answers := rec.operations("PKIOperation")
		if len(answers) != 1 || answers[0].status != 200 {
			t.Fatalf("%s: %d answers, want one with HTTP 200\n%s", path, len(answers), w.hide(o.stderr))
		}
		// failInfo badAlg is "0" (RFC 8894, section 3.2.1.4).
		w.checkSigned(dir, "reply", answers[0].answer, "sha")
		wantAttribute(t, dir+"/reply.der", "2.16.840.1.113733.1.9.3", "2")
		wantAttribute(t, dir+"/reply.der", "2.16.840.1.113733.1.9.4", "0")
	}
	if n := len(w.entries()); n != 0 {
		t.Errorf("%d requests in the journal", n)
	}
	if n := len(w.certificates()); n != 0 {
		t.Errorf("the CA issued %d certificates", n)
	}
	if n := w.cloud.Count(intunetest.Validate); n != 0 {
		t.Errorf("the cloud was asked %d times", n)
	}
}

// TestMicromdmInAES enrols and renews with the same code in AES. Its digest is
// always SHA-1, which takes an endpoint with legacy_sha1.
func TestMicromdmInAES(t *testing.T) {
	w := newWorld(t)
	w.start()
	err := w.cloud.AddProfile(intunetest.ContosoID, intunetest.Profile{
		Name: "micromdm", Platform: "windows", Subject: "CN=mmc1", SAN: intunetest.Names{DNS: []string{"mmc1.example.test"}}, KeySize: 2048,
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct{ name, path, cipher string }{
		{"intune, AES-128", legacyPath, "aes128"}, {"intune, AES-256", legacyPath, "aes256"}, {"static, AES-128", oldPath, "aes128"},
	} {
		t.Run(c.name, func(t *testing.T) {
			defer w.during(t)()
			rec := w.record()
			dir := shortDir(t)
			challenge := func() string {
				if c.path == oldPath {
					return w.static
				}
				return w.challenge(intunetest.Ask{Profile: "micromdm", Device: matrixDevice}).Challenge
			}
			oldKey, newKey := testkeys.RSA2048(2*i), testkeys.RSA2048(2*i+1)
			writeKey(t, dir+"/old.key", oldKey)
			writeKey(t, dir+"/new.key", newKey)
			common := []string{"-url", rec.URL + c.path, "-key", "old.key", "-cn", "mmc1", "-dns", "mmc1.example.test", "-cipher", c.cipher}
			must(t, dir, built.aes, append(common, "-out", "old.pem", "-challenge", challenge())...)
			old := readCertificate(t, dir+"/old.pem")
			w.checkCertificate(old, oldKey)

			renewal := append(common, "-out", "new.pem", "-cert", "old.pem", "-newkey", "new.key")
			if c.path == legacyPath {
				if o := execute(t, dir, nil, built.aes, renewal...); o.err == nil {
					t.Error("renewed without asking Intune")
				}
				renewal = append(renewal, "-challenge", challenge())
			}
			must(t, dir, built.aes, renewal...)
			renewed := readCertificate(t, dir+"/new.pem")
			w.checkCertificate(renewed, newKey)
			if serialText(renewed) == serialText(old) {
				t.Error("the renewal is the old certificate")
			}
			for _, x := range rec.operations("PKIOperation") {
				w.checkExchange(x, "aes", "sha1")
			}
		})
	}
	w.told()
}
