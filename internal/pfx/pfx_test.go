package pfx_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/internal/pfx"
	"github.com/certconnector/certconnector/internal/testkeys"
)

func certificate(t *testing.T, name string, key crypto.Signer, issuer *x509.Certificate, issuerKey crypto.Signer) *x509.Certificate {
	t.Helper()
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(4711), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true, IsCA: issuer == nil,
	}
	if issuer == nil {
		issuer, issuerKey = tmpl, key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, issuer, key.Public(), issuerKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// openssl runs the other implementation that must read what we write.
func openssl(t *testing.T, args ...string) (string, error) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "openssl", args...).CombinedOutput()
	return string(out), err
}

func TestOpenSSLOpensTheFile(t *testing.T) {
	root := certificate(t, "root", testkeys.RSA2048(0), nil, nil)
	for _, row := range []struct {
		name string
		key  crypto.Signer
	}{{"an RSA key", testkeys.RSA2048(1)}, {"an ECDSA key", testkeys.P256(0)}} {
		t.Run(row.name, func(t *testing.T) {
			leaf := certificate(t, "leaf", row.key, root, testkeys.RSA2048(0))
			der, password, err := pfx.Encode(row.key, leaf, []*x509.Certificate{root})
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			file, pass := filepath.Join(dir, "a.pfx"), filepath.Join(dir, "password")
			for name, content := range map[string][]byte{file: der, pass: []byte(password.Reveal())} {
				if err := os.WriteFile(name, content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			out, err := openssl(t, "pkcs12", "-in", file, "-passin", "file:"+pass, "-noenc")
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			checkContent(t, []byte(out), row.key, leaf, root)
			if out, err := openssl(t, "pkcs12", "-in", file, "-passin", "pass:another", "-noenc"); err == nil {
				t.Errorf("another password opens it too: %s", out)
			}
			if key, cert, chain, err := pfx.Decode(der, password); err != nil || !cert.Equal(leaf) || len(chain) != 1 || !chain[0].Equal(root) ||
				!row.key.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(key.Public()) {
				t.Errorf("read back: %v, %v, %v", cert, chain, err)
			}
			if _, _, _, err := pfx.Decode(der, "another"); err == nil {
				t.Error("another password reads it too")
			}
			out, err = openssl(t, "pkcs12", "-in", file, "-passin", "file:"+pass, "-info", "-noout")
			if err != nil || strings.Count(out, "PBES2, PBKDF2, AES-256-CBC, Iteration 2048, PRF hmacWithSHA256") != 2 || !strings.Contains(out, "MAC: sha256") {
				t.Errorf("algorithms: %v: %s", err, out)
			}
		})
	}
}

// checkContent wants exactly the key and the certificates in what openssl printed.
func checkContent(t *testing.T, out []byte, key crypto.Signer, certs ...*x509.Certificate) {
	t.Helper()
	var seen [][]byte
	keys := 0
	for block, rest := pem.Decode(out); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			seen = append(seen, block.Bytes)
			continue
		}
		got, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		switch want := key.(type) {
		case *rsa.PrivateKey:
			if !want.Equal(got) {
				t.Error("the file has another key")
			}
		case *ecdsa.PrivateKey:
			if !want.Equal(got) {
				t.Error("the file has another key")
			}
		}
		keys++
	}
	if keys != 1 || len(seen) != len(certs) {
		t.Fatalf("%d keys and %d certificates, want 1 and %d", keys, len(seen), len(certs))
	}
	for i, c := range certs {
		if !bytes.Equal(seen[i], c.Raw) {
			t.Errorf("certificate %d is another", i)
		}
	}
}

func TestPasswordsDiffer(t *testing.T) {
	leaf := certificate(t, "leaf", testkeys.P256(0), nil, nil)
	seen := map[string]bool{}
	for range 4 {
		_, password, err := pfx.Encode(testkeys.P256(0), leaf, nil)
		if err != nil {
			t.Fatal(err)
		}
		// 26 characters of 32 are 130 bits.
		if text := password.Reveal(); len(text) < 26 || seen[text] || strings.Trim(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") != "" {
			t.Errorf("password of %d characters, seen before: %v", len(text), seen[text])
		}
		seen[password.Reveal()] = true
	}
}

func TestWhatDoesNotFitIsRefused(t *testing.T) {
	leaf := certificate(t, "leaf", testkeys.RSA2048(1), nil, nil)
	for _, row := range []struct {
		name string
		key  crypto.Signer
		leaf *x509.Certificate
	}{
		{"no key", nil, leaf},
		{"no certificate", testkeys.RSA2048(1), nil},
		{"another key", testkeys.RSA2048(2), leaf},
		{"a key of another type", testkeys.P256(0), leaf},
	} {
		t.Run(row.name, func(t *testing.T) {
			if der, password, err := pfx.Encode(row.key, row.leaf, nil); err == nil || der != nil || password != "" {
				t.Errorf("error %v, %d octets", err, len(der))
			}
		})
	}
}
