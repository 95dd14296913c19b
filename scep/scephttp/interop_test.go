package scephttp_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/scep"
	"github.com/certconnector/certconnector/scep/scephttp"
)

// program finds a client that somebody else wrote, or skips the test; where
// everything is meant to be installed, it fails.
func program(t *testing.T, name, debian string) string {
	t.Helper()
	p, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is missing; on Debian: apt-get install %s", name, debian)
		}
		t.Skipf("%s is missing; on Debian: apt-get install %s", name, debian)
	}
	return p
}

// run runs a program in dir and returns its standard output.
func run(t *testing.T, dir string, env []string, name string, args ...string) ([]byte, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	err := cmd.Run()
	if err != nil {
		t.Logf("%s %s: %v\n%s", name, strings.Join(args, " "), err, log.String())
	}
	return out.Bytes(), err
}

func keyFile(t *testing.T, dir, name string, i int) {
	t.Helper()
	b := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(testkeys.RSA2048(i))})
	if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func parsePEM(t *testing.T, b []byte) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(b)
	if block == nil {
		t.Fatalf("no certificate in %q", b)
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestStrongSwan enrols, polls and renews with strongSwan's pki. Its messages
// come by POST without Content-Type, its polls are CertPolls, its renewals
// RenewalReqs.
func TestStrongSwan(t *testing.T) {
	pki := program(t, "pki", "strongswan-pki")
	a := newAuthority(t, false)
	a.pending = 1
	h, w := handler(t, scephttp.Limits{}, a.endpoint())
	url, dir := serve(t, h)+path, t.TempDir()
	keyFile(t, dir, "k.pem", 3)
	keyFile(t, dir, "k2.pem", 4)
	if _, err := run(t, dir, nil, pki, "--scepca", "--url", url, "--caout", "ca.pem", "--raout", "ra.pem", "--outform", "pem", "--force"); err != nil {
		t.Fatal("GetCACert failed")
	}
	ras, _ := filepath.Glob(filepath.Join(dir, "ra*.pem"))
	var sig, enc string
	for _, f := range ras {
		b, _ := os.ReadFile(f)
		if parsePEM(t, b).KeyUsage == x509.KeyUsageDigitalSignature {
			sig = f
		} else {
			enc = f
		}
	}
	common := []string{"--scep", "--url", url, "--dn", "C=CH, O=Probe, CN=sw1", "--cacert-enc", enc, "--cacert-sig", sig, "--cacert", "ca.pem",
		"--interval", "1", "--maxpolltime", "120", "--outform", "pem"}
	enrol := slices.Concat(common, []string{"--in", "k.pem", "--san", "sw1.example.test", "--password", "open sesame", "--cipher", "aes", "--digest", "sha256"})
	out, err := run(t, dir, nil, pki, enrol...)
	if err != nil {
		t.Fatalf("enrolment failed; observed %+v", w.last(t))
	}
	first := parsePEM(t, out)
	if got := a.lastAsked(); got != scep.CertPoll {
		t.Errorf("the last message was a %v, want a poll", got)
	}
	if err := os.WriteFile(filepath.Join(dir, "c.pem"), out, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err = run(t, dir, nil, pki, slices.Concat(common, []string{"--in", "k2.pem", "--cert", "c.pem", "--key", "k.pem", "--digest", "sha512"})...)
	if err != nil {
		t.Fatalf("renewal failed; observed %+v", w.last(t))
	}
	if parsePEM(t, out).SerialNumber.Cmp(first.SerialNumber) == 0 || a.lastAsked() != scep.RenewalReq {
		t.Error("the renewal brought nothing new")
	}
	wrong := slices.Concat(common, []string{"--in", "k2.pem", "--password", "wrong"})
	if _, err := run(t, dir, nil, pki, wrong...); err == nil || w.last(t).FailInfo != scep.BadRequest {
		t.Errorf("wrong challenge: %v, observed %+v", err, w.last(t))
	}
}

// TestCertmonger enrols, polls and renews with certmonger on a private socket.
// Its messages come by GET, its polls and renewals are PKCSReqs.
func TestCertmonger(t *testing.T) {
	service, getcert := program(t, "certmonger", "certmonger"), program(t, "getcert", "certmonger")
	a := newAuthority(t, false)
	h, w := handler(t, scephttp.Limits{}, a.endpoint())
	dir := t.TempDir()
	env := []string{"HOME=" + dir, "XDG_RUNTIME_DIR=" + dir}
	for name, sub := range map[string]string{"REQUESTS_DIR": "req", "CAS_DIR": "cas", "TMPDIR": "tmp", "LOCAL_CA_DIR": "local"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
		env = append(env, "CERTMONGER_"+name+"="+filepath.Join(dir, sub))
	}
	keyFile(t, dir, "c.key", 3)
	steps := `cd ` + dir + `
` + getcert + ` add-scep-ca -c probe -u "` + serve(t, h) + path + `"
sleep 2
` + getcert + ` request -c probe -I req1 -k $PWD/c.key -f $PWD/c.crt -N 'CN=cm1.example.test,O=Probe' -D cm1.example.test -L 'open sesame' -G rsa -g 2048 -w --wait-timeout 120 -v
` + getcert + ` list -i req1
cp c.crt first.crt
` + getcert + ` resubmit -i req1 -w --wait-timeout 120
` + getcert + ` list -i req1
`
	if err := os.WriteFile(filepath.Join(dir, "steps.sh"), []byte(steps), 0o700); err != nil {
		t.Fatal(err)
	}
	out, err := run(t, dir, env, service, "-L", "-P", filepath.Join(dir, "sock"), "-n", "-d", "2", "-p", filepath.Join(dir, "pid"), "-c", "sh "+filepath.Join(dir, "steps.sh"))
	if strings.Count(string(out), "status: MONITORING") != 2 {
		t.Fatalf("not monitored after enrolment and renewal: %v, observed %+v\n%s", err, w.last(t), out)
	}
	before, err := os.ReadFile(filepath.Join(dir, "first.crt"))
	if err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(filepath.Join(dir, "c.crt"))
	if err != nil {
		t.Fatal(err)
	}
	if err := parsePEM(t, before).CheckSignatureFrom(a.root); err != nil {
		t.Error(err)
	}
	if parsePEM(t, before).SerialNumber.Cmp(parsePEM(t, after).SerialNumber) == 0 {
		t.Error("the renewal brought the old certificate")
	}
	for _, r := range a.requests() {
		if r.MessageType != scep.PKCSReq {
			t.Errorf("a %v came, want PKCSReq only", r.MessageType)
		}
	}
}
