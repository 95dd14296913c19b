package entra_test

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/identity/entra"
	"github.com/certconnector/certconnector/internal/testkeys"
)

func TestCreatedCertificateIsWhatTheInstructionsAsk(t *testing.T) {
	w := newWorld(t)
	up, err := w.store.Create(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	der, err := os.ReadFile(up.DER)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if c.Subject.String() != "CN="+host || !slices.Equal(c.DNSNames, []string{host}) || c.IsCA || c.KeyUsage != x509.KeyUsageDigitalSignature ||
		!slices.Equal(c.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}) || c.SignatureAlgorithm != x509.SHA256WithRSA {
		t.Errorf("subject %s, names %q, key usage %b, extended %v", c.Subject, c.DNSNames, c.KeyUsage, c.ExtKeyUsage)
	}
	if !c.NotAfter.Equal(w.clock.Add(w.cfg.Lifetime)) || !c.NotBefore.Before(w.clock) {
		t.Errorf("valid from %v to %v", c.NotBefore, c.NotAfter)
	}
	guide := up.Guide("client-id")
	for _, want := range []string{up.DER, entra.Thumbprint(der), "client-id", "scep_challenge_provider", "Application.Read.All", "Application.ReadWrite.OwnedBy", "admin consent"} {
		if !strings.Contains(guide, want) {
			t.Errorf("the guide does not name %q", want)
		}
	}
	again, err := w.store.Create(t.Context())
	if err != nil || !again.Again || again.SHA256 != up.SHA256 {
		t.Errorf("a second Create before the upload: %+v, %v", again, err)
	}
	if runtime.GOOS != "windows" {
		names, err := os.ReadDir(w.cfg.Dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			if info, err := n.Info(); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s has mode %v", n.Name(), info.Mode())
			}
		}
		if info, err := os.Stat(w.cfg.Dir); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("the folder has mode %v", info.Mode())
		}
	}
}

func TestCreatedCertificateAsOpensslReadsIt(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		if runtime.GOOS == "linux" {
			t.Fatal("this test needs openssl: apt-get install openssl")
		}
		t.Skip("openssl is not installed")
	}
	w := newWorld(t)
	up, err := w.store.Create(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	text, err := exec.CommandContext(t.Context(), openssl, "x509", "-in", up.PEM, "-noout", "-text", "-fingerprint", "-sha1").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	for _, want := range []string{"TLS Web Client Authentication", "DNS:" + host, "CN = " + host, "Digital Signature", "sha256WithRSAEncryption", "CA:FALSE"} {
		if !strings.Contains(strings.ReplaceAll(string(text), "CN=", "CN = "), want) {
			t.Errorf("openssl does not say %q:\n%s", want, text)
		}
	}
	if !strings.Contains(strings.ReplaceAll(string(text), ":", ""), up.Thumbprint) {
		t.Error("openssl sees another thumbprint")
	}
	verify := exec.CommandContext(t.Context(), openssl, "verify", "-CAfile", up.PEM, "-purpose", "sslclient", "-no_check_time", up.PEM)
	if out, err := verify.CombinedOutput(); err != nil {
		t.Errorf("as a TLS client: %v: %s", err, out)
	}
}

func TestDefaultsMakeAKeyOf3072Bits(t *testing.T) {
	w := newWorld(t, func(c *entra.Config) { c.NewKey = nil; c.Lifetime = 0 })
	if _, err := w.store.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := w.store.Certificates()[0].Certificate
	if c.PublicKeyAlgorithm != x509.RSA || c.NotAfter.Sub(w.clock) != 365*day {
		t.Errorf("%v until %v", c.PublicKeyAlgorithm, c.NotAfter)
	}
	if bits := len(c.Signature) * 8; bits != 3072 {
		t.Errorf("%d bits", bits)
	}
}

func TestConfigIsRefused(t *testing.T) {
	for name, change := range map[string]func(*entra.Config){
		"no folder":                      func(c *entra.Config) { c.Dir = "" },
		"a host name with a space":       func(c *entra.Config) { c.Host = "scep 01" },
		"no host name":                   func(c *entra.Config) { c.Host = "" },
		"a key that Entra refuses":       func(c *entra.Config) { c.KeyBits = 1024 },
		"an overlap longer than a third": func(c *entra.Config) { c.Overlap = c.Lifetime / 2 },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := entra.Config{Dir: t.TempDir(), Host: host, Lifetime: 360 * day}
			change(&cfg)
			if _, err := entra.Open(cfg); err == nil {
				t.Error("was taken")
			}
		})
	}
}

// TestFilesThatAreNotRight damages one generation; it is left out and named,
// and nothing of it is overwritten or removed.
func TestFilesThatAreNotRight(t *testing.T) {
	otherKey := func(t *testing.T) []byte {
		der, err := x509.MarshalPKCS8PrivateKey(testkeys.P256(0))
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	}
	for name, damage := range map[string]func(t *testing.T, path func(ext string) string){
		"a key that others may read": func(t *testing.T, path func(string) string) { must(t, os.Chmod(path("key"), 0o644)) },
		"no key":                     func(t *testing.T, path func(string) string) { must(t, os.Remove(path("key"))) },
		"no certificate":             func(t *testing.T, path func(string) string) { must(t, os.Remove(path("pem"))) },
		"garbage as certificate":     func(t *testing.T, path func(string) string) { must(t, os.WriteFile(path("pem"), []byte("x"), 0o600)) },
		"an empty key":               func(t *testing.T, path func(string) string) { must(t, os.WriteFile(path("key"), nil, 0o600)) },
		"an elliptic key":            func(t *testing.T, path func(string) string) { must(t, os.WriteFile(path("key"), otherKey(t), 0o600)) },
		"a record cut off": func(t *testing.T, path func(string) string) {
			must(t, os.WriteFile(path("json"), []byte(`{"sta`), 0o600))
		},
		"a record of an unknown state": func(t *testing.T, path func(string) string) {
			must(t, os.WriteFile(path("json"), []byte(`{"state":"new"}`), 0o600))
		},
		"a record of another generation": func(t *testing.T, path func(string) string) {
			must(t, os.WriteFile(path("json"), []byte(`{"generation":9,"state":"made"}`), 0o600))
		},
		"a key of great size": func(t *testing.T, path func(string) string) { must(t, os.Truncate(path("key"), 1<<20)) },
	} {
		t.Run(name, func(t *testing.T) {
			if runtime.GOOS == "windows" && strings.Contains(name, "others may read") {
				t.Skip("modes are Unix's")
			}
			w := newWorld(t)
			w.created()
			damage(t, func(ext string) string { return filepath.Join(w.cfg.Dir, "0001."+ext) })
			w.open()
			items := w.store.Items()
			if len(w.store.Certificates()) != 0 || len(items) != 1 || items[0].Problem == "" || !items[0].ByHand {
				t.Fatalf("%d certificates, items %+v", len(w.store.Certificates()), items)
			}
			up, err := w.store.Create(t.Context())
			if err != nil || up.Generation != 2 {
				t.Errorf("the next one: %+v, %v", up, err)
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestAdoptedCertificateIsRotatedLikeAnyOther(t *testing.T) {
	elsewhere := newWorld(t)
	if _, err := elsewhere.store.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	uploaded := elsewhere.store.Certificates()[0]

	w := newWorld(t, func(c *entra.Config) {
		c.NewKey = func(path string, _ int) (crypto.Signer, error) { return stored(path, 5) }
	})
	w.cloud.upload(uploaded.Certificate, "by hand")
	for range 2 {
		if err := w.store.Adopt(t.Context(), uploaded); err != nil {
			t.Fatal(err)
		}
	}
	w.clock = w.clock.Add(time.Hour)
	w.pass(time.Hour, time.Minute)
	if s := w.states(); s != "1 working" {
		t.Fatalf("adopted: %s", s)
	}
	w.clock = w.clock.Add(241 * day)
	w.pass(10*day, time.Hour)
	if s := w.states(); s != "2 working" {
		t.Fatalf("rotated: %s", s)
	}
	// The configuration still names it at the next start.
	if err := w.store.Adopt(t.Context(), uploaded); err != nil || w.states() != "2 working" {
		t.Errorf("adopted again: %s, %v", w.states(), err)
	}
	other := entra.Credential{Certificate: uploaded.Certificate, Signer: testkeys.RSA2048(7)}
	if err := w.store.Adopt(t.Context(), other); err == nil {
		t.Error("a key of another certificate was adopted")
	}
}
