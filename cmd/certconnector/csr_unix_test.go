//go:build unix

package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestCSRForAnotherAccount: in a folder of root's own root makes the pair that
// the service reads, as an administrator does in /etc/certconnector.
func TestCSRForAnotherAccount(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Fatal("openssl is missing: install the package openssl")
	}
	const service = 12345
	base := t.TempDir()
	etc, state := filepath.Join(base, "etc"), filepath.Join(base, "var")
	for _, folder := range []string{etc, state, filepath.Join(etc, "tls")} {
		if err := os.Mkdir(folder, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(state, service, service); err != nil {
		t.Fatal(err)
	}
	must := func(args ...string) {
		t.Helper()
		var said bytes.Buffer
		if code := run(args, io.Discard, &said); code != 0 {
			t.Fatalf("%v: exit code %d: %s", args, code, said.String())
		}
	}
	must("init", "--dir", etc, "--state-dir", state, "--hostname", "127.0.0.1", "--listen", "127.0.0.1:0", "--policy", "static", "--ca-key", "p256")
	config := filepath.Join(etc, "certconnector.yaml")
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	former := filepath.Join(state, "tls")
	elsewhere := strings.NewReplacer(former, filepath.Join(etc, "tls")).Replace(string(text))
	if elsewhere == string(text) {
		t.Fatalf("%s is not in the configuration:\n%s", former, text)
	}
	if err := os.WriteFile(config, []byte(elsewhere), 0o640); err != nil {
		t.Fatal(err)
	}
	must("csr", "tls", "--hostname", "127.0.0.1", "--key", "p256", "--config", config)
	c := exec.CommandContext(t.Context(), "openssl", "x509", "-req", "-in", filepath.Join(etc, "tls", "tls.crt.pem.csr.pem"), "-out", filepath.Join(base, "answer.pem"),
		"-CA", filepath.Join(state, "ca", "ca.crt.pem"), "-CAkey", filepath.Join(state, "ca", "ca.key.pem"), "-days", "100", "-copy_extensions", "copyall", "-set_serial", "7")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("openssl: %v\n%s", err, out)
	}
	must("csr", "tls", "--complete", filepath.Join(base, "answer.pem"), "--chain", filepath.Join(state, "ca", "ca.crt.pem"), "--config", config)
	for _, name := range []string{"tls.crt.pem", "tls.key.pem"} {
		info, err := os.Lstat(filepath.Join(etc, "tls", name))
		if err != nil {
			t.Fatal(err)
		}
		if s := info.Sys().(*syscall.Stat_t); s.Uid != service || s.Gid != service {
			t.Errorf("%s belongs to %d:%d, and the service is %d", name, s.Uid, s.Gid, service)
		}
	}
}
