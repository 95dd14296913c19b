//go:build e2ekeys && pkcs11

package keys_test

import (
	"crypto"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ThalesGroup/crypto11"
	"github.com/miekg/pkcs11"

	"github.com/certconnector/certconnector/internal/keys"
	"github.com/certconnector/certconnector/internal/keys/keystest"
	"github.com/certconnector/certconnector/internal/secret"
)

// with opens the keys of a token whose PIN is asked for by the function.
func with(t *testing.T, token *keystest.Token, pin func() (secret.Text, error)) *keys.Keys {
	t.Helper()
	return closing(t, keys.New(keys.Config{PKCS11: keys.PKCS11{Module: token.Module, PIN: pin}}))
}

func pinOf(token *keystest.Token) func() (secret.Text, error) {
	return func() (secret.Text, error) { return secret.Text(token.PIN), nil }
}

// within does something with the token as its owner.
func within(t *testing.T, token *keystest.Token, do func(*crypto11.Context) error) {
	t.Helper()
	c, err := crypto11.Configure(&crypto11.Config{Path: token.Module, TokenLabel: token.Label, Pin: token.PIN})
	if err == nil {
		err = errors.Join(do(c), c.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// imported puts a new key into the token with the token's own tool.
func imported(t *testing.T, token *keystest.Token, kind keys.Kind, object, id string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if _, err := keys.New(keys.Config{}).Create(path, keys.File, kind); err != nil {
		t.Fatal(err)
	}
	token.Import(t, path, object, id)
	return token.URI(object)
}

func TestKeysOfAToken(t *testing.T) {
	token := keystest.NewToken(t, "suite")
	refs := map[string]string{
		"rsa3072": imported(t, token, keys.RSA3072, "rsa-3072", "01"),
		"p256":    imported(t, token, keys.P256, "p-256", "02"),
		"p384":    imported(t, token, keys.P384, "p-384", "03"),
	}
	within(t, token, func(c *crypto11.Context) error {
		_, err := c.GenerateRSAKeyPairWithLabel([]byte{0x10}, []byte("made there"), 2048)
		return err
	})
	pinFile := filepath.Join(t.TempDir(), "pin")
	if err := os.WriteFile(pinFile, []byte(token.PIN+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	refs["rsa2048"] = "pkcs11:token=suite;id=%10;object=made%20there?module-path=" + token.Module + "&pin-source=file:" + pinFile
	k := with(t, token, pinOf(token))
	var list []crypto.Signer
	for name, ref := range refs {
		t.Run(name, func(t *testing.T) {
			key, err := k.Load(ref)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, key)
			wantKey(t, key, abilities{oaep: hashes[:1], anySalt: true})
			if err := keys.StoreFile(filepath.Join(t.TempDir(), "k"), key); err == nil {
				t.Error("the key left its token")
			}
		})
	}
	t.Run("at once", func(t *testing.T) { wantConcurrent(t, list...) })
}

func TestTokenThatMayNotDecrypt(t *testing.T) {
	token := keystest.NewToken(t, "signs")
	within(t, token, func(c *crypto11.Context) error {
		public, err := crypto11.NewAttributeSetWithIDAndLabel([]byte{1}, []byte("ra"))
		if err != nil {
			return err
		}
		private := public.Copy()
		if err := private.Set(crypto11.CkaDecrypt, false); err != nil {
			return err
		}
		_, err = c.GenerateRSAKeyPairWithAttributes(public, private, 2048)
		return err
	})
	key, err := with(t, token, pinOf(token)).Load(token.URI("ra"))
	if err != nil {
		t.Fatal(err)
	}
	if err := keys.CheckSigns(key); err != nil {
		t.Error(err)
	}
	if err := keys.CheckDecrypts(key); err == nil || !strings.Contains(err.Error(), "CKA_DECRYPT") {
		t.Errorf("got %v, want what to change", err)
	}
}

func TestTokenAskedInVain(t *testing.T) {
	token := keystest.NewToken(t, "vain")
	ref := imported(t, token, keys.P256, "key", "01")
	second := imported(t, token, keys.P256, "twin", "02")
	imported(t, token, keys.P256, "twin", "03")
	wrong := func() (secret.Text, error) { return "000000", nil }
	for name, c := range map[string]struct {
		module, ref string
		pin         func() (secret.Text, error)
		want        string
	}{
		"a token that is not there":    {token.Module, "pkcs11:token=other;object=key", pinOf(token), `"other"`},
		"a key that is not there":      {token.Module, "pkcs11:token=vain;object=other", pinOf(token), "0 key pairs"},
		"a name of two keys":           {token.Module, second, pinOf(token), "2 key pairs"},
		"a wrong PIN":                  {token.Module, ref, wrong, "wrong PIN"},
		"no PIN":                       {token.Module, ref, nil, "0 key pairs"},
		"a PIN that cannot be read":    {token.Module, ref, func() (secret.Text, error) { return "", errors.New("no such file") }, "no such file"},
		"no module":                    {"", ref, pinOf(token), "keys.pkcs11.module"},
		"a module that is not there":   {"/nonexistent/module.so", ref, pinOf(token), "cannot be read"},
		"a module that is no library":  {token.Config, ref, pinOf(token), "module"},
		"a pin-source others may read": {token.Module, ref + "?pin-source=" + token.Config, pinOf(token), "open to other users"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.Chmod(token.Config, 0o644); err != nil {
				t.Fatal(err)
			}
			k := closing(t, keys.New(keys.Config{PKCS11: keys.PKCS11{Module: c.module, PIN: c.pin}}))
			if _, err := k.Load(c.ref); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// TestWrongPINIsTriedOnce protects the token, which counts.
func TestWrongPINIsTriedOnce(t *testing.T) {
	token := keystest.NewToken(t, "locks")
	ref := imported(t, token, keys.P256, "key", "01")
	pin := secret.Text("000000")
	k := with(t, token, func() (secret.Text, error) { return pin, nil })
	for i := range 5 {
		_, err := k.Load(ref)
		if !errors.Is(err, keys.ErrPINRefused) || i > 0 && !strings.Contains(err.Error(), "not asked again") || strings.Contains(err.Error(), "000000") {
			t.Errorf("attempt %d: %v", i+1, err)
		}
	}
	pin = secret.Text(token.PIN)
	if _, err := k.Load(ref); err != nil {
		t.Errorf("with the right PIN: %v", err)
	}
}

func TestSessionsThatAreLost(t *testing.T) {
	token := keystest.NewToken(t, "lost")
	k := with(t, token, pinOf(token))
	key, err := k.Load(imported(t, token, keys.RSA2048, "key", "01"))
	if err != nil {
		t.Fatal(err)
	}
	lose := func() { // as a device does that was reset
		module := pkcs11.New(token.Module)
		slots, err := module.GetSlotList(true)
		if err != nil {
			t.Fatal(err)
		}
		for _, slot := range slots {
			if err := module.CloseAllSessions(slot); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 3 {
		lose()
		if err := keys.CheckSigns(key); err != nil {
			t.Error(err)
		}
		lose()
		wantConcurrent(t, key)
	}
	if err := k.Close(); err != nil {
		t.Error(err)
	}
	if err := keys.CheckDecrypts(key); err != nil {
		t.Errorf("after Close: %v", err)
	}
}
