package embedded_test

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/catest"
	"github.com/certconnector/certconnector/ca/embedded"
)

// openssl runs the command, which is a second opinion on every byte.
func openssl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "openssl", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func writePEM(t *testing.T, path string, cert *x509.Certificate) {
	t.Helper()
	b := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestOpenSSL(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Fatal("openssl is missing: install the package openssl")
	}
	for _, kind := range []embedded.KeyKind{embedded.RSA2048, embedded.P256, embedded.P384} {
		t.Run(string(kind), func(t *testing.T) {
			dir := caFolder(t, kind)
			authority := mustOpen(t, embedded.Config{Dir: dir, CRLURLs: []string{"http://pki.contoso.example/ca.crl"}})
			root, leaf, crl := filepath.Join(dir, embedded.ChainFile), filepath.Join(dir, "leaf.pem"), filepath.Join(dir, "ca.crl")
			got, err := authority.Issue(t.Context(), ca.Request{CSR: catest.NewCSR(t, catest.CSROptions{RawSubject: catest.OddSubject(t), RawSAN: catest.OddSAN(t)})})
			if err != nil {
				t.Fatal(err)
			}
			writePEM(t, leaf, got.Certificate)
			openssl(t, "verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", root, leaf)

			text := openssl(t, "x509", "-in", leaf, "-noout", "-text", "-nameopt", "utf8,sep_comma_plus")
			for _, want := range []string{
				"X509v3 Key Usage: critical\n                Digital Signature, Key Encipherment\n",
				"X509v3 Extended Key Usage: \n                TLS Web Client Authentication\n",
				"X509v3 Basic Constraints: critical\n                CA:FALSE\n",
				"X509v3 Subject Key Identifier: \n", "X509v3 Authority Key Identifier: \n",
				"URI:http://pki.contoso.example/ca.crl\n",
				"URI:tag:microsoft.com,2022-09-14:sid:S-1-5-21-1111111111-2222222222-3333333333-1001, othername: UPN::",
				"Zoë's  Gerät", "Devices+OU=Field",
			} {
				if !strings.Contains(text, want) {
					t.Errorf("%q is not in\n%s", want, text)
				}
			}
			openssl(t, "pkey", "-in", filepath.Join(dir, embedded.KeyFile), "-check", "-noout")

			if err := authority.Revoke(t.Context(), got.Certificate.SerialNumber, ca.KeyCompromise); err != nil {
				t.Fatal(err)
			}
			der, err := authority.CRL(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(crl, der, 0o600); err != nil {
				t.Fatal(err)
			}
			text = openssl(t, "crl", "-inform", "DER", "-in", crl, "-CAfile", root, "-text", "-noout")
			for _, want := range []string{
				"verify OK", "Version 2", "X509v3 CRL Number: \n                1\n", "X509v3 Authority Key Identifier: \n",
				strings.ToUpper(got.Certificate.SerialNumber.Text(16)), "X509v3 CRL Reason Code: \n                Key Compromise\n",
			} {
				if !strings.Contains(text, want) {
					t.Errorf("%q is not in\n%s", want, text)
				}
			}
			openssl(t, "crl", "-inform", "DER", "-in", crl, "-out", crl+".pem")
			out, err := exec.CommandContext(t.Context(), "openssl", "verify", "-crl_check", "-CAfile", root, "-CRLfile", crl+".pem", leaf).CombinedOutput()
			if err == nil || !strings.Contains(string(out), "certificate revoked") {
				t.Errorf("openssl does not see the revocation: %v\n%s", err, out)
			}
		})
	}
}
