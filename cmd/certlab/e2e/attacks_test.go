//go:build e2e

package e2e

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/control"
	"github.com/certconnector/certconnector/internal/freeport"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/intune/intunetest"
	"github.com/certconnector/certconnector/scep"
	"github.com/certconnector/certconnector/scep/scepclient"
)

// The endpoints that are there to be attacked, beside those of every world.
const (
	fencedPath  = "/scep/fenced"  // static, for names below corp.example only
	onetimePath = "/scep/onetime" // passwords that principals fetch
	tokenPath   = "/scep/token"   // signed challenges
	twinPath    = "/scep/twin"    // the same keys for signed challenges, another endpoint
)

// besieged is a world with those endpoints, the principals jamf and greedy,
// and the page where they fetch passwords.
type besieged struct {
	*world
	page      string            // URL of mscep_admin
	passwords map[string]string // of the principals

	signing   *x509.Certificate // signs challenges of the token endpoints, with P256(0)
	recipient *x509.Certificate // they are sealed to it, RSA2048(7)
}

// TestAttacks tries what was published about SCEP and NDES (docs/security.md,
// P1 to P14) against the built program: the device gets the right refusal, the
// trace names the rule, the CA has issued exactly what it should have, the
// cloud has heard what it should have, and no log holds a secret.
func TestAttacks(t *testing.T) {
	b := besiege(t)
	b.start()
	for _, a := range []struct {
		name string
		try  func(*besieged, *testing.T)
	}{
		{"P1 another name with somebody's challenge", (*besieged).swapNames},
		{"P2 the secret of all devices", (*besieged).sharedSecret},
		{"P3 a used challenge", (*besieged).reuse},
		{"P3 one challenge 64 times at once", (*besieged).crowd},
		{"P4 security identifiers", (*besieged).identifiers},
		{"P5 more than a device may have", (*besieged).escalate},
		{"P5 template by name and value", (*besieged).templatePair},
		{"P6 mutated envelopes", (*besieged).oracle},
		{"P7 all passwords for oneself", (*besieged).hoard},
		{"P8 the page for passwords", (*besieged).relay},
		{"P9 capabilities stripped", (*besieged).strip},
		{"P10 renewals", (*besieged).renew},
		{"P11 secrets in logs and at rest", (*besieged).secrecy},
		{"P12 bombs", (*besieged).bombs},
		{"P13 transactions of others", (*besieged).transactions},
		{"P13 text that steers a terminal", (*besieged).text},
		{"tokens", (*besieged).tokens},
		{"P14 keys that others can read", (*besieged).readableKeys}, // stops the connector
	} {
		t.Run(a.name, func(t *testing.T) {
			defer b.during(t)()
			a.try(b, t)
		})
	}
	b.told()
}

// besiege adds the endpoints to a world. Nothing runs yet.
func besiege(t *testing.T) *besieged {
	t.Helper()
	b := &besieged{world: newWorld(t), passwords: map[string]string{}}
	b.signing = b.pair("signer", testkeys.P256(0))
	b.recipient = b.pair("recipient", testkeys.RSA2048(7))
	for _, name := range []string{"jamf", "greedy"} {
		b.passwords[name] = b.secret(rand.Text() + rand.Text()[:6])
		writeFile(t, b.path(name), []byte(b.passwords[name]+"\n"))
	}
	mdms := freeport.ForTest(t)
	b.page = "http://" + mdms + "/certsrv/mscep_admin/"

	text, err := os.ReadFile(b.path("certconnector.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	edited := strings.NewReplacer(
		"\nlisteners:\n", "\nlisteners:\n  - {name: mdms, address: \""+mdms+"\", faces: [challenges], plain_http: true}\n",
		"\njournal:", b.moreEndpoints()+"\njournal:",
		"limits: {", "limits: {read_header_timeout: 5s, ",
	).Replace(string(text))
	const right = "{endpoint: onetime, subject: [\"CN=*.corp.example\"], san: [\"dns:*.corp.example\"]"
	edited += "principals:\n" +
		"  - {name: jamf, password: {file: jamf}, rights: [" + right + ", per_minute: 600}]}\n" +
		"  - {name: greedy, password: {file: greedy}, rights: [" + right + ", max_outstanding: 3, per_minute: 600}]}\n"
	writeFile(t, b.path("certconnector.yaml"), []byte(edited))
	return b
}

func (b *besieged) moreEndpoints() string {
	const sealed = "signing: {certificate: signer.pem, key: signer.key}, recipients: [{certificate: recipient.pem, key: recipient.key}]"
	var text strings.Builder
	for _, e := range []struct{ name, path, policy string }{
		{"fenced", fencedPath, "{static: {challenge: {file: challenge}, allow_static_challenge: true}}"},
		{"onetime", onetimePath, "{onetime: {lifetime: 60m}}"},
		{"token", tokenPath, "{token: {" + sealed + "}}"},
		{"twin", twinPath, "{token: {" + sealed + "}}"},
	} {
		fmt.Fprintf(&text, `  - name: %s
    path: %s
    ca: %s
    policy: %s
    templates: {general: device}
    allow: {subject: ["CN=*.corp.example"], san: ["dns:*.corp.example"]}
    renewal: {without_challenge: true}
    answer_within: 40s
    ra:
      signing: {certificate: ra/signing.crt.pem, key: ra/signing.key.pem}
      encryption: {certificate: ra/encryption.crt.pem, key: ra/encryption.key.pem}
`, e.name, e.path, caName, e.policy)
	}
	return text.String()
}

// pair writes a self-signed certificate and its key.
func (b *besieged) pair(name string, key crypto.Signer) *x509.Certificate {
	b.t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		b.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		b.t.Fatal(err)
	}
	writeFile(b.t, b.path(name+".pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	writeFile(b.t, b.path(name+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	return readCertificate(b.t, b.path(name+".pem"))
}

// request is a request for a name below corp.example. With the option of a
// change it asks for something else beside.
func (b *besieged) request(name, challenge string, change ...func(*scepclient.CSR)) scepclient.CSR {
	csr := scepclient.CSR{
		Subject: pkix.Name{CommonName: name + ".corp.example"}, DNSNames: []string{name + ".corp.example"},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment, Challenge: secretText(challenge),
	}
	for _, c := range change {
		c(&csr)
	}
	return csr
}

// try sends a request in a transaction of its own, as a device without quirks.
func (b *besieged) try(path string, req scepclient.EnrollRequest) (*scepclient.Reply, string) {
	b.t.Helper()
	if req.DER == nil {
		der, err := req.CSR.Encode(req.Key)
		if err != nil {
			b.t.Fatal(err)
		}
		req.DER = der
	}
	b.secretCSR(req.DER)
	if req.TransactionID == "" {
		req.TransactionID = rand.Text()
	}
	d := &scepclient.Client{URL: b.url(path)}
	reply, err := d.Enroll(b.t.Context(), req)
	if err != nil {
		b.t.Fatal(err)
	}
	return reply, req.TransactionID
}

// get wants a certificate, one more in the CA's register.
func (b *besieged) get(path string, req scepclient.EnrollRequest) *x509.Certificate {
	b.t.Helper()
	before := len(b.certificates())
	reply, id := b.try(path, req)
	if reply.Status != scep.Success {
		b.t.Fatalf("no certificate: %s; trace: %+v", describe(reply), b.trace(id))
	}
	cert := b.mustIssue(reply, req.Key)
	if n := len(b.certificates()) - before; n != 1 {
		b.t.Errorf("the CA issued %d certificates, want one", n)
	}
	return cert
}

// repel wants a signed refusal under a rule, and no certificate. It returns
// the transaction.
func (b *besieged) repel(path string, req scepclient.EnrollRequest, info scep.FailInfo, rule string) string {
	b.t.Helper()
	before, asked := len(b.certificates()), b.cloud.Count(intunetest.Validate)
	reply, id := b.try(path, req)
	b.repelled(reply, id, info, rule)
	if n := len(b.certificates()) - before; n != 0 {
		b.t.Errorf("the CA issued %d certificates", n)
	}
	if n := b.cloud.Count(intunetest.Validate) - asked; path != intunePath && path != shortPath && n != 0 {
		b.t.Errorf("the cloud was asked %d times about a challenge that is not its", n)
	}
	return id
}

func (b *besieged) repelled(reply *scepclient.Reply, id string, info scep.FailInfo, rule string) {
	b.t.Helper()
	events := b.trace(id)
	if reply.Status != scep.Failure || reply.FailInfo != info {
		b.t.Errorf("the answer is %s, want FAILURE %v; trace: %+v", describe(reply), info, events)
		return
	}
	if reply.FailInfoText != "" {
		b.t.Errorf("the device is told why: %q", reply.FailInfoText)
	}
	if len(events) != 1 || events[0].Rule != rule {
		b.t.Errorf("the trace has %+v, want one event of rule %s", events, rule)
	}
}

// trace is "certconnector trace --json" of a transaction.
func (b *besieged) trace(id string) []control.TraceEvent {
	b.t.Helper()
	out, err := b.command("trace", "--json", "--", id)
	if err != nil {
		b.t.Fatal(err)
	}
	var events []control.TraceEvent
	if err := json.Unmarshal([]byte(out), &events); err != nil {
		b.t.Fatalf("trace: %v: %.300s", err, out)
	}
	return events
}

// heard wants the cloud to have taken one failure about a request, and no
// success, or neither.
func (b *besieged) heard(der []byte, failures int) {
	b.t.Helper()
	digest := sha256.Sum256(der)
	count := func() (failed, succeeded int) {
		for _, n := range b.cloud.Notifications() {
			switch {
			case n.CSRHash != hex.EncodeToString(digest[:]):
			case n.Success:
				succeeded++
			default:
				failed++
			}
		}
		return failed, succeeded
	}
	if failures > 0 {
		eventually(b.t, "the cloud hears of the failure", func() bool { f, _ := count(); return f == failures })
	}
	if failed, succeeded := count(); failed != failures || succeeded != 0 {
		b.t.Errorf("the cloud heard of %d failures and %d successes, want %d and none", failed, succeeded, failures)
	}
}

// logText is all that the connector has logged.
func (b *besieged) logText() string {
	b.t.Helper()
	var all strings.Builder
	for _, name := range []string{"connector.log", "audit.log", "stderr"} {
		text, err := os.ReadFile(filepath.Join(b.dir, name))
		if err != nil {
			b.t.Fatal(err)
		}
		all.Write(text)
	}
	return all.String()
}
