//go:build e2e

package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/intune/intunetest"
)

// point is a registration point that is attacked by its neighbours.
type point struct {
	*world
	back *back
	dir  string
	root *x509.Certificate
	key  *ecdsa.PrivateKey // of the root
}

// verdictBody is what the registration point answers, or a problem.
type verdictBody struct {
	status  int
	Verdict string `json:"verdict"`
	Rule    string `json:"rule"`
}

// TestAttacksOnRegistrationPoint asks and tells a registration point as
// somebody who is not a front end of it, and as one front end in another's
// name. What it does with the cloud's verdicts must not depend on them.
func TestAttacksOnRegistrationPoint(t *testing.T) {
	w := newWorldOf(t, true)
	p := &point{world: w, back: w.back, dir: w.back.dir}
	w.start()
	p.root = readCertificate(t, filepath.Join(p.dir, "root.pem"))
	p.key = readKey(t, filepath.Join(p.dir, "root.key")).(*ecdsa.PrivateKey)
	p.secondFrontEnd()

	t.Run("callers that are no front end", func(t *testing.T) { defer w.during(t)(); p.strangers(t) })
	t.Run("P3 a challenge of another front end", func(t *testing.T) { defer w.during(t)(); p.rivals(t) })
	t.Run("P1 certificate of another key", func(t *testing.T) { defer w.during(t)(); p.otherCertificate(t) })
	t.Run("a tenant of others", func(t *testing.T) {
		defer w.during(t)()
		q := p.question("T", w.csr(w.challenge(intunetest.Ask{Platform: "ios"}), testkeys.RSA2048(0)))
		q["tenant"] = "fabrikam"
		p.refused(p.ask(p.client("rival"), "VerifyRequest", q), http.StatusForbidden, "tenant_not_allowed")
	})
	if n := len(w.certificates()); n != 0 {
		t.Errorf("the CA issued %d certificates", n)
	}
	if n := len(w.cloud.Notifications()); n != 0 {
		t.Errorf("the cloud was told %d outcomes", n)
	}
	w.enrolOne(1) // the honest front end is served
}

// secondFrontEnd registers "rival", whose certificate has another name.
func (p *point) secondFrontEnd() {
	p.t.Helper()
	path := filepath.Join(p.dir, "certconnector.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		p.t.Fatal(err)
	}
	const at = "  front_ends:\n"
	if strings.Count(string(text), at) != 1 {
		p.t.Fatal("the front ends are not found in the file")
	}
	writeFile(p.t, path, []byte(strings.Replace(string(text), at, at+
		"    - {name: rival, certificate: {dns_name: rival.example.test}, tenants: [intune]}\n", 1)))
	p.back.kill()
	p.back.start(built.release)
	p.make("rival", nil, p.root)
}

// make writes a client certificate, like that of "rival" but for a change.
func (p *point) make(name string, change func(*x509.Certificate), parent *x509.Certificate) {
	p.t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{"rival.example.test"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	if change != nil {
		change(template)
	}
	neighbour(p.t, p.dir, name, template, parent, p.key)
}

// client shows the certificate of a name; "" shows none.
func (p *point) client(name string) *http.Client {
	p.t.Helper()
	cfg := &tls.Config{RootCAs: x509.NewCertPool()}
	cfg.RootCAs.AddCert(p.root)
	if name != "" {
		pair, err := tls.LoadX509KeyPair(filepath.Join(p.dir, name+".pem"), filepath.Join(p.dir, name+".key"))
		if err != nil {
			p.t.Fatal(err)
		}
		// Not by Certificates: crypto/tls would keep back what the server's list
		// of roots does not name.
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	// With "Connection: close" the server would hang up on a body that it does
	// not read, now and then before its answer was seen.
	transport := &http.Transport{TLSClientConfig: cfg}
	p.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Timeout: 2 * time.Minute, Transport: transport}
}

func (p *point) question(transaction string, csr []byte) map[string]any {
	return map[string]any{
		"endpoint": "devices", "transactionId": base64.StdEncoding.EncodeToString([]byte(transaction)),
		"certificateRequest": base64.StdEncoding.EncodeToString(csr),
	}
}

// issued is the report of a certificate.
func (p *point) issued(transaction string, csr, certificate []byte) map[string]any {
	q := p.question(transaction, csr)
	q["outcome"], q["issuingCa"] = "issued", "embedded"
	q["certificate"] = base64.StdEncoding.EncodeToString(certificate)
	return q
}

func (p *point) ask(c *http.Client, method string, question map[string]any) verdictBody {
	p.t.Helper()
	body, err := json.Marshal(question)
	if err != nil {
		p.t.Fatal(err)
	}
	resp, err := c.Post("https://"+p.back.address+"/CertificateRegistrationSvc/Certificate/"+method, "application/json", bytes.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	v := verdictBody{status: resp.StatusCode}
	if len(content) > 0 {
		if err := json.Unmarshal(content, &v); err != nil {
			p.t.Fatalf("%s answers %s: %.300s", method, resp.Status, content)
		}
	}
	return v
}

// refused wants a rule named to the caller and in the log.
func (p *point) refused(v verdictBody, status int, rule string) {
	p.t.Helper()
	if v.status != status || v.Rule != rule || v.Verdict == "granted" {
		p.t.Errorf("the answer is %+v, want %d with rule %s", v, status, rule)
	}
	text, err := os.ReadFile(p.path("back.log"))
	if err != nil {
		p.t.Fatal(err)
	}
	audit, err := os.ReadFile(p.path("back-audit.log"))
	if err != nil {
		p.t.Fatal(err)
	}
	if want := `"rule":"` + rule + `"`; !strings.Contains(string(text), want) && !strings.Contains(string(audit), want) {
		p.t.Errorf("no line of the log names the rule %s", rule)
	}
}

// certificateFor is what a CA of the attacker's own makes for a key.
func (p *point) certificateFor(public any) []byte {
	p.t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(77), NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, p.root, public, p.key)
	if err != nil {
		p.t.Fatal(err)
	}
	return der
}

// strangers show a certificate that will not do, or none.
func (p *point) strangers(t *testing.T) {
	self := &x509.Certificate{Subject: p.root.Subject, SubjectKeyId: []byte{1}} // our root in name only
	p.make("usage", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, p.root)
	p.make("no-usage", func(c *x509.Certificate) { c.ExtKeyUsage = nil }, p.root)
	p.make("name", func(c *x509.Certificate) { c.DNSNames = []string{"evil.example.test"} }, p.root)
	p.make("wildcard", func(c *x509.Certificate) { c.DNSNames = []string{"*.example.test"} }, p.root)
	p.make("common-name", func(c *x509.Certificate) {
		c.Subject.CommonName, c.DNSNames = "rival.example.test", []string{"evil.example.test"}
	}, p.root)
	p.make("expired", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) }, p.root)
	forger := p.key
	p.key = testkeys.P256(1)
	p.make("forged", nil, self)
	p.key = forger

	asked := p.cloud.Count(intunetest.Validate)
	csr := p.csr(p.challenge(intunetest.Ask{Platform: "ios"}), testkeys.RSA2048(0))
	for _, a := range []struct{ shows, rule string }{
		{"", "client_certificate_missing"},
		{"usage", "client_certificate_usage"},
		{"no-usage", "client_certificate_usage"},
		{"name", "client_certificate_name"},
		{"wildcard", "client_certificate_name"},
		{"common-name", "client_certificate_name"},
		{"expired", "client_certificate_expired"},
		{"forged", "client_certificate_untrusted"},
		{"server", "client_certificate_usage"}, // of the registration point itself
	} {
		t.Run("shows "+a.shows, func(t *testing.T) {
			defer p.during(t)()
			c := p.client(a.shows)
			p.refused(p.ask(c, "VerifyRequest", p.question("T", csr)), http.StatusForbidden, a.rule)
			p.refused(p.ask(c, "Notify", p.issued("T", csr, p.certificateFor(testkeys.RSA2048(0).Public()))), http.StatusForbidden, a.rule)
		})
	}
	if n := p.cloud.Count(intunetest.Validate) - asked; n != 0 {
		t.Errorf("the cloud was asked %d times", n)
	}
}

// rivals are two front ends, of which one has seen what the other asked.
func (p *point) rivals(t *testing.T) {
	key := testkeys.RSA2048(2)
	csr := p.csr(p.challenge(intunetest.Ask{Platform: "windows"}), key)
	front, rival := p.client("client"), p.client("rival")
	certificate := p.certificateFor(key.Public())

	// Nobody was granted it yet.
	p.refused(p.ask(rival, "Notify", p.issued("T1", csr, certificate)), http.StatusForbidden, "notify_without_verdict")
	if v := p.ask(front, "VerifyRequest", p.question("T1", csr)); v.status != http.StatusCreated || v.Verdict != "granted" {
		t.Fatalf("the front end's question is answered %+v", v)
	}
	asked := p.cloud.Count(intunetest.Validate)
	// Another's verdict is neither his to use nor to settle.
	p.refused(p.ask(rival, "VerifyRequest", p.question("T1", csr)), http.StatusCreated, "challenge_used")
	p.refused(p.ask(rival, "Notify", p.issued("T1", csr, certificate)), http.StatusForbidden, "notify_without_verdict")
	failed := p.question("T1", csr)
	failed["outcome"], failed["description"] = "failed", "no"
	p.refused(p.ask(rival, "Notify", failed), http.StatusForbidden, "notify_without_verdict")
	// Nor is a verdict good for another transaction or another request.
	p.refused(p.ask(front, "Notify", p.issued("T2", csr, certificate)), http.StatusForbidden, "notify_without_verdict")
	other := p.csr(p.challenge(intunetest.Ask{Platform: "windows"}), key)
	p.refused(p.ask(front, "Notify", p.issued("T1", other, certificate)), http.StatusForbidden, "notify_without_verdict")
	if n := p.cloud.Count(intunetest.Validate) - asked; n > 1 { // about the rival's question
		t.Errorf("the cloud was asked %d times more", n)
	}
}

// otherCertificate reports a certificate that is not of the request.
func (p *point) otherCertificate(t *testing.T) {
	csr := p.csr(p.challenge(intunetest.Ask{Platform: "macos"}), testkeys.RSA2048(3))
	front := p.client("client")
	if v := p.ask(front, "VerifyRequest", p.question("T3", csr)); v.Verdict != "granted" {
		t.Fatalf("the front end's question is answered %+v", v)
	}
	thief := p.certificateFor(testkeys.RSA2048(4).Public())
	p.refused(p.ask(front, "Notify", p.issued("T3", csr, thief)), http.StatusConflict, "certificate_not_of_request")
}
