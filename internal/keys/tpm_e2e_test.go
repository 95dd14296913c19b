//go:build e2ekeys

package keys_test

import (
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/certconnector/certconnector/internal/keys"
	"github.com/certconnector/certconnector/internal/keys/keystest"
)

func made(t *testing.T, k *keys.Keys, kind keys.Kind) (crypto.Signer, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), string(kind))
	key, err := k.Create(path, keys.TPM, kind)
	if err != nil {
		t.Fatal(err)
	}
	return key, path
}

func closing(t *testing.T, k *keys.Keys) *keys.Keys {
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return k
}

func TestKeysOfATPM(t *testing.T) {
	k := closing(t, keys.New(keys.Config{TPM: keystest.NewTPM(t).Socket}))
	for _, kind := range []keys.Kind{keys.RSA2048, keys.RSA3072, keys.P256, keys.P384} {
		t.Run(string(kind), func(t *testing.T) {
			_, path := made(t, k, kind)
			if keys.PlaceOfFile(path) != keys.TPM {
				t.Errorf("the file says %q", keys.PlaceOfFile(path))
			}
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%v, %v", info, err)
			}
			key, err := k.Load(path)
			if err != nil {
				t.Fatal(err)
			}
			if keys.PlaceOf(key) != keys.TPM {
				t.Errorf("the key says %q", keys.PlaceOf(key))
			}
			wantKey(t, key, abilities{oaep: hashes[:3], anySalt: true})
			if _, err := k.Create(path, keys.TPM, kind); !errors.Is(err, fs.ErrExist) {
				t.Errorf("a second key in the same file: %v", err)
			}
			again := path + ".copy"
			if err := keys.StoreFile(again, key); err != nil {
				t.Fatal(err)
			}
			if copied, err := k.Load(again); err != nil || !copied.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(key.Public()) {
				t.Errorf("a copy of the file: %v", err)
			}
		})
	}
	t.Run("a size it does not have", func(t *testing.T) {
		if _, err := k.Create(filepath.Join(t.TempDir(), "k"), keys.TPM, keys.RSA4096); err == nil || !strings.Contains(err.Error(), "does not support") {
			t.Errorf("got %v", err)
		}
	})
}

// TestMoreKeysThanSlots uses four keys in turn and at once, of which a TPM
// has two in memory.
func TestMoreKeysThanSlots(t *testing.T) {
	k := closing(t, keys.New(keys.Config{TPM: keystest.NewTPM(t).Socket}))
	var list []crypto.Signer
	for _, kind := range []keys.Kind{keys.RSA2048, keys.P256, keys.RSA2048, keys.P384} {
		key, _ := made(t, k, kind)
		list = append(list, key)
	}
	wantConcurrent(t, list...)
}

func TestTPMThatGoesAway(t *testing.T) {
	device := keystest.NewTPM(t)
	k := closing(t, keys.New(keys.Config{TPM: device.Socket}))
	key, _ := made(t, k, keys.RSA2048)
	device.Stop()
	for range 2 {
		if err := keys.CheckSigns(key); err == nil || !strings.Contains(err.Error(), device.Socket) {
			t.Errorf("without the device: %v, want its name", err)
		}
	}
	device.Start()
	wantConcurrent(t, key)
	device.Stop() // it comes back before anybody asks
	device.Start()
	if err := keys.CheckDecrypts(key); err != nil {
		t.Errorf("after it came back: %v", err)
	}
	if err := k.Close(); err != nil {
		t.Error(err)
	}
	if err := keys.CheckSigns(key); err != nil {
		t.Errorf("after Close: %v", err)
	}
}

// TestProcessThatWasKilled finds the memory of a TPM without a resource
// manager full of what somebody else has left there.
func TestProcessThatWasKilled(t *testing.T) {
	device := keystest.NewTPM(t)
	conn, err := net.Dial("unix", device.Socket)
	if err != nil {
		t.Fatal(err)
	}
	for {
		_, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(transport.FromReadWriter(conn))
		if errors.Is(err, tpm2.TPMRCObjectMemory) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	key, _ := made(t, closing(t, keys.New(keys.Config{TPM: device.Socket})), keys.P256)
	if err := keys.CheckSigns(key); err != nil {
		t.Error(err)
	}
}

func TestKeyOfAnotherTPM(t *testing.T) {
	_, path := made(t, closing(t, keys.New(keys.Config{TPM: keystest.NewTPM(t).Socket})), keys.P256)
	other := closing(t, keys.New(keys.Config{TPM: keystest.NewTPM(t).Socket}))
	if _, err := other.Load(path); err == nil || !strings.Contains(err.Error(), "this TPM did not make the key") {
		t.Errorf("got %v", err)
	}
	if _, err := keys.LoadFile(path); err == nil {
		t.Error("who knows no TPM read it")
	}
}

// TestTPMKeysBothWays has openssl's provider tpm2 use our keys, and reads its.
func TestTPMKeysBothWays(t *testing.T) {
	if matches, _ := filepath.Glob("/usr/lib*/*/ossl-modules/tpm2.so"); len(matches) == 0 {
		t.Fatal("openssl's provider tpm2 is not installed: apt-get install tpm2-openssl (make e2e-keys does it)")
	}
	device := keystest.NewTPM(t)
	k := keys.New(keys.Config{TPM: device.Socket})
	tpm := func(args ...string) {
		t.Helper()
		if err := k.Close(); err != nil { // the simulator has one guest at a time
			t.Fatal(err)
		}
		args = append(args[:1:1], append([]string{"-provider", "tpm2", "-provider", "default", "-propquery", "?provider=tpm2"}, args[1:]...)...)
		c := exec.CommandContext(t.Context(), "openssl", args...)
		c.Env = append(os.Environ(), "TPM2OPENSSL_TCTI=swtpm:path="+device.Socket)
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("openssl %s with the provider tpm2: %v\n%s", args[0], err, out)
		}
	}
	dir := t.TempDir()
	for _, kind := range []keys.Kind{keys.RSA2048, keys.P256} {
		key, path := made(t, k, kind)
		public, message, out := publicFile(t, dir, key.Public()), file(t, dir, "message", []byte("message")), filepath.Join(dir, "out")
		tpm("dgst", "-sha256", "-sign", path, "-out", out, message)
		openssl(t, "dgst", "-sha256", "-verify", public, "-signature", out, message)
		if kind != keys.RSA2048 {
			continue
		}
		sealed := file(t, dir, "sealed", opensslEncrypts(t, key.Public(), "message"))
		tpm("pkeyutl", "-decrypt", "-inkey", path, "-in", sealed, "-out", out)
		if b, err := os.ReadFile(out); err != nil || string(b) != "message" {
			t.Errorf("openssl opened %q, %v", b, err)
		}
	}
	for i, options := range [][]string{{"-algorithm", "RSA", "-pkeyopt", "bits:2048"}, {"-algorithm", "EC", "-pkeyopt", "group:P-256"}} {
		path := file(t, dir, fmt.Sprintf("theirs-%d", i), nil)
		tpm(append([]string{"genpkey", "-out", path}, options...)...)
		key, err := k.Load(path)
		if err != nil {
			t.Fatal(err)
		}
		wantKey(t, key, abilities{anySalt: true})
	}
	if err := k.Close(); err != nil {
		t.Error(err)
	}
}
