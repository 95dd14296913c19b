package agent_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/certconnector/certconnector/agent"
	"github.com/certconnector/certconnector/agent/control"
	"github.com/certconnector/certconnector/installer/firstrun"
	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/scep"
	"github.com/certconnector/certconnector/scep/scepclient"
)

// ask enrols a Linux device once.
func (s *service) ask(key *rsa.PrivateKey, cn string, challenge secret.Text) *scepclient.Reply {
	s.t.Helper()
	reply, err := s.device("linux").Enroll(s.t.Context(), scepclient.EnrollRequest{
		Key: key, CSR: scepclient.CSR{Subject: pkix.Name{CommonName: cn}, Challenge: challenge},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return reply
}

func (s *service) wantRule(reply *scepclient.Reply, info scep.FailInfo, rule string) {
	s.t.Helper()
	if reply.Status != scep.Failure || reply.FailInfo != info {
		s.t.Errorf("got %v %v, want FAILURE %v", reply.Status, reply.FailInfo, info)
	}
	events, err := s.running.Trace(s.t.Context(), "")
	if err != nil || len(events) == 0 || events[0].Rule != rule {
		s.t.Errorf("the trace begins with %+v, %v; want rule %s", events, err, rule)
	}
}

func (s *service) wantCertificate(reply *scepclient.Reply) {
	s.t.Helper()
	if reply.Status != scep.Success {
		events, _ := s.running.Trace(s.t.Context(), "")
		s.t.Fatalf("got %v %v; trace %+v", reply.Status, reply.FailInfo, events)
	}
}

// installOnetime makes a folder whose endpoint takes one-time passwords that
// the MDM "jamf" fetches at the returned address.
func installOnetime(t *testing.T) (s *service, page string) {
	t.Helper()
	s = install(t, firstrun.Options{Policy: firstrun.PolicyStatic})
	var p agent.OnetimePolicy
	p.SetDefaults()
	e := &s.cfg.Endpoints[0]
	e.Policy, e.Allow.Subject = agent.Policy{Onetime: &p}, []string{"CN=*"}
	address := freePort(t)
	s.cfg.Listeners = append(s.cfg.Listeners, agent.Listener{Name: "mdms", Address: address, Faces: []string{agent.FaceChallenges}, PlainHTTP: true})
	password := filepath.Join(t.TempDir(), "jamf")
	if err := os.WriteFile(password, []byte(mdmPassword+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.cfg.Principals = []agent.Principal{{
		Name: "jamf", Password: &agent.SecretRef{File: password},
		Rights: []agent.Right{{Endpoint: e.Name, Subject: []string{"CN=*.corp.example"}, PerMinute: 60}},
	}}
	if err := s.cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	return s, "http://" + address + "/CertSrv/mscep_admin/"
}

const mdmPassword = "k7Qx2mVb9Rt4Zp6Wc8Ny3Lf5"

var upperHex = regexp.MustCompile(`[A-F0-9]{16,}`)

// fetchPassword reads the page as MDM servers do.
func fetchPassword(t *testing.T, page string) secret.Text {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, page, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(`CORP\jamf`, mdmPassword)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("status %s, %v", resp.Status, err)
	}
	units := make([]uint16, 0, len(b)/2)
	for i := 0; i+1 < len(b); i += 2 {
		units = append(units, uint16(b[i])|uint16(b[i+1])<<8)
	}
	found := upperHex.FindString(string(utf16.Decode(units)))
	if found == "" {
		t.Fatal("the page shows no password")
	}
	return secret.Text(found)
}

// An MDM server fetches a password and hands it to a device, which can use it
// for one certificate with a name that the MDM may give.
func TestOnetimePasswordOfAnMDM(t *testing.T) {
	s, page := installOnetime(t)
	s.start()
	password := fetchPassword(t, page)
	s.wantRule(s.ask(testkeys.RSA2048(0), "ceo.example", password), scep.BadRequest, "subject_not_allowed")
	s.wantCertificate(s.ask(testkeys.RSA2048(0), "phone.corp.example", password))
	s.wantRule(s.ask(testkeys.RSA2048(1), "phone.corp.example", password), scep.BadRequest, "challenge_used")

	kept := fetchPassword(t, page)
	s.mustStop()
	s.start()
	s.wantCertificate(s.ask(testkeys.RSA2048(2), "tablet.corp.example", kept))
	s.mustStop()
}

// A journal that comes back from a backup does not know that a password was
// spent since: it takes none that was made before.
func TestRestoredJournalRefusesOlderChallenges(t *testing.T) {
	s, page := installOnetime(t)
	s.start()
	password := fetchPassword(t, page)
	s.mustStop()
	backup, err := os.ReadFile(s.cfg.Journal.SQLite.Path)
	if err != nil {
		t.Fatal(err)
	}
	s.start()
	s.wantCertificate(s.ask(testkeys.RSA2048(0), "phone.corp.example", password))
	s.mustStop()
	if err := os.WriteFile(s.cfg.Journal.SQLite.Path, backup, 0o600); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.wantRule(s.ask(testkeys.RSA2048(1), "phone.corp.example", password), scep.BadTime, "challenge_before_restore")
	s.wantCertificate(s.ask(testkeys.RSA2048(1), "phone.corp.example", fetchPassword(t, page)))
	s.mustStop()
}

// installToken makes a folder whose endpoint takes challenges that are signed
// here.
func installToken(t *testing.T) *service {
	t.Helper()
	s := install(t, firstrun.Options{Policy: firstrun.PolicyStatic})
	var p agent.TokenPolicy
	p.SetDefaults()
	signing := writePair(t, "signing", testkeys.P256(0))
	p.Signing, p.Recipients = &signing, []agent.KeyPair{writePair(t, "recipient", testkeys.RSA2048(7))}
	e := &s.cfg.Endpoints[0]
	e.Policy, e.Allow.Subject, e.Allow.SAN = agent.Policy{Token: &p}, []string{"CN=*.corp.example"}, []string{"dns:*.corp.example"}
	if err := s.cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	return s
}

func writePair(t *testing.T, name string, key crypto.Signer) agent.KeyPair {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		KeyUsage:  x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	pair := agent.KeyPair{Certificate: filepath.Join(dir, name+".crt.pem"), Key: filepath.Join(dir, name+".key.pem")}
	for path, block := range map[string]*pem.Block{
		pair.Certificate: {Type: "CERTIFICATE", Bytes: cert}, pair.Key: {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return pair
}

// A signed challenge is good for the names that it says, once.
func TestSignedChallengeIsGoodForItsNames(t *testing.T) {
	s := installToken(t)
	s.start()
	if _, err := s.running.NewChallenge(t.Context(), control.Wish{Endpoint: "devices", Subject: "CN=ceo.example"}); err == nil {
		t.Error("a challenge was made for a name that the endpoint does not give")
	}
	made, err := s.running.NewChallenge(t.Context(), control.Wish{Endpoint: "devices", Subject: "CN=phone.corp.example"})
	if err != nil {
		t.Fatal(err)
	}
	challenge := secret.Text(strings.TrimSpace(made.Challenge))
	s.wantRule(s.ask(testkeys.RSA2048(0), "tablet.corp.example", challenge), scep.BadRequest, "token_subject")
	s.wantCertificate(s.ask(testkeys.RSA2048(0), "phone.corp.example", challenge))
	s.wantRule(s.ask(testkeys.RSA2048(1), "phone.corp.example", challenge), scep.BadRequest, "challenge_used")
	s.mustStop()
}
