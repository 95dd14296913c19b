//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// need says which package brings a program that is missing. Its tests are
// part of what "make e2e" proves, so they fail rather than skip.
func need(t *testing.T, program, debianPackage string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Fatalf("%s is missing; on Debian: apt-get install --no-install-recommends %s", program, debianPackage)
	}
}

// outcome is how a foreign program ended.
type outcome struct {
	stdout, stderr string
	err            error
}

// execute runs a foreign program in a folder.
func execute(t *testing.T, dir string, env []string, name string, args ...string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	return outcome{out.String(), errs.String(), err}
}

// must is execute for what has to succeed; it returns standard output.
func must(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	o := execute(t, dir, nil, name, args...)
	if o.err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), o.err, o.stdout, o.stderr)
	}
	return o.stdout
}

// writeKey writes a key as the foreign clients read it.
func writeKey(t *testing.T, path string, key *rsa.PrivateKey) string {
	t.Helper()
	writeFile(t, path, pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
	return path
}

// parsePEM reads a certificate that a program wrote to standard output.
func parsePEM(t *testing.T, text string) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		t.Fatalf("no PEM: %.300q", text)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}
