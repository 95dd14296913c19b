//go:build e2e

package e2e

import (
	"crypto/x509/pkix"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/scep"
	"github.com/certconnector/certconnector/scep/scepclient"
)

// swCSR is the request that strongSwan makes, of an emulated device.
func swCSR(challenge string) scepclient.CSR {
	return scepclient.CSR{
		Subject:  pkix.Name{Country: []string{"CH"}, Organization: []string{"Probe"}, CommonName: "sw1"},
		DNSNames: []string{swanName}, Challenge: secretText(challenge),
	}
}

// TestOnetimePasswords has an MDM server fetch passwords from the page that
// looks like NDES', and devices of others enrol with them, once each.
func TestOnetimePasswords(t *testing.T) {
	m := newWorld(t).mdm()
	m.start()
	swan := m.swan(m.world.url(passwordPath))
	for _, step := range []struct {
		name string
		do   func(*testing.T)
	}{
		{"strongSwan enrols, and the password is good once", func(t *testing.T) {
			password := m.password()
			swan.mustScep(0, "--cipher", "aes", "--digest", "sha256", "--password", password)
			if _, err := swan.scep(1, "--cipher", "aes", "--digest", "sha256", "--password", password); err == nil {
				t.Error("one password was good for two certificates")
			}
			m.traced("passwords", "challenge_used")
			m.refused(passwordPath, "passwords", 2, swCSR(password), scep.BadRequest, "challenge_used")
		}},
		{"certmonger enrols with what curl fetched", m.certmongerWithPassword},
		{"a password survives kill -9", func(*testing.T) {
			password := m.password()
			m.kill()
			m.start()
			swan.mustScep(3, "--cipher", "aes", "--digest", "sha256", "--password", password)
		}},
		{"it is good for the names of its principal only, and a refusal spends nothing", func(*testing.T) {
			password := m.password()
			foreign := swCSR(password)
			foreign.Subject.CommonName = "sw2"
			m.refused(passwordPath, "passwords", 4, foreign, scep.BadRequest, "subject_not_allowed")
			m.refused(otherPath, "other", 4, swCSR(password), scep.BadRequest, "onetime_challenge_unknown")
			m.mustIssue(m.ask(passwordPath, 4, swCSR(password)), testkeys.RSA2048(4))
		}},
		{"the operator's command makes one", func(*testing.T) {
			m.mustIssue(m.ask(passwordPath, 5, swCSR(m.newChallenge("passwords"))), testkeys.RSA2048(5))
			if _, err := m.command("challenge", "new", "--endpoint", "passwords", "--subject", "CN=sw1"); err == nil {
				m.t.Error("a password that names a subject was made")
			}
		}},
		{"the page says what NDES says", m.pages},
	} {
		t.Run(step.name, func(t *testing.T) {
			defer m.during(t)()
			step.do(t)
		})
	}
}

// certmongerWithPassword runs certmonger with a password that curl has
// fetched, or our own client where there is no curl.
func (m *mdm) certmongerWithPassword(t *testing.T) {
	fetch := m.password
	if _, err := exec.LookPath("curl"); err == nil {
		fetch = m.curl
	}
	d := shortDir(t)
	out := certmonger(t, d, fmt.Sprintf(`
getcert add-scep-ca -c probe -u %[1]q
known
getcert request -c probe -I req1 -k %[2]s/c.key -f %[2]s/c.crt -N CN=%[3]s -D %[3]s -L %[4]q -G rsa -g 2048 -w --wait-timeout 200
getcert list -i req1
`, m.world.url(passwordPath), d, cmName, fetch()))
	if _, err := os.Stat(d + "/c.crt"); err != nil || lastStatus(out) != "MONITORING" {
		t.Fatalf("certmonger got no certificate: %v\n%s", err, m.hide(out))
	}
	m.checkCertificate(readCertificate(t, d+"/c.crt"), nil)
}

// pages are the answers that show no password.
func (m *mdm) pages(t *testing.T) {
	said := func(who, user, password, want string) {
		t.Helper()
		if status, text := m.page(user, password); status != http.StatusOK || !strings.Contains(text, want) || passwordOnPage.MatchString(text) {
			t.Errorf("%s gets %d: %.600q", who, status, text)
		}
	}
	const full, forbidden = "The password cache is full.", "You do not have sufficient permission to enroll with SCEP."
	said("a principal with a right elsewhere", "guest", m.passwords["guest"], forbidden)
	if status, _ := m.page("jamf", m.passwords["guest"]); status != http.StatusUnauthorized {
		t.Errorf("a wrong password gets %d", status)
	}
	kept := [2]string{m.password(), m.password()}
	said("whoever has two outstanding", `CORP\jamf`, m.passwords["jamf"], full)
	m.kill()
	m.start()
	said("whoever had two outstanding before kill -9", "jamf", m.passwords["jamf"], full)
	for i, password := range kept { // nothing was dropped to make room
		m.mustIssue(m.ask(passwordPath, 6+i, swCSR(password)), testkeys.RSA2048(6+i))
	}
	m.password()
}
