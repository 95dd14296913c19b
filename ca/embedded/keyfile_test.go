package embedded_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/certconnector/certconnector/ca/embedded"
	"github.com/certconnector/certconnector/internal/testkeys"
)

func TestKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ra.key.pem")
	for i, key := range []crypto.Signer{testkeys.RSA2048(3), testkeys.P256(0)} {
		err := embedded.StoreKey(path, key)
		if i > 0 {
			if err == nil {
				t.Error("a key was replaced")
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	loaded, err := embedded.LoadKey(path)
	if err != nil || !testkeys.RSA2048(3).Equal(loaded) {
		t.Errorf("another key came back, or %v", err)
	}
	if runtime.GOOS == "windows" {
		return
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := embedded.LoadKey(path); err == nil {
			t.Errorf("a key of mode %o was taken", mode)
		}
	}
}

func TestOlderKeyForms(t *testing.T) {
	ec, err := x509.MarshalECPrivateKey(testkeys.P256(0))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		blocks []*pem.Block
		want   crypto.Signer // nil: refused
	}{
		{"PKCS #1", []*pem.Block{{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(testkeys.RSA2048(0))}}, testkeys.RSA2048(0)},
		{"SEC 1 after its parameters", []*pem.Block{{Type: "EC PARAMETERS", Bytes: []byte{5, 0}}, {Type: "EC PRIVATE KEY", Bytes: ec}}, testkeys.P256(0)},
		{"encrypted", []*pem.Block{{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte{1}}}, nil},
		{"certificate only", []*pem.Block{{Type: "CERTIFICATE", Bytes: []byte{1}}}, nil},
		{"damaged", []*pem.Block{{Type: "PRIVATE KEY", Bytes: []byte{1}}}, nil},
		{"empty", nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "key.pem")
			var b []byte
			for _, block := range c.blocks {
				b = append(b, pem.EncodeToMemory(block)...)
			}
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			key, err := embedded.LoadKey(path)
			if c.want == nil {
				if err == nil {
					t.Errorf("took a %T", key)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !key.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(c.want.Public()) {
				t.Error("another key")
			}
		})
	}
}

func TestKeyKinds(t *testing.T) {
	if k, err := embedded.ParseKeyKind("P384"); err != nil || k != embedded.P384 {
		t.Errorf("P384 is %q, %v", k, err)
	}
	for _, bad := range []embedded.KeyKind{"", "rsa1024", "ed25519"} {
		if _, err := embedded.ParseKeyKind(string(bad)); err == nil {
			t.Errorf("%q is a kind of key", bad)
		}
		if key, err := embedded.GenerateKey(bad); err == nil || key != nil {
			t.Errorf("%q made a %T, %v", bad, key, err)
		}
	}
	key, err := embedded.GenerateKey(embedded.P384)
	if err != nil {
		t.Fatal(err)
	}
	if ec, ok := key.(*ecdsa.PrivateKey); !ok || ec.Curve.Params().BitSize != 384 {
		t.Errorf("p384 made a %T", key)
	}
}

func TestChainFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ra.crt.pem")
	now := time.Now()
	one, two := rootOf(t, testkeys.P256(0), now, now.Add(day)), rootOf(t, testkeys.P256(1), now, now.Add(day))
	if err := embedded.StoreChain(path, one, two); err != nil {
		t.Fatal(err)
	}
	if chain, err := embedded.LoadChain(path); err != nil || len(chain) != 2 || !chain[0].Equal(one) || !chain[1].Equal(two) {
		t.Errorf("%d certificates came back, or in another order; %v", len(chain), err)
	}
	if err := embedded.StoreChain(path, two); err == nil {
		t.Error("a chain was replaced")
	}
	for name, content := range map[string]string{"empty": "", "damaged": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := embedded.LoadChain(path); err == nil {
			t.Errorf("%s file was taken", name)
		}
	}
	if _, err := embedded.LoadChain(t.TempDir()); err == nil {
		t.Error("a folder was taken")
	}
}
