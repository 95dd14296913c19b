//go:build e2e

package e2e

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/certconnector/certconnector/internal/freeport"
	"github.com/certconnector/certconnector/intune/intunetest"
)

// The endpoints of every world. Static, approval and old
// do not ask the cloud.
const (
	intunePath   = "/certsrv/mscep/mscep.dll"
	staticPath   = "/scep/static"   // renews without a challenge
	approvalPath = "/scep/approval" // parks every request for a person
	legacyPath   = "/scep/legacy"   // accepts SHA-1
	oldPath      = "/scep/old"      // static, renews without a challenge, accepts SHA-1
	fullPath     = "/scep/full"     // parks, with content in every reply
	shortPath    = "/scep/short"    // withholds a certificate for 4 s only
	soonPath     = "/scep/soon"     // answers PENDING after 2 s
)

const ipsecTunnel = "1.3.6.1.5.5.7.3.6"

// caName is what "init" calls the embedded CA.
const caName = "embedded"

// world is a connector, its cloud and everything a test told them.
type world struct {
	t     *testing.T
	dir   string
	cloud *intunetest.Cloud
	base  string // http://127.0.0.1:port

	static string // the static challenge
	root   *x509.Certificate

	back *back // the second connector, where the suite runs with two

	mu      sync.Mutex
	secrets []string
	running *connector
}

// newWorld copies the prepared folder, points it to a cloud of its own and
// adds the endpoints. Nothing runs yet. When the test ends, the log of all
// runs is searched for panics and secrets.
func newWorld(t *testing.T) *world { return newWorldOf(t, splitAsked()) }

// newWorldOf makes a world of one connector or of two.
func newWorldOf(t *testing.T, two bool) *world {
	t.Helper()
	dir := shortDir(t)
	if err := os.CopyFS(dir, os.DirFS(built.folder)); err != nil {
		t.Fatal(err)
	}
	// CopyFS makes files readable by all, and a private key must not be.
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		return os.Chmod(path, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, dir: dir, static: rand.Text() + rand.Text()[:6]}
	w.secrets = append(w.secrets, w.static)
	w.root = readCertificate(t, w.path("ca/ca.crt.pem"))
	w.startCloud()
	t.Cleanup(w.end)
	w.configure(two)
	return w
}

// shortDir is a temporary folder whose path leaves room for a unix socket's
// name.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cc")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() && os.Getenv("E2E_KEEP") != "" {
			t.Logf("kept: %s", dir)
			return
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) startCloud() {
	w.t.Helper()
	cloud, err := intunetest.New(intunetest.Options{Strict: true, StateFile: w.path("cloud.jsonl")})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cloud.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.cloud = cloud
	entra := readCertificate(w.t, w.path("entra/entra.crt.pem"))
	if err := cloud.SetCertificates(intunetest.ContosoID, intunetest.ContosoClient, entra); err != nil {
		w.t.Fatal(err)
	}
	writeFile(w.t, w.path("cloud.pem"), cloud.RootPEM())
}

// configure edits the file that init wrote, as an operator would.
func (w *world) configure(two bool) {
	w.t.Helper()
	b, err := os.ReadFile(w.path("certconnector.yaml"))
	if err != nil {
		w.t.Fatal(err)
	}
	text := string(b)
	address := freeport.ForTest(w.t)
	w.base = "http://" + address
	replace := func(old, with string) {
		w.t.Helper()
		if strings.Count(text, old) != 1 {
			w.t.Fatalf("the file that init wrote has not exactly one %q", old)
		}
		text = strings.Replace(text, old, with, 1)
	}
	replace("127.0.0.1:1", address)
	replace("https://authority.invalid/", w.cloud.AuthorityURL())
	replace("https://graph.invalid/", w.cloud.GraphURL())
	replace("https://resource.invalid/", w.cloud.ResourceURL())
	replace("    urls:\n", "    ca_file: cloud.pem\n    timeouts: {token: 20s, discovery: 20s, service: 20s, total: 30s}\n    urls:\n")
	replace("        - {name: device, validity: 8760h, eku: [clientAuth]}\n",
		"        - {name: device, validity: 8760h, eku: [clientAuth, "+ipsecTunnel+"]}\n"+
			"        - {name: reviewed, validity: 8760h, eku: [clientAuth], approval: true}\n")
	replace("    templates: {general: device}\n", "    templates: {general: device}\n    answer_within: "+patientAnswer+"\n    allow: {eku: [clientAuth, "+ipsecTunnel+"]}\n")
	replace("\njournal:", endpointText()+"\njournal:")
	text += "limits: {failures_per_minute: 1000000}\nlog: {level: debug, file: connector.log, audit_file: audit.log}\nshutdown_grace: 30s\n"
	if two {
		text = w.split(text)
	}
	writeFile(w.t, w.path("certconnector.yaml"), []byte(text))
	writeFile(w.t, w.path("challenge"), []byte(w.static+"\n"))
}

// patientAnswer is the answer_within of most endpoints: a certificate comes with
// the first answer on the slowest machine too, and is not PENDING. Where PENDING
// is what a test wants it is soonAnswer.
const (
	patientAnswer = "40s" // devices hang up after a minute
	soonAnswer    = "answer_within: 2s"
)

// endpointIn is an endpoint of the configuration file; more are further lines,
// each with the indentation of a key.
func endpointIn(name, path, policy, more string) string {
	if !strings.Contains(more, soonAnswer) {
		more += "\n    answer_within: " + patientAnswer
	}
	return fmt.Sprintf(`  - name: %s
    path: %s
    ca: %s
    %s
    %s
    ra:
      signing: {certificate: ra/signing.crt.pem, key: ra/signing.key.pem}
      encryption: {certificate: ra/encryption.crt.pem, key: ra/encryption.key.pem}
`, name, path, caName, policy, more)
}

func endpointText() string {
	const static = "policy: {static: {challenge: {file: challenge}, allow_static_challenge: true}}\n    allow: {subject: [\"*\"], san: [\"*\"]}"
	const intune = "policy: {intune: {tenant: intune}}"
	var b strings.Builder
	for _, e := range []struct{ name, path, policy, more string }{
		{"static", staticPath, static, "templates: {general: device}\n    renewal: {without_challenge: true}"},
		{"approval", approvalPath, static, "templates: {general: reviewed}\n    " + soonAnswer},
		{"full", fullPath, static, "templates: {general: reviewed}\n    dummy_content: true\n    " + soonAnswer},
		{"old", oldPath, static, "templates: {general: device}\n    renewal: {without_challenge: true}\n    algorithms: {legacy_sha1: true}"},
		{"legacy", legacyPath, intune, "templates: {general: device}\n    algorithms: {legacy_sha1: true}"},
		{"short", shortPath, intune, "templates: {general: device}\n    withhold_for: 4s\n    " + soonAnswer},
		{"soon", soonPath, intune, "templates: {general: device}\n    " + soonAnswer},
	} {
		b.WriteString(endpointIn(e.name, e.path, e.policy, e.more))
	}
	return b.String()
}

// edit changes the configuration of a connector that does not run.
func (w *world) edit(change func(text string) string) {
	w.t.Helper()
	b, err := os.ReadFile(w.path("certconnector.yaml"))
	if err != nil {
		w.t.Fatal(err)
	}
	writeFile(w.t, w.path("certconnector.yaml"), []byte(change(string(b))))
}

// during has a subtest take the blame until the returned function is called.
func (w *world) during(t *testing.T) (back func()) {
	outer := w.t
	w.t = t
	return func() { w.t = outer }
}

// secret remembers a text that must never stand in a log.
func (w *world) secret(text string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.secrets = append(w.secrets, text)
	return text
}

// secretCSR remembers a request, for a log must hold none in any form that
// base64 has: a line of its PEM form stands for it.
func (w *world) secretCSR(der []byte) []byte {
	w.secret(base64.StdEncoding.EncodeToString(der)[64:128])
	return der
}

// end stops what runs and reads the logs.
func (w *world) end() {
	if w.running != nil {
		w.stop()
	}
	if w.back != nil {
		w.back.kill()
	}
	if err := w.cloud.Close(); err != nil {
		w.t.Error(err)
	}
	for _, name := range []string{"connector.log", "audit.log", "stderr", "back.log", "back-audit.log", "back-stderr"} {
		b, err := os.ReadFile(w.path(name))
		if err != nil && !os.IsNotExist(err) {
			w.t.Error(err)
			continue
		}
		text := string(b)
		if name == "connector.log" && !strings.Contains(text, `"starting"`) {
			w.t.Error("the log is not where it is looked for")
		}
		for _, bad := range []string{"panic", "goroutine ", "DATA RACE"} {
			if i := strings.Index(text, bad); i >= 0 {
				w.t.Errorf("%s has %q: %.2000s", name, bad, text[i:])
			}
		}
		for i, s := range w.secrets {
			if strings.Contains(text, s) {
				w.t.Errorf("%s holds secret number %d", name, i)
			}
		}
		if w.t.Failed() {
			w.t.Logf("end of %s:\n%s", name, text[max(0, len(text)-3000):])
		}
	}
}

func writeFile(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func readCertificate(t *testing.T, path string) *x509.Certificate {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		t.Fatalf("%s is not PEM: %.200q", path, b)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}
