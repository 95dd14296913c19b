package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"math/big"
	"testing"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/internal/testkeys"
)

func status(t *testing.T, name string, arguments ...uintptr) {
	t.Helper()
	if r, _, _ := ncrypt.NewProc(name).Call(arguments...); r != 0 {
		t.Fatalf("%s: %v", name, windows.Errno(uint32(r)))
	}
}

// newCNG makes a key that lives as long as its handle: all that Wine has of
// CNG's keys.
func newCNG(t *testing.T, algorithm, blobType string) (h *cngHandle, public []byte) {
	t.Helper()
	var provider, key uintptr
	status(t, "NCryptOpenStorageProvider", uintptr(unsafe.Pointer(&provider)), 0, 0)
	t.Cleanup(func() { status(t, "NCryptFreeObject", provider) })
	status(t, "NCryptCreatePersistedKey", provider, uintptr(unsafe.Pointer(&key)),
		uintptr(unsafe.Pointer(windows.StringToUTF16Ptr(algorithm))), 0, 0, 0)
	t.Cleanup(func() { status(t, "NCryptFreeObject", key) })
	if algorithm == "RSA" {
		length := uint32(2048)
		status(t, "NCryptSetProperty", key, uintptr(unsafe.Pointer(windows.StringToUTF16Ptr("Length"))),
			uintptr(unsafe.Pointer(&length)), 4, 0)
	}
	status(t, "NCryptFinalizeKey", key, 0)
	room, n := make([]byte, 1024), uint32(0)
	status(t, "NCryptExportKey", key, 0, uintptr(unsafe.Pointer(windows.StringToUTF16Ptr(blobType))), 0,
		uintptr(unsafe.Pointer(&room[0])), uintptr(len(room)), uintptr(unsafe.Pointer(&n)), 0)
	return &cngHandle{key: key}, room[:n]
}

func TestRSAOfCNG(t *testing.T) {
	h, blob := newCNG(t, "RSA", "RSAPUBLICBLOB")
	exponent, modulus := binary.LittleEndian.Uint32(blob[8:]), binary.LittleEndian.Uint32(blob[12:])
	blob = blob[24:]
	pub := &rsa.PublicKey{E: int(new(big.Int).SetBytes(blob[:exponent]).Int64()), N: new(big.Int).SetBytes(blob[exponent:][:modulus])}
	key, err := cngSigner(h, pub)
	if err != nil {
		t.Fatal(err)
	}
	if err := CheckSigns(key); err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("content"))
	salts := []int{rsa.PSSSaltLengthEqualsHash, rsa.PSSSaltLengthAuto, 20}
	if secret.Unchecked() != "" {
		salts = salts[:2] // Wine's salt is always as long as the digest
	}
	for _, salt := range salts {
		options := &rsa.PSSOptions{SaltLength: salt, Hash: crypto.SHA256}
		signature, err := key.Sign(rand.Reader, digest[:], options)
		if err != nil {
			t.Fatalf("salt %d: %v", salt, err)
		}
		if err := rsa.VerifyPSS(pub, crypto.SHA256, digest[:], signature, options); err != nil {
			t.Errorf("salt %d: %v", salt, err)
		}
	}
	if secret.Unchecked() != "" {
		t.Log("Wine's CNG does not decrypt: not shown here")
		return
	}
	if err := CheckDecrypts(key); err != nil {
		t.Error(err)
	}
	wantDecrypts(t, key)
}

func TestECDSAOfCNG(t *testing.T) {
	if secret.Unchecked() != "" {
		t.Skip("Wine's CNG makes no ECDSA keys; TestSignatureInASN1 shows what is done with their signatures")
	}
	h, blob := newCNG(t, "ECDSA_P256", "ECCPUBLICBLOB")
	pub := &ecdsa.PublicKey{Curve: elliptic.P256(), X: new(big.Int).SetBytes(blob[8:40]), Y: new(big.Int).SetBytes(blob[40:72])}
	key, err := cngSigner(h, pub)
	if err != nil {
		t.Fatal(err)
	}
	if err := CheckSigns(key); err != nil {
		t.Error(err)
	}
}

func TestSignatureInASN1(t *testing.T) {
	key, digest := testkeys.P256(0), sha256.Sum256([]byte("content"))
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	raw := append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	if signature, err := p1363ToASN1(raw); err != nil || !ecdsa.VerifyASN1(&key.PublicKey, digest[:], signature) {
		t.Errorf("%x, %v", signature, err)
	}
	for name, raw := range map[string][]byte{"nothing": nil, "an odd length": make([]byte, 63)} {
		if _, err := p1363ToASN1(raw); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}
