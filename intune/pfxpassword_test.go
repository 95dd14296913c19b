package intune_test

import (
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"hash"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/intune"
)

// A password comes back as it was under every padding, also as the import
// module of Microsoft names them.
func TestSealPFXPassword(t *testing.T) {
	key := testkeys.RSA2048(0)
	for _, row := range []struct {
		scheme intune.PFXPadding
		digest func() hash.Hash
	}{
		{"", sha512.New}, {intune.PFXPaddingNone, sha512.New}, {intune.PFXPaddingSHA256, sha256.New},
		{intune.PFXPaddingSHA384, sha512.New384}, {intune.PFXPaddingSHA512, sha512.New}, {"OaepSha256", sha256.New},
	} {
		sealed, err := intune.SealPFXPassword(&key.PublicKey, row.scheme, "pä~ss")
		if err != nil {
			t.Fatalf("%q: %v", row.scheme, err)
		}
		plain, err := rsa.DecryptOAEP(row.digest(), nil, key, sealed, nil)
		if err != nil || string(plain) != "p\xe4~ss" {
			t.Errorf("%q: opened to %q, %v; want one octet a character", row.scheme, plain, err)
		}
	}
}

func TestSealPFXPasswordRefuses(t *testing.T) {
	key := testkeys.RSA2048(0)
	for _, row := range []struct {
		name     string
		pub      *rsa.PublicKey
		scheme   intune.PFXPadding
		password string
	}{
		{"a character outside Latin-1", &key.PublicKey, "", "pass€"},
		{"an empty password", &key.PublicKey, "", ""},
		{"broken UTF-8", &key.PublicKey, "", "a\xff"},
		{"a padding that is not supported any more", &key.PublicKey, "pkcs1", "x"},
		{"an unknown padding", &key.PublicKey, "oaep", "x"},
		{"no key", nil, "", "x"},
		{"a short key", &testkeys.RSA1024().PublicKey, "", "x"},
	} {
		if _, err := intune.SealPFXPassword(row.pub, row.scheme, row.password); !errors.Is(err, intune.ErrArgument) {
			t.Errorf("%s: %v, want ErrArgument", row.name, err)
		} else if len(row.password) > 1 && strings.Contains(err.Error(), row.password) {
			t.Errorf("%s: the error shows the password", row.name)
		}
	}
}

// blob is a BCRYPT_RSAKEY_BLOB.
func blob(magic uint32, bits, exponent, modulus int, rest ...byte) []byte {
	var b []byte
	for _, n := range []uint32{magic, uint32(bits), uint32(exponent), uint32(modulus), 0, 0} {
		b = binary.LittleEndian.AppendUint32(b, n)
	}
	return append(b, rest...)
}

func TestLoadPFXPublicKey(t *testing.T) {
	key := testkeys.RSA2048(0)
	pkix, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, der []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	}
	ec, _ := x509.MarshalPKIXPublicKey(testkeys.P256(0).Public())
	small, _ := x509.MarshalPKIXPublicKey(&testkeys.RSA1024().PublicKey)
	rest := append(big.NewInt(int64(key.E)).Bytes(), key.N.Bytes()...)
	for _, row := range []struct {
		name string
		data []byte
		err  string // "": it is read
	}{
		{"PEM", block("PUBLIC KEY", pkix), ""},
		{"RSAPUBLICBLOB", blob(0x31415352, 2048, 3, 256, rest...), ""},
		{"a private key in PEM", block("PRIVATE KEY", nil), "only the public key"},
		{"a private blob", blob(0x33415352, 2048, 3, 256, rest...), "private key"},
		{"a key on a curve", block("PUBLIC KEY", ec), "RSA"},
		{"a short key", block("PUBLIC KEY", small), "2048"},
		{"a blob that is cut", blob(0x31415352, 2048, 3, 256, rest[:200]...), "lengths"},
		{"a blob of another size than it says", blob(0x31415352, 4096, 3, 256, rest...), "size"},
		{"lengths that overflow", blob(0x31415352, 2048, -1, -1, rest...), "lengths"},
		{"nothing", nil, "neither"},
	} {
		path := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(path, row.data, 0o600); err != nil {
			t.Fatal(err)
		}
		pub, err := intune.LoadPFXPublicKey(path)
		switch {
		case row.err == "" && (err != nil || !pub.Equal(&key.PublicKey)):
			t.Errorf("%s: %v, %v", row.name, pub, err)
		case row.err != "" && (err == nil || !strings.Contains(err.Error(), row.err)):
			t.Errorf("%s: error %v, want one about %q", row.name, err, row.err)
		}
	}
	if _, err := intune.LoadPFXPublicKey(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}

// FuzzPFXPublicKey feeds the reader of public keys: what it takes is a key that
// one can encrypt with.
func FuzzPFXPublicKey(f *testing.F) {
	key := testkeys.RSA2048(0)
	f.Add(blob(0x31415352, 2048, 3, 256, append(big.NewInt(int64(key.E)).Bytes(), key.N.Bytes()...)...))
	f.Add([]byte("-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		pub, err := intune.ParsePFXPublicKey(data)
		if err != nil {
			return
		}
		if pub.N.BitLen() > 4096 {
			return // slow, but right
		}
		if _, err := intune.SealPFXPassword(pub, "", "x"); err != nil {
			t.Errorf("a key that cannot be used: %v", err)
		}
	})
}
