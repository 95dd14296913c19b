package secret_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/certconnector/certconnector/internal/secret"
)

func TestTextShowsNothing(t *testing.T) {
	const hidden = "correct horse battery staple"
	text := secret.Text(hidden)
	marshalled, err := json.Marshal(map[string]secret.Text{"challenge": text})
	if err != nil {
		t.Fatal(err)
	}
	for _, printed := range []string{
		fmt.Sprint(text), fmt.Sprintf("%s %v %+v %#v %q", text, text, text, text, text), string(marshalled),
		fmt.Sprintf("%v", struct{ T secret.Text }{text}),
	} {
		if strings.Contains(printed, "horse") {
			t.Errorf("printed as %q", printed)
		}
	}
	if text.Reveal() != hidden {
		t.Error("Reveal does not return the secret")
	}
}

func newSealer(t *testing.T, key byte) *secret.Sealer {
	t.Helper()
	s, err := secret.NewSealer(bytes.Repeat([]byte{key}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSealedOpensWithItsKeyAndLabelOnly(t *testing.T) {
	s := newSealer(t, 1)
	sealed := s.Seal("csr", []byte("record"))
	if bytes.Contains(sealed, []byte("record")) || bytes.Equal(sealed, s.Seal("csr", []byte("record"))) {
		t.Error("a sealed record shows its content, or that it is equal to another")
	}
	if got, err := s.Open("csr", sealed); err != nil || string(got) != "record" {
		t.Errorf("got %q, %v", got, err)
	}
	changed := bytes.Clone(sealed)
	changed[len(changed)-1] ^= 1
	for name, open := range map[string]func() ([]byte, error){
		"another label": func() ([]byte, error) { return s.Open("parked", sealed) },
		"another key":   func() ([]byte, error) { return newSealer(t, 2).Open("csr", sealed) },
		"a changed bit": func() ([]byte, error) { return s.Open("csr", changed) },
		"nothing":       func() ([]byte, error) { return s.Open("csr", nil) },
	} {
		if _, err := open(); !errors.Is(err, secret.ErrSealed) {
			t.Errorf("%s: %v, want ErrSealed", name, err)
		}
	}
}

func TestChallengeIDTellsScopesAndKeysApart(t *testing.T) {
	s := newSealer(t, 1)
	id := s.ChallengeID("contoso", "challenge")
	if id != s.ChallengeID("contoso", "challenge") {
		t.Error("one challenge has two IDs")
	}
	for name, other := range map[string]string{
		"another scope":            s.ChallengeID("fabrikam", "challenge"),
		"another challenge":        s.ChallengeID("contoso", "challengf"),
		"scope and text moved":     s.ChallengeID("contosoc", "hallenge"),
		"another host's local key": newSealer(t, 2).ChallengeID("contoso", "challenge"),
	} {
		if other == id {
			t.Errorf("%s: the same ID", name)
		}
	}
}

func TestKeyFileIsMadeOnceAndPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "local.key")
	if err := secret.CreateKeyFile(path); err != nil {
		t.Fatal(err)
	}
	if err := secret.CreateKeyFile(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second key: %v, want fs.ErrExist", err)
	}
	if _, err := secret.LoadSealer(path); err != nil {
		t.Error(err)
	}
	if runtime.GOOS != "windows" {
		if err := os.Chmod(path, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := secret.LoadSealer(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("a key that others may read: %v, want the way out", err)
		}
	}
	if err := os.WriteFile(path, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := secret.LoadSealer(path); err == nil {
		t.Error("a key of five bytes was taken")
	}
	if _, err := secret.LoadSealer(path + ".mistyped"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}
