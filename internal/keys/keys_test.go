package keys_test

import (
	"crypto"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/certconnector/certconnector/internal/keys"
	"github.com/certconnector/certconnector/internal/keys/keystest"
	"github.com/certconnector/certconnector/internal/testkeys"
)

func TestKeysInFiles(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil && runtime.GOOS == "windows" {
		t.Skip("openssl is rarely there on Windows")
	} else if err != nil {
		t.Fatal("openssl is missing: install the package openssl")
	}
	k := keys.New(keys.Config{})
	for _, kind := range []keys.Kind{keys.RSA2048, keys.P256, keys.P384} {
		t.Run(string(kind), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "key.pem")
			made, err := k.Create(path, keys.File, kind)
			if err != nil {
				t.Fatal(err)
			}
			loaded, err := k.Load(path)
			if err != nil {
				t.Fatal(err)
			}
			if !made.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(loaded.Public()) {
				t.Error("another key was loaded than was made")
			}
			wantKey(t, loaded, abilities{oaep: hashes, anySalt: true})
			wantConcurrent(t, made, loaded)
			if _, err := k.Create(path, keys.File, kind); !errors.Is(err, fs.ErrExist) {
				t.Errorf("a second key in the same file: %v, want fs.ErrExist", err)
			}
			if names, err := os.ReadDir(filepath.Dir(path)); err != nil || len(names) != 1 {
				t.Errorf("%d names in the folder, %v", len(names), err)
			}
		})
	}
	if err := k.Close(); err != nil {
		t.Error(err)
	}
}

func TestCreateRefuses(t *testing.T) {
	k := keys.New(keys.Config{TPM: filepath.Join(t.TempDir(), "no-tpm")})
	for name, c := range map[string]struct {
		path  string
		where keys.Place
		kind  keys.Kind
		want  string
	}{
		"a key of a module":     {"pkcs11:token=a;object=b", keys.File, keys.P256, "their own tools"},
		"an unknown place":      {"key.pem", "cloud", keys.P256, "unknown place"},
		"an unknown kind":       {"key.pem", keys.File, "dsa", "unknown kind"},
		"an unknown TPM's kind": {"key.pem", keys.TPM, "dsa", "unknown kind"},
		"no TPM":                {"key.pem", keys.TPM, keys.P256, "is there a TPM 2.0"},
		"no folder":             {"missing/key.pem", keys.File, keys.P256, "creating"},
	} {
		t.Run(name, func(t *testing.T) {
			path := c.path
			if !keys.IsURI(path) {
				path = filepath.Join(t.TempDir(), path)
			}
			if _, err := k.Create(path, c.where, c.kind); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if _, err := os.Stat(path); err == nil {
				t.Error("a file was left")
			}
		})
	}
}

// A key's file is there although its TPM is not: fs.ErrNotExist is for files.
func TestMissingTPMIsNoMissingKey(t *testing.T) {
	dir := t.TempDir()
	k := keys.New(keys.Config{TPM: filepath.Join(dir, "no-tpm")})
	path := filepath.Join(dir, "key.pem")
	if _, err := k.Load(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v, want fs.ErrNotExist", err)
	}
	if err := os.WriteFile(path, []byte(keystest.ForeignTPMKey), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Load(path); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no TPM: %v, want another error than fs.ErrNotExist", err)
	}
}

func TestShown(t *testing.T) {
	for ref, want := range map[string]string{
		"/etc/a;pin=b":                                 "/etc/a;pin=b",
		"certstore:machine/My/00":                      "certstore:machine/My/00",
		"pkcs11:token=a;object=b?pin-source=/p":        "pkcs11:token=a;object=b?pin-source=/p",
		"pkcs11:token=a;pin=1;object=b?pin-value=1&id": "pkcs11:token=a;pin=…;object=b?pin-value=…&…",
	} {
		if got := keys.Shown(ref); got != want {
			t.Errorf("%q is shown as %q, want %q", ref, got, want)
		}
	}
}

// signer is a key that cannot decrypt, as many a device's.
type signer struct{ crypto.Signer }

// deceiver opens messages with something else.
type deceiver struct{ crypto.Signer }

func (deceiver) Decrypt(io.Reader, []byte, crypto.DecrypterOpts) ([]byte, error) {
	return make([]byte, 32), nil
}

func TestCheckDecryptsFindsKeysThatDoNot(t *testing.T) {
	for name, key := range map[string]crypto.Signer{
		"one that may sign only": signer{testkeys.RSA2048(0)}, "one that decrypts wrongly": deceiver{testkeys.RSA2048(0)},
		"an elliptic one": testkeys.P256(0),
	} {
		if err := keys.CheckDecrypts(key); err == nil {
			t.Errorf("%s passed", name)
		}
	}
	if err := keys.CheckDecrypts(testkeys.RSA2048(0)); err != nil {
		t.Error(err)
	}
	if err := keys.CheckSigns(testkeys.P256(1)); err != nil {
		t.Error(err)
	}
}

func TestReferences(t *testing.T) {
	for _, c := range []struct {
		ref   string
		uri   bool
		place keys.Place
		wrong string // "": nothing
	}{
		{"/etc/certconnector/ra.key", false, keys.File, ""},
		{`C:\ProgramData\certconnector\ra.key`, false, keys.File, ""},
		{"pkcs11:token=ra;object=signing", true, "pkcs11", ""},
		{"PKCS11:serial=0a1b;id=%01%ff?pin-source=file:/etc/pin", true, "pkcs11", ""},
		{"pkcs11:slot-id=3;object=a%3Bb;type=private", true, "pkcs11", ""},
		{"pkcs11:token=ra;object=a?module-path=/usr/lib/m.so", true, "pkcs11", ""},
		{"certstore:machine/My/00112233445566778899AABBCCDDEEFF00112233", true, "certstore", ""},
		{"certstore:machine/My", true, "certstore", "certstore:machine/My/"},
		{"pkcs11:", true, "pkcs11", "names its token"},
		{"pkcs11:object=a", true, "pkcs11", "names its token"},
		{"pkcs11:token=a;serial=b;object=c", true, "pkcs11", "one of token, serial and slot-id"},
		{"pkcs11:token=a", true, "pkcs11", "by object"},
		{"pkcs11:token=a;object=b;object=c", true, "pkcs11", "twice"},
		{"pkcs11:token=a;object", true, "pkcs11", "without a value"},
		{"pkcs11:token=a;object=%zz", true, "pkcs11", "percent"},
		{"pkcs11:token=a;object=b;type=cert", true, "pkcs11", "no private key"},
		{"pkcs11:token=a;slot-id=1;object=b", true, "pkcs11", "one of token"},
		{"pkcs11:slot-id=x;object=b", true, "pkcs11", "no number"},
		{"pkcs11:token=a;object=b;model=c", true, "pkcs11", `"model"`},
		{"pkcs11:token=a;object=b?pin-source=|/bin/cat", true, "pkcs11", "path of a file"},
		{"pkcs11:token=a;object=b?pin-value=4711", true, "pkcs11", "replace the PIN"},
		{"pkcs11:token=a;object=b;pin=4711", true, "pkcs11", `"pin"`},
		{"PKCS11:token=a;object=b?module-path=/m.so&PIN-VALUE=4711", true, "pkcs11", `"PIN-VALUE"`},
		{"pkcs11:token=a;object=b?4711", true, "pkcs11", "without a value"},
	} {
		t.Run(c.ref, func(t *testing.T) {
			if keys.IsURI(c.ref) != c.uri || keys.PlaceOfRef(c.ref) != c.place {
				t.Errorf("URI %v in %q", keys.IsURI(c.ref), keys.PlaceOfRef(c.ref))
			}
			err := keys.CheckRef(c.ref)
			if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
				t.Errorf("got %v, want %q", err, c.wrong)
			}
			if err != nil && strings.Contains(err.Error(), "4711") || strings.Contains(keys.Shown(c.ref), "4711") {
				t.Error("the PIN is shown")
			}
			if _, err := keys.New(keys.Config{}).Load(c.ref); err == nil {
				t.Error("a key that is not there was loaded")
			}
		})
	}
}

func TestKeyFilesKeepTheirSecret(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.pem")
	key := testkeys.RSA2048(2)
	if err := keys.StoreFile(path, key); err != nil {
		t.Fatal(err)
	}
	if keys.PlaceOfFile(path) != keys.File || keys.PlaceOf(key) != keys.File {
		t.Errorf("a plain key is in %q", keys.PlaceOfFile(path))
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := keys.LoadFile(path); err == nil && os.PathSeparator == '/' {
		t.Error("a key that others may read was loaded")
	}
}

func TestPlaceOfFile(t *testing.T) {
	for _, row := range []struct {
		name, content string
		want          keys.Place
	}{
		{"a plain key", "-----BEGIN PRIVATE KEY-----\n", keys.File},
		{"a key of a TPM", "-----BEGIN TSS2 PRIVATE KEY-----\n", keys.TPM},
		{"a sealed key behind its certificate", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n-----BEGIN DPAPI SEALED PRIVATE KEY-----\n", keys.DPAPI},
		{"no file", "", keys.File},
	} {
		path := filepath.Join(t.TempDir(), "key.pem")
		if row.content != "" {
			if err := os.WriteFile(path, []byte(row.content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got := keys.PlaceOfFile(path); got != row.want {
			t.Errorf("%s is in %q, want %q", row.name, got, row.want)
		}
	}
}
