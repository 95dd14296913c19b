//go:build e2e

package e2e

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/certconnector/certconnector/internal/freeport"
)

// back is a second connector: it has the Intune credential and is the
// registration point of the first, which has the CA. The two speak mutual TLS.
type back struct {
	*world  // of the first; what is not below is its
	dir     string
	address string
	running *connector
}

// splitAsked tells whether the suite runs with two connectors.
func splitAsked() bool { return os.Getenv("E2E_CONNECTORS") == "two" }

// split moves the cloud's credential to a second connector, which it starts,
// and returns the first one's configuration without it.
func (w *world) split(text string) string {
	w.t.Helper()
	b := &back{world: w, dir: w.path("back"), address: strings.Replace(freeport.ForTest(w.t), "127.0.0.1", "localhost", 1)}
	if err := os.Mkdir(b.dir, 0o700); err != nil {
		w.t.Fatal(err)
	}
	for _, name := range []string{"local.key", "journal.db", "entra/entra.crt.pem", "entra/entra.key.pem", "cloud.pem"} {
		content, err := os.ReadFile(w.path(name))
		if err != nil {
			w.t.Fatal(err)
		}
		writeFile(w.t, filepath.Join(b.dir, filepath.Base(name)), content)
	}
	neighbours(w.t, b.dir)
	from, to := strings.Index(text, "tenants:"), strings.Index(text, "cas:")
	if from < 0 || to < from {
		w.t.Fatal("the file that init wrote has no tenants before cas")
	}
	tenants := strings.ReplaceAll(text[from:to], "entra/", "")
	writeFile(w.t, filepath.Join(b.dir, "certconnector.yaml"), []byte(fmt.Sprintf(`state_dir: .
listeners:
  - {name: crp, address: %q, faces: [crp], client_ca: root.pem, tls: {certificate: server.pem, key: server.key}}
%sregistration_point:
  front_ends:
    - {name: front, certificate: {dns_name: front.example.test}, tenants: [intune]}
log: {level: debug, file: ../back.log, audit_file: ../back-audit.log}
shutdown_grace: 30s
`, strings.Replace(b.address, "localhost", "127.0.0.1", 1), tenants)))
	w.back = b
	b.start(built.release)

	const ours, others = "{intune: {tenant: intune}}", `{registration_point: {url: "https://%s", certificate: back/client.pem, key: back/client.key, ca_file: back/root.pem, timeout: 40s}}`
	if !strings.Contains(text, ours) {
		w.t.Fatal("the file that init wrote has no Intune policy")
	}
	return strings.ReplaceAll(text[:from]+text[to:], ours, fmt.Sprintf(others, b.address))
}

// start runs the second connector until it answers.
func (b *back) start(binary string, env ...string) {
	b.t.Helper()
	c := &connector{cmd: exec.Command(binary, "run", "--config", filepath.Join(b.dir, "certconnector.yaml")), ended: make(chan struct{})}
	var err error
	if c.stderr, err = os.OpenFile(b.path("back-stderr"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		b.t.Fatal(err)
	}
	c.cmd.Stderr, c.cmd.Stdout = c.stderr, c.stderr
	c.cmd.Env = append(os.Environ(), env...)
	if err := c.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	go func() {
		c.err = c.cmd.Wait()
		_ = c.stderr.Close() // its text was written by another process
		close(c.ended)
	}()
	b.running = c
	b.await(c)
}

// await polls until the registration point answers; without a client
// certificate it is 403.
func (b *back) await(c *connector) {
	b.t.Helper()
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // only asks whether somebody is there
	}}
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(3 * time.Millisecond) {
		select {
		case <-c.ended:
			text, _ := os.ReadFile(b.path("back-stderr"))
			b.t.Fatalf("the registration point ended at once: %v\n%s", c.err, text)
		default:
		}
		resp, err := client.Post("https://"+b.address+"/CertificateRegistrationSvc/Certificate/VerifyRequest", "application/json", strings.NewReader("{}"))
		if err != nil {
			continue
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusForbidden {
			b.t.Fatalf("without a client certificate the registration point answers %s", resp.Status)
		}
		return
	}
	b.t.Fatal("the registration point does not answer")
}

// kill is kill -9, and no error when the process is gone already.
func (b *back) kill() {
	if b.running == nil {
		return
	}
	_ = b.running.cmd.Process.Kill()
	<-b.running.ended
	b.running = nil
}

// awaitDeath waits until a second connector with a failpoint has met it.
func (b *back) awaitDeath() {
	b.t.Helper()
	select {
	case <-b.running.ended:
		b.running = nil
	case <-time.After(patience):
		b.t.Fatal("the failpoint was not met")
	}
}
