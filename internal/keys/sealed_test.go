package keys

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/certconnector/certconnector/internal/testkeys"
)

func pkcs8(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func writeBlocks(t *testing.T, blocks ...*pem.Block) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "key.pem")
	var b bytes.Buffer
	for _, block := range blocks {
		if err := pem.Encode(&b, block); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// What cannot be sealed stays as it was.
func TestSealRefuses(t *testing.T) {
	key := &pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8(t, testkeys.P256(0))}
	for name, row := range map[string]struct {
		blocks []*pem.Block
		why    string
	}{
		"a file without a key": {[]*pem.Block{{Type: "CERTIFICATE", Bytes: []byte("x")}}, "no private key"},
		"a sealed key":         {[]*pem.Block{{Type: pemSealed, Bytes: []byte("x")}}, "sealed already"},
		"a key of a TPM":       {[]*pem.Block{{Type: pemTSS2, Bytes: []byte("x")}}, "in a TPM"},
		"a damaged key":        {[]*pem.Block{{Type: "PRIVATE KEY", Bytes: []byte("x")}}, "asn1"},
		"two keys":             {[]*pem.Block{key, key}, "two private keys"},
	} {
		t.Run(name, func(t *testing.T) {
			if runtime.GOOS != "windows" && name == "two keys" {
				row.why = "Windows alone" // the first of them is tried
			}
			path := writeBlocks(t, row.blocks...)
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := Seal(path, ScopeMachine); err == nil || !strings.Contains(err.Error(), row.why) {
				t.Errorf("error %v, want one that says %q", err, row.why)
			}
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
				t.Errorf("the file was changed: %v", err)
			}
			if left, err := filepath.Glob(path + ".*"); err != nil || len(left) != 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
	if err := Seal(filepath.Join(t.TempDir(), "missing"), ScopeMachine); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

func TestScopes(t *testing.T) {
	for text, want := range map[string]Scope{"": ScopeMachine, "machine": ScopeMachine, "user": ScopeUser, "domain": ""} {
		if got, err := ParseScope(text); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}

func TestSealedKeyOfAnotherSystem(t *testing.T) {
	path := writeBlocks(t, &pem.Block{Type: pemSealed, Bytes: []byte("of another machine")})
	_, err := New(Config{}).Load(path)
	want := "Windows alone"
	if runtime.GOOS == "windows" {
		want = "sealed on another machine"
	}
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want one that says %q", err, want)
	}
}

// A kill between the second name and the renaming leaves both names on one file.
func TestBothNamesOfOneKeyAreNotOverwritten(t *testing.T) {
	path := writeBlocks(t, &pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8(t, testkeys.P256(0))})
	if err := os.Link(path, path+leftover); err != nil {
		t.Fatal(err)
	}
	if err := dropLeftover(path); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadFile(path); err != nil {
		t.Errorf("the only key is lost: %v", err)
	}
	if _, err := os.Lstat(path + leftover); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the second name is still there: %v", err)
	}
}

func TestALeftoverIsOverwrittenOnlyIfItIsAFile(t *testing.T) {
	path := writeBlocks(t, &pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8(t, testkeys.P256(0))})
	other := filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(other, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(other, path+leftover); err != nil {
		t.Skip("no links here: ", err)
	}
	if info, err := os.Lstat(path + leftover); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Skip("links do not look like links here, as in Wine: ", err)
	}
	for _, do := range []func() error{func() error { return Seal(path, ScopeMachine) }, func() error { return dropLeftover(path) }} {
		if err := do(); err == nil {
			t.Error("a link was taken for an old key")
		}
		if b, err := os.ReadFile(other); err != nil || string(b) != "precious" {
			t.Errorf("what the link leads to holds %q, %v", b, err)
		}
	}
	second := filepath.Join(t.TempDir(), "second")
	if err := os.Link(other, second); err != nil {
		t.Fatal(err)
	}
	if err := wipe(second); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(other); err != nil || string(b) != strings.Repeat("\x00", len("precious")) {
		t.Errorf("an old key still says %q, %v", b, err)
	}
}

// Where DPAPI cannot be asked, what an earlier run has left is all there is.
func TestSealOnAnotherSystemTouchesNothing(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has DPAPI")
	}
	path := writeBlocks(t, &pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8(t, testkeys.P256(0))})
	if err := os.WriteFile(path+leftover, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Seal(path, ScopeMachine); err == nil || !strings.Contains(err.Error(), "Windows alone") {
		t.Errorf("got %v", err)
	}
	if b, err := os.ReadFile(path + leftover); err != nil || string(b) != "old" {
		t.Errorf("the old key is %q, %v", b, err)
	}
}
