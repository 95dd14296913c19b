package embedded_test

import (
	"crypto"
	"math/big"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ocsp"

	"github.com/certconnector/certconnector/ca/catest"
	"github.com/certconnector/certconnector/ca/embedded"
	"github.com/certconnector/certconnector/internal/testkeys"
)

// TestOpenSSLAsksByOCSP has openssl ask and verify, and decide with the answer.
func TestOpenSSLAsksByOCSP(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Fatal("openssl is missing: install the package openssl")
	}
	t.Setenv("no_proxy", "127.0.0.1") // openssl asks the proxy of the environment else
	for _, kind := range []embedded.KeyKind{embedded.RSA2048, embedded.P256, embedded.P384} {
		t.Run(string(kind), func(t *testing.T) {
			dir := caFolder(t, kind)
			authority := mustOpen(t, embedded.Config{Dir: dir})
			r := newResponder(t, embedded.ResponderConfig{CAs: []*embedded.CA{authority}})
			server := httptest.NewServer(r)
			defer server.Close()
			root := filepath.Join(dir, embedded.ChainFile)
			askOpenSSL := func(args ...string) string {
				t.Helper()
				all := append([]string{"ocsp", "-url", server.URL + "/ocsp", "-issuer", root, "-CAfile", root, "-resp_text"}, args...)
				return openssl(t, all...)
			}
			good, revoked := issueOne(t, authority), issueRevoked(t, authority)
			leaf := filepath.Join(dir, "leaf.pem")
			writePEM(t, leaf, good)
			for name, c := range map[string]struct {
				args []string
				want []string
			}{
				"good, with a nonce": {[]string{"-cert", leaf}, []string{": good", "OCSP Nonce"}},
				"good, without":      {[]string{"-no_nonce", "-cert", leaf}, []string{": good", "OCSP No Check", "OCSP Signing"}},
				"good, by SHA-256":   {[]string{"-no_nonce", "-sha256", "-cert", leaf}, []string{": good", "Hash Algorithm: sha256"}},
				"revoked":            {[]string{"-serial", "0x" + revoked.Text(16)}, []string{": revoked", "Reason: keyCompromise"}},
				"signed request":     {[]string{"-cert", leaf, "-signer", root, "-signkey", filepath.Join(dir, embedded.KeyFile)}, []string{": good"}},
				"unknown":            {[]string{"-serial", "0x1267", "-no_nonce"}, []string{": unknown"}},
			} {
				text := askOpenSSL(c.args...)
				for _, want := range append(c.want, "Response verify OK") {
					if !strings.Contains(text, want) {
						t.Errorf("%s: %q is not in\n%s", name, want, text)
					}
				}
				if strings.Contains(text, "WARNING") {
					t.Errorf("%s: %s", name, text)
				}
			}
		})
	}
}

// TestLintOCSPSigner has zlint look at the signer's certificate and at one
// with all addresses.
func TestLintOCSPSigner(t *testing.T) {
	rules := rfcLints(t)
	for _, kind := range []embedded.KeyKind{embedded.RSA2048, embedded.P256, embedded.P384} {
		authority := mustOpen(t, embedded.Config{
			Dir: caFolder(t, kind), CRLURLs: []string{"http://pki.contoso.example/ca.crl"}, DeltaCRLURLs: []string{"http://pki.contoso.example/ca+.crl"},
			OCSPURLs: []string{"http://pki.contoso.example/ocsp"}, IssuerURLs: []string{"http://pki.contoso.example/ca.cer"},
		})
		cert, err := authority.IssueOCSPSigner(t.Context(), testkeys.P256(0).Public(), 0)
		if err != nil {
			t.Fatal(err)
		}
		lintClean(t, "OCSP signer", cert, rules, "")
		lintClean(t, "leaf with a freshest CRL", issueOne(t, authority), rules, enciphers)
	}
}

// FuzzOCSP sends requests that strangers make up. The answer is always a
// response; one with a status is signed, and about what golang.org/x/crypto
// reads in the request too.
func FuzzOCSP(f *testing.F) {
	at := startOf2031()
	authority, _ := publishingCA(f, at, nil)
	r := newResponder(f, embedded.ResponderConfig{CAs: []*embedded.CA{authority}, MaxKept: 10})
	root := rootCert(f, authority)
	plain := ocspRequest(f, big.NewInt(4711), root, crypto.SHA1)
	f.Add(plain)
	f.Add(withNonce(f, plain, 16))
	f.Add(twice(f, plain))
	f.Add(ocspRequest(f, root.SerialNumber, root, crypto.SHA256))
	f.Fuzz(func(t *testing.T, der []byte) {
		if len(der) > 4096 {
			return
		}
		got, err := post(t, r, der, root)
		if err != nil {
			if _, ok := err.(ocsp.ResponseError); !ok {
				t.Fatalf("the response does not read: %v", err)
			}
			return
		}
		if want, err := ocsp.ParseRequest(der); err == nil && want.SerialNumber.Cmp(got.SerialNumber) != 0 {
			t.Errorf("asked for %v, answered for %v", want.SerialNumber, got.SerialNumber)
		}
	})
}

// BenchmarkOCSP answers about one certificate from what is kept, and with a
// nonce, which wants a signature each time.
func BenchmarkOCSP(b *testing.B) {
	at := startOf2031()
	authority, _ := publishingCA(b, at, nil)
	r := newResponder(b, embedded.ResponderConfig{CAs: []*embedded.CA{authority}})
	root := rootCert(b, authority)
	plain := ocspRequest(b, root.SerialNumber, root, crypto.SHA1)
	for name, der := range map[string][]byte{"kept": plain, "nonce": withNonce(b, plain, 32)} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				ask(b, r, "POST", "/ocsp", der, "Content-Type", ocspType)
			}
		})
	}
}

// TestOpenSSLReadsTheStore reads a signer that is kept as PEM.
func TestOpenSSLReadsTheStore(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Fatal("openssl is missing: install the package openssl")
	}
	dir := t.TempDir()
	authority := mustOpen(t, embedded.Config{Dir: caFolder(t, embedded.P256), Register: catest.NewRegister()})
	newResponder(t, embedded.ResponderConfig{CAs: []*embedded.CA{authority}, Store: embedded.NewSignerFolder(dir, nil)})
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	path := filepath.Join(dir, files[0].Name())
	openssl(t, "pkey", "-in", path, "-check", "-noout")
	if text := openssl(t, "x509", "-in", path, "-noout", "-text"); !strings.Contains(text, "OCSP Signing") {
		t.Error(text)
	}
}
