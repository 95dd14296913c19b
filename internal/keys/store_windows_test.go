package keys

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/windows"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/certconnector/certconnector/internal/testkeys"
)

func openStore(t *testing.T, machine bool, name string) windows.Handle {
	t.Helper()
	location := uint32(windows.CERT_SYSTEM_STORE_CURRENT_USER)
	if machine {
		location = windows.CERT_SYSTEM_STORE_LOCAL_MACHINE
	}
	store, err := windows.CertOpenStore(windows.CERT_STORE_PROV_SYSTEM_W, 0, 0, location,
		uintptr(unsafe.Pointer(windows.StringToUTF16Ptr(name))))
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// addTo adds a certificate to a store, and takes it away when the test ends. It
// is written when nothing of the store is open any more.
func addTo(t *testing.T, machine bool, name string, context *windows.CertContext) {
	t.Helper()
	store := openStore(t, machine, name)
	if err := windows.CertAddCertificateContextToStore(store, context, windows.CERT_STORE_ADD_REPLACE_EXISTING, nil); err != nil {
		t.Fatal(err)
	}
	if err := windows.CertCloseStore(store, 0); err != nil {
		t.Fatal(err)
	}
	thumbprint := sha1.Sum(unsafe.Slice(context.EncodedCert, context.Length))
	t.Cleanup(func() {
		store := openStore(t, machine, name)
		found, err := windows.CertFindCertificateInStore(store, windows.X509_ASN_ENCODING, 0, windows.CERT_FIND_SHA1_HASH,
			unsafe.Pointer(&windows.CryptHashBlob{Size: 20, Data: &thumbprint[0]}), nil)
		if err == nil {
			err = windows.CertDeleteCertificateFromStore(found)
		}
		if err := errors.Join(err, windows.CertCloseStore(store, 0)); err != nil {
			t.Error(err)
		}
	})
}

func addCA(t *testing.T, machine bool, c *x509.Certificate) {
	t.Helper()
	context, err := windows.CertCreateCertificateContext(windows.X509_ASN_ENCODING, &c.Raw[0], uint32(len(c.Raw)))
	if err != nil {
		t.Fatal(err)
	}
	addTo(t, machine, "CA", context)
}

// imported imports a certificate with its key as an administrator does, and
// returns its reference.
func imported(t *testing.T, machine bool, key crypto.Signer, leaf *x509.Certificate) (ref string) {
	t.Helper()
	der, err := pkcs12.LegacyDES.Encode(key, leaf, nil, "password")
	if err != nil {
		t.Fatal(err)
	}
	flags, place := uint32(0x1000), "user" // CRYPT_USER_KEYSET
	if machine {
		flags, place = 0x20, "machine" // CRYPT_MACHINE_KEYSET
	}
	store, err := windows.PFXImportCertStore(&windows.CryptDataBlob{Size: uint32(len(der)), Data: &der[0]}, windows.StringToUTF16Ptr("password"), flags)
	if err != nil {
		t.Fatal(err)
	}
	context, err := windows.CertEnumCertificatesInStore(store, nil)
	if err != nil {
		t.Fatal(err)
	}
	addTo(t, machine, "My", context)
	return fmt.Sprintf("certstore:%s/My/%x", place, sha1.Sum(leaf.Raw))
}

// Under Wine an imported key is one of CAPI, on Windows one of CNG. A user's comes
// first: in a fresh prefix Wine cannot read a key of the machine before.
func TestKeyOfTheStore(t *testing.T) {
	for _, machine := range []bool{false, true} {
		t.Run(fmt.Sprintf("machine %v", machine), func(t *testing.T) {
			key := testkeys.RSA2048(1)
			leaf := issue(t, "leaf", key, nil, nil)
			ref := imported(t, machine, key, leaf)
			loaded, err := New(Config{}).Load(ref)
			if err != nil {
				t.Fatal(err)
			}
			if !key.PublicKey.Equal(loaded.Public()) || PlaceOf(loaded) != storePlace {
				t.Errorf("another key, or in %q", PlaceOf(loaded))
			}
			for _, h := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512} {
				w := h.New()
				w.Write([]byte("content"))
				digest := w.Sum(nil)
				signature, err := loaded.Sign(rand.Reader, digest, h)
				if err != nil {
					t.Fatalf("%v: %v", h, err)
				}
				if err := rsa.VerifyPKCS1v15(&key.PublicKey, h, digest, signature); err != nil {
					t.Errorf("%v: %v", h, err)
				}
			}
			if _, err := loaded.Sign(rand.Reader, []byte("short"), crypto.SHA256); err == nil {
				t.Error("a digest of five octets was signed")
			}
			if err := CheckDecrypts(loaded); err != nil {
				t.Error(err)
			}
			wantDecrypts(t, loaded)
			got, err := Certificate(ref)
			if err != nil || len(got) != 1 || !got[0].Equal(leaf) {
				t.Errorf("certificate %v, %v", got, err)
			}
		})
	}
}

func wantDecrypts(t *testing.T, key crypto.Signer) {
	t.Helper()
	pub, decrypter := key.Public().(*rsa.PublicKey), key.(crypto.Decrypter)
	sealed, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, pub, []byte("oaep"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := decrypter.Decrypt(nil, sealed, &rsa.OAEPOptions{Hash: crypto.SHA1}); err != nil || string(plain) != "oaep" {
		t.Errorf("OAEP with SHA-1: %q, %v", plain, err)
	}
	session := bytes.Repeat([]byte{7}, 32)
	sealed, err = rsa.EncryptPKCS1v15(rand.Reader, pub, session)
	if err != nil {
		t.Fatal(err)
	}
	options := &rsa.PKCS1v15DecryptOptions{SessionKeyLen: 32}
	if plain, err := decrypter.Decrypt(nil, sealed, options); err != nil || !bytes.Equal(plain, session) {
		t.Errorf("a session key: %x, %v", plain, err)
	}
	sealed[40] ^= 1 // the padding is now wrong, which nobody may learn
	if plain, err := decrypter.Decrypt(nil, sealed, options); err != nil || len(plain) != 32 || bytes.Equal(plain, session) {
		t.Errorf("a wrong padding: %x, %v", plain, err)
	}
	if plain, err := decrypter.Decrypt(nil, sealed, nil); err == nil {
		t.Errorf("a wrong padding gives %x", plain)
	}
	if _, err := decrypter.Decrypt(nil, []byte("short"), nil); err == nil {
		t.Error("five octets were decrypted")
	}
}

func TestChainOfTheStore(t *testing.T) {
	root := issue(t, "root", testkeys.RSA2048(2), nil, nil)
	middle := issue(t, "issuing", testkeys.RSA2048(3), root, testkeys.RSA2048(2))
	leaf := issue(t, "leaf", testkeys.RSA2048(4), middle, testkeys.RSA2048(3))
	addCA(t, true, root)
	addCA(t, true, middle)
	got, err := Certificate(imported(t, true, testkeys.RSA2048(4), leaf))
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || !got[0].Equal(leaf) || !got[1].Equal(middle) {
		t.Errorf("%d certificates, want the leaf and its issuer without the root", len(got))
	}
}

func TestWhatTheStoreDoesNotHave(t *testing.T) {
	k := New(Config{})
	if _, err := k.Load("certstore:machine/My/" + thumbprint); err == nil || !strings.Contains(err.Error(), "certutil -store My") {
		t.Errorf("a certificate that is not there: %v", err)
	}
	leaf := issue(t, "leaf without key", testkeys.RSA2048(5), nil, nil)
	context, err := windows.CertCreateCertificateContext(windows.X509_ASN_ENCODING, &leaf.Raw[0], uint32(len(leaf.Raw)))
	if err != nil {
		t.Fatal(err)
	}
	addTo(t, true, "My", context)
	ref := fmt.Sprintf("certstore:machine/My/%X", sha1.Sum(leaf.Raw))
	if _, err := k.Load(ref); err == nil || !strings.Contains(err.Error(), "Manage Private Keys") {
		t.Errorf("a certificate without a key: %v", err)
	}
	if _, err := Certificate(ref); err != nil {
		t.Errorf("a certificate without a key is one all the same: %v", err)
	}
}

// The key of another certificate must not go unnoticed.
func TestKeyThatIsNotTheCertificates(t *testing.T) {
	leaf := issue(t, "leaf", testkeys.RSA2048(6), nil, nil)
	other := issue(t, "leaf of another key", testkeys.RSA2048(7), nil, nil)
	context, err := windows.CertCreateCertificateContext(windows.X509_ASN_ENCODING, &other.Raw[0], uint32(len(other.Raw)))
	if err != nil {
		t.Fatal(err)
	}
	r, err := parseStoreRef(imported(t, true, testkeys.RSA2048(6), leaf))
	if err != nil {
		t.Fatal(err)
	}
	found, err := r.find()
	if err != nil {
		t.Fatal(err)
	}
	defer found.close()
	room := make([]uint64, 512)
	n := uint32(8 * len(room))
	if err := advapiCall(certContextProperty, uintptr(unsafe.Pointer(found.context)), 2, uintptr(unsafe.Pointer(&room[0])), uintptr(unsafe.Pointer(&n))); err != nil {
		t.Fatal(err)
	}
	set := windows.NewLazySystemDLL("crypt32.dll").NewProc("CertSetCertificateContextProperty")
	if err := advapiCall(set, uintptr(unsafe.Pointer(context)), 2, 0, uintptr(unsafe.Pointer(&room[0]))); err != nil {
		t.Fatal(err)
	}
	addTo(t, true, "My", context)
	if _, err := New(Config{}).Load(fmt.Sprintf("certstore:machine/My/%X", sha1.Sum(other.Raw))); err == nil {
		t.Error("the key of another certificate was taken")
	}
}

func TestCAPIRefusesWhatItLacks(t *testing.T) {
	k := &capiKey{capiHandle: &capiHandle{}, public: &testkeys.RSA2048(0).PublicKey}
	digest := sha256.Sum256(nil)
	if _, err := k.Sign(nil, digest[:], &rsa.PSSOptions{Hash: crypto.SHA256}); err == nil || !strings.Contains(err.Error(), "-importpfx") {
		t.Errorf("RSASSA-PSS: %v, want the way out", err)
	}
	if _, err := k.Sign(nil, digest[:], crypto.SHA3_256); err == nil {
		t.Error("SHA-3 was signed")
	}
	if _, err := capiSigner(nil, 1, testkeys.P256(0).Public()); err == nil || !strings.Contains(err.Error(), "-importpfx") {
		t.Errorf("ECDSA: %v, want the way out", err)
	}
	if _, err := k.Decrypt(nil, make([]byte, 256), &rsa.OAEPOptions{Hash: crypto.SHA256}); err == nil {
		t.Error("OAEP with SHA-256 was decrypted")
	}
}
