//go:build e2e

package e2e

import (
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/intune/intunetest"
)

// swan is a folder in which strongSwan's pki works.
type swan struct {
	*world
	dir, url             string
	dn, san              string
	ca, signing, encrypt string // files
}

const (
	swanName = "sw1.example.test"
	swanDN   = "C=CH, O=Probe, CN=sw1"
)

// swan fetches the CA's certificates and tells the RA's two apart by key usage.
func (w *world) swan(url string) *swan {
	w.t.Helper()
	need(w.t, "pki", "strongswan-pki libstrongswan-standard-plugins libstrongswan-extra-plugins")
	s := &swan{world: w, dir: shortDir(w.t), url: url, dn: swanDN, san: swanName}
	must(w.t, s.dir, "pki", "--scepca", "--url", url, "--caout", "ca.pem", "--raout", "ra.pem", "--outform", "pem", "--force")
	found, err := filepath.Glob(s.dir + "/*.pem")
	if err != nil {
		w.t.Fatal(err)
	}
	for _, file := range found {
		cert := readCertificate(w.t, file)
		switch {
		case cert.IsCA:
			s.ca = file
		case cert.KeyUsage&x509.KeyUsageKeyEncipherment != 0:
			s.encrypt = file
		case cert.KeyUsage&x509.KeyUsageDigitalSignature != 0:
			s.signing = file
		}
	}
	if s.ca == "" || s.signing == "" || s.encrypt == "" {
		w.t.Fatalf("pki --scepca found %v", found)
	}
	return s
}

// scep runs pki --scep. Exit code 0 means issued and verified.
func (s *swan) scep(key int, more ...string) (*x509.Certificate, error) {
	s.t.Helper()
	file := writeKey(s.t, fmt.Sprintf("%s/key%d", s.dir, key), testkeys.RSA2048(key))
	args := append([]string{
		"--scep", "--url", s.url, "--in", file, "--dn", s.dn, "--san", s.san,
		"--cacert-enc", s.encrypt, "--cacert-sig", s.signing, "--cacert", s.ca,
		"--interval", "1", "--maxpolltime", "200", "--outform", "pem",
	}, more...)
	o := execute(s.t, s.dir, nil, "pki", args...)
	if o.err != nil {
		return nil, fmt.Errorf("%w: %s", o.err, s.hide(lastLines(o.stderr)))
	}
	cert := parsePEM(s.t, o.stdout)
	s.checkCertificate(cert, testkeys.RSA2048(key))
	return cert, nil
}

// lastLines leaves out what pki says about plugins it did not find.
func lastLines(text string) string { return text[max(0, len(text)-1500):] }

func (s *swan) mustScep(key int, more ...string) *x509.Certificate {
	s.t.Helper()
	cert, err := s.scep(key, more...)
	if err != nil {
		s.t.Fatal(err)
	}
	return cert
}

func (w *world) swanProfile() {
	w.t.Helper()
	err := w.cloud.AddProfile(intunetest.ContosoID, intunetest.Profile{
		Name: "strongswan", Platform: "windows", Subject: "C=CH,O=Probe,CN=sw1", SAN: intunetest.Names{DNS: []string{swanName}}, KeySize: 2048,
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// renewing are the options of a RenewalReq, signed with an old certificate.
func (s *swan) renewing(old *x509.Certificate, key int) []string {
	file := fmt.Sprintf("%s/old-%s", s.dir, serialText(old))
	writeFile(s.t, file, pemOf(old))
	return []string{"--cert", file, "--key", fmt.Sprintf("%s/key%d", s.dir, key)}
}

// TestStrongSwan enrols and renews by RenewalReq; at the Intune endpoint that
// takes a fresh challenge, at the static one the old certificate is enough.
func TestStrongSwan(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.swanProfile()
	for i, e := range []struct{ name, path, digest string }{
		{"intune, SHA-256", intunePath, "sha256"}, {"static, SHA-256", staticPath, "sha256"}, {"intune, SHA-512", intunePath, "sha512"},
	} {
		t.Run(e.name, func(t *testing.T) {
			defer w.during(t)()
			rec := w.record()
			s := w.swan(rec.URL + e.path)
			challenge := func() string {
				if e.path == staticPath {
					return w.static
				}
				return w.challenge(intunetest.Ask{Profile: "strongswan", Device: matrixDevice}).Challenge
			}
			algorithms := []string{"--cipher", "aes", "--digest", e.digest}
			old := s.mustScep(2*i, append(algorithms, "--password", challenge())...)
			renewal := append(algorithms, s.renewing(old, 2*i)...)
			if e.path == staticPath {
				s.mustRenew(old, 2*i+1, renewal)
			} else {
				if _, err := s.scep(2*i+1, renewal...); err == nil {
					t.Error("renewed without asking Intune")
				}
				s.mustRenew(old, 2*i+1, append(renewal, "--password", challenge()))
				w.told()
			}
			for _, x := range rec.operations("PKIOperation") {
				w.checkExchange(x, "aes", e.digest)
			}
		})
	}
}

func (s *swan) mustRenew(old *x509.Certificate, key int, options []string) {
	s.t.Helper()
	if renewed := s.mustScep(key, options...); serialText(renewed) == serialText(old) {
		s.t.Error("the renewal is the old certificate")
	}
}

// TestStrongSwanWrongChallenge is refused and issues nothing.
func TestStrongSwanWrongChallenge(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.swanProfile()
	ch := w.challenge(intunetest.Ask{Profile: "strongswan", Device: matrixDevice, Flaw: intunetest.Forged})
	for path, challenge := range map[string]string{intunePath: ch.Challenge, staticPath: "0123456789abcdef0123"} {
		if _, err := w.swan(w.url(path)).scep(0, "--cipher", "aes", "--digest", "sha256", "--password", challenge); err == nil {
			t.Errorf("%s: a wrong challenge was accepted", path)
		}
	}
	if n := len(w.certificates()); n != 0 {
		t.Errorf("%d certificates were issued", n)
	}
}

// TestStrongSwanPolls has a person approve a parked request while pki polls
// with CertPoll.
func TestStrongSwanPolls(t *testing.T) {
	w := newWorld(t)
	w.start()
	rec := w.record()
	s := w.swan(rec.URL + approvalPath)
	approved := make(chan error, 1)
	go func() {
		for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(300 * time.Millisecond) {
			out, err := w.command("requests", "list", "--state", "parked")
			if err == nil && strings.Contains(out, "approval") && len(rec.operations("PKIOperation")) > 1 { // it has polled in vain
				id, _, _ := strings.Cut(strings.SplitN(out, "\n", 3)[1], " ")
				_, err = w.command("requests", "approve", id)
				approved <- err
				return
			}
		}
		approved <- os.ErrDeadlineExceeded
	}()
	s.mustScep(3, "--cipher", "aes", "--digest", "sha256", "--password", w.static)
	if err := <-approved; err != nil {
		t.Errorf("approving: %v", err)
	}
	if list := w.certificates(); len(list) != 1 {
		t.Errorf("%d certificates for one parked request", len(list))
	}
}
