package keys

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/certconnector/certconnector/internal/testkeys"
)

// oid is id-loadablekey as DER.
const oid = "0606678105" + "0a0103"

func TestTSS2(t *testing.T) {
	der, err := encodeTSS2(tss2{parent: tpm2.TPMRHOwner, public: []byte{1, 2}, private: []byte{3}})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := decodeTSS2(der); err != nil || got.parent != tpm2.TPMRHOwner || !slices.Equal(got.public, []byte{1, 2}) || !slices.Equal(got.private, []byte{3}) {
		t.Errorf("read back %+v, %v", got, err)
	}
	const (
		noAuth = "a0030101ff"
		key    = "0204400000010401010401" + "02" // parent, pubkey, privkey
	)
	sequence := func(content string) string {
		b := []byte{0x30, byte(len(content) / 2)}
		return hex.EncodeToString(b) + content
	}
	for _, c := range []struct {
		name, der string
		parent    uint32
		wrong     string
	}{
		{"as we write it", sequence(oid + noAuth + key), 0x40000001, ""},
		{"with tpm2-openssl's TRUE", sequence(oid + "a003010101" + key), 0x40000001, ""},
		{"below a persistent key", sequence(oid + noAuth + "02050081000001040101040102"), 0x81000001, ""},
		{"with an old writer's negative parent", sequence(oid + noAuth + "020481000001040101040102"), 0x81000001, ""},
		{"with a description", sequence(oid + noAuth + "a4030c0161" + key), 0x40000001, ""},
		{"with a password", sequence(oid + key), 0, "password"},
		{"with a password, said", sequence(oid + "a003010100" + key), 0, "password"},
		{"with a policy", sequence(oid + noAuth + "a1023000" + key), 0, "policy"},
		{"below an RSA key", sequence(oid + noAuth + "a5030101ff" + key), 0, "RSA"},
		{"of another type", sequence("0606678105" + "0a0104" + noAuth + key), 0, "not supported"},
		{"with something behind", sequence(oid+noAuth+key) + "00", 0, "damaged"},
		{"with something inside", sequence(oid + noAuth + key + "0500"), 0, "damaged"},
		{"cut off", sequence(oid + noAuth), 0, "damaged"},
		{"of nothing", "", 0, "damaged"},
	} {
		t.Run(c.name, func(t *testing.T) {
			der, err := hex.DecodeString(c.der)
			if err != nil {
				t.Fatal(err)
			}
			got, err := decodeTSS2(der)
			if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) || uint32(got.parent) != c.parent {
				t.Errorf("parent %x, %v; want %x, %q", got.parent, err, c.parent, c.wrong)
			}
		})
	}
}

// FuzzTSS2 reads key files that somebody else made. What is read never asks
// the TPM for nonsense before it was understood.
func FuzzTSS2(f *testing.F) {
	template, err := keyTemplate(RSA2048)
	if err != nil {
		f.Fatal(err)
	}
	der, err := encodeTSS2(tss2{parent: tpm2.TPMRHOwner, public: tpm2.Marshal(tpm2.New2B(template)), private: []byte{0, 1, 2}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	none := newTPM("/nonexistent/tpm", New(Config{}).cfg.Log)
	f.Fuzz(func(t *testing.T, der []byte) {
		if _, err := none.load(der); err == nil {
			t.Error("a key was loaded without a TPM")
		}
	})
}

// TestPaddings has crypto/rsa verify what is padded here and signed with the
// plain RSA function, as a TPM does it.
func TestPaddings(t *testing.T) {
	key := testkeys.RSA2048(1)
	raw := func(encoded []byte) []byte {
		return new(big.Int).Exp(new(big.Int).SetBytes(encoded), key.D, key.N).FillBytes(make([]byte, key.Size()))
	}
	for _, h := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		digest := h.New().Sum(nil)
		encoded, err := encodePKCS1(digest, key.Size(), h)
		if err == nil {
			err = rsa.VerifyPKCS1v15(&key.PublicKey, h, digest, raw(encoded))
		}
		if err != nil {
			t.Errorf("PKCS #1 v1.5 with %v: %v", h, err)
		}
		for _, salt := range []int{0x40, 20, 1, rsa.PSSSaltLengthAuto} {
			encoded, err := encodePSS(rand.Reader, digest, key.N.BitLen()-1, salt, h)
			if err == nil {
				err = rsa.VerifyPSS(&key.PublicKey, h, digest, raw(encoded), &rsa.PSSOptions{SaltLength: salt})
			}
			if err != nil {
				t.Errorf("PSS with %v and a salt of %d: %v", h, salt, err)
			}
		}
	}
	if _, err := encodePSS(rand.Reader, make([]byte, 64), 1023, 64, crypto.SHA512); err == nil {
		t.Error("a digest and a salt of 64 octets fit into 1024 bits")
	}
	if _, err := encodePKCS1(make([]byte, 32), 32, crypto.SHA256); err == nil {
		t.Error("a digest fits into a key of its own size")
	}
}
