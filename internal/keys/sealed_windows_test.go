package keys

import (
	"bytes"
	"crypto"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/certconnector/certconnector/internal/testkeys"
)

func TestSealedKeyIsTheSameKey(t *testing.T) {
	for _, scope := range []Scope{ScopeMachine, ScopeUser} {
		t.Run(string(scope), func(t *testing.T) {
			key := testkeys.RSA2048(0)
			der := pkcs8(t, key)
			certificate := &pem.Block{Type: "CERTIFICATE", Bytes: []byte("stays")}
			path := writeBlocks(t, certificate, &pem.Block{Type: "PRIVATE KEY", Bytes: der})
			// A run that was cut short left these; both names are ours.
			for _, left := range []string{".unsealed", ".sealing"} {
				if err := os.WriteFile(path+left, der, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := Seal(path, scope); err != nil {
				t.Fatal(err)
			}
			if left, err := filepath.Glob(path + ".*"); err != nil || len(left) != 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			first, rest := pem.Decode(text)
			second, rest := pem.Decode(rest)
			if first == nil || first.Type != "CERTIFICATE" || second == nil || second.Type != pemSealed || len(rest) != 0 {
				t.Fatalf("blocks %v, %v and %d octets", first, second, len(rest))
			}
			if bytes.Contains(second.Bytes, key.D.Bytes()) {
				t.Error("the private exponent can be read")
			}
			k := New(Config{})
			loaded, err := k.Load(path)
			if err != nil {
				t.Fatal(err)
			}
			if !key.PublicKey.Equal(loaded.Public()) {
				t.Error("another key came out")
			}
			if err := CheckDecrypts(loaded); err != nil {
				t.Error(err)
			}
			if PlaceOfFile(path) != DPAPI {
				t.Errorf("a new key would be made in %q", PlaceOfFile(path))
			}
			if _, err := LoadFile(path); err != nil {
				t.Error(err)
			}
			// A kill before the old content was overwritten: the next run does it.
			if err := os.WriteFile(path+leftover, der, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := Seal(path, scope); !errors.Is(err, errSealed) {
				t.Errorf("sealing again: %v", err)
			}
			if _, err := os.Lstat(path + leftover); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the old content is still there: %v", err)
			}
		})
	}
}

func TestDamagedSealIsRefused(t *testing.T) {
	k := New(Config{})
	path := filepath.Join(t.TempDir(), "key.pem")
	made, err := k.Create(path, DPAPI, P256)
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := k.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := CheckSigns(loaded); err != nil {
		t.Error(err)
	}
	if pub, ok := made.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(loaded.Public()) {
		t.Error("another key came out")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	block.Bytes[len(block.Bytes)-30] ^= 1
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Load(path); err == nil {
		t.Error("a changed octet was not seen")
	}
}
