package token_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/policymodule"
	"github.com/certconnector/certconnector/policymodule/token"
	"github.com/certconnector/certconnector/scep/scepclient"
)

// recipes are the shell lines of docs/policy-token.md: how to make the pairs,
// how to make a challenge, how to look into one.
func recipes(t *testing.T) (pairs, mint, look string) {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "policy-token.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?ms)^```sh\n(.*?)^```").FindAllSubmatch(page, -1)
	if len(found) != 3 {
		t.Fatalf("%d recipes in the page, want three", len(found))
	}
	return string(found[0][1]), string(found[1][1]), string(found[2][1])
}

// shell runs lines in a folder, as somebody who copied them from the page.
func shell(t *testing.T, dir, lines string) []byte {
	t.Helper()
	c := exec.CommandContext(t.Context(), "sh", "-eu", "-c", lines)
	c.Dir = dir
	var errs bytes.Buffer
	c.Stderr = &errs
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, errs.Bytes())
	}
	return out
}

// needOpenSSL skips on a machine without openssl; where everything is meant to
// be installed, it fails.
func needOpenSSL(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("openssl is not installed")
		}
		t.Skip("openssl is not installed")
	}
}

func readPEM(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		t.Fatalf("%s is no PEM", path)
	}
	return block.Bytes
}

// readPair reads a certificate and its key.
func readPair(t *testing.T, dir, name string) (*x509.Certificate, any) {
	t.Helper()
	cert, err := x509.ParseCertificate(readPEM(t, filepath.Join(dir, name+".crt")))
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.ParsePKCS8PrivateKey(readPEM(t, filepath.Join(dir, name+".key")))
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// TestRecipe does what the page says, with openssl and a shell: a challenge
// that no line of ours made is accepted, and one that was made here is opened
// and verified.
func TestRecipe(t *testing.T) {
	needOpenSSL(t)
	pairs, mint, look := recipes(t)
	dir := t.TempDir()
	shell(t, dir, pairs)
	signer, signingKey := readPair(t, dir, "mdm")
	to, recipientKey := readPair(t, dir, "recipient")
	w := newWorld(t, func(w *world) {
		w.config.Clock = nil
		w.config.Recipients = []token.Recipient{{Certificate: to, Key: recipientKey.(*rsa.PrivateKey)}}
		w.config.Signers = []token.Signer{{Name: "mdm", Certificate: signer, Rights: everything(t), Mint: signingKey.(*ecdsa.PrivateKey)}}
	})
	csr := func() *scepclient.CSR {
		return &scepclient.CSR{Subject: pkix.Name{Organization: []string{"Corp"}, CommonName: "phone 7"}, DNSNames: []string{"phone7.corp.example"}}
	}
	challenge := func() secret.Text {
		b, err := os.ReadFile(filepath.Join(dir, "challenge.txt"))
		if err != nil {
			t.Fatal(err)
		}
		return secret.Text(b)
	}

	for name, lines := range map[string]string{
		"as it stands":                    mint,
		"with AES-128":                    strings.Replace(mint, "-aes-256-cbc", "-aes-128-cbc", 1),
		"with SHA-512":                    strings.Replace(mint, "-md sha256", "-md sha512", 1),
		"signer and recipient by key IDs": strings.NewReplacer("-nodetach", "-nodetach -keyid", "-encrypt", "-encrypt -keyid").Replace(mint),
		"with the signer's certificate":   strings.Replace(mint, "-nocerts", "", 1),
		"base64 in lines":                 strings.Replace(mint, "base64 -A", "base64", 1),
	} {
		shell(t, dir, lines)
		if d := verify(t, w.module, request(t, csr(), challenge())); !d.Granted || d.ChallengeMade.IsZero() {
			t.Errorf("%s: %s (%s)", name, d.Rule, d.Detail)
		}
	}
	for name, row := range map[string]struct {
		lines string
		rule  policymodule.Reason
	}{
		"with PKCS #1 v1.5":      {strings.Replace(mint, "-keyopt rsa_padding_mode:oaep -keyopt rsa_oaep_md:sha256", "", 1), token.RuleMalformed},
		"with OAEP's SHA-1":      {strings.Replace(mint, "-keyopt rsa_oaep_md:sha256", "", 1), token.RuleMalformed},
		"with 3DES":              {strings.Replace(mint, "-aes-256-cbc", "-des3", 1), token.RuleMalformed},
		"with GCM":               {strings.Replace(mint, "-aes-256-cbc", "-aes-256-gcm", 1), token.RuleMalformed},
		"with SHA-1":             {strings.Replace(mint, "-md sha256", "-md sha1", 1), token.RuleSignature},
		"without attributes":     {strings.Replace(mint, "-nodetach", "-nodetach -noattr", 1), token.RuleSignature},
		"without content":        {strings.Replace(mint, "-nodetach", "", 1), token.RuleMalformed},
		"claims that are a mail": {strings.Replace(mint, "-sign -binary", "-sign -text", 1), token.RuleClaims},
	} {
		shell(t, dir, row.lines)
		if d := verify(t, w.module, request(t, csr(), challenge())); d.Granted || d.Rule != row.rule {
			t.Errorf("%s: granted %v, rule %q (%s), want %q", name, d.Granted, d.Rule, d.Detail, row.rule)
		}
	}

	made, err := w.module.GenerateChallenge(t.Context(), ops(), policymodule.ChallengeWish{Subject: "CN=phone 7,O=Corp", Lifetime: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "challenge.txt"), []byte(made.Challenge.Reveal()), 0o600); err != nil {
		t.Fatal(err)
	}
	var claims struct {
		Type    string `json:"typ"`
		Subject [][]struct{ Type, Value string }
	}
	if err := json.Unmarshal(shell(t, dir, look), &claims); err != nil || claims.Type != "certconnector-challenge" || len(claims.Subject) != 2 || claims.Subject[1][0].Value != "phone 7" {
		t.Errorf("openssl reads our claims as %+v, %v", claims, err)
	}
}
