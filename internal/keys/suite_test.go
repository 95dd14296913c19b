package keys_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/certconnector/certconnector/internal/keys"
)

// abilities are what not every device has.
type abilities struct {
	oaep    []crypto.Hash
	anySalt bool // RSASSA-PSS with whatever salt is asked for
}

// wantKey holds every key to what the service needs of it, wherever it lives.
// Its signatures are verified by Go and by openssl, and both encrypt to it.
func wantKey(t *testing.T, key crypto.Signer, can abilities) {
	t.Helper()
	if err := keys.CheckSigns(key); err != nil {
		t.Fatal(err)
	}
	t.Run("TLS", func(t *testing.T) { wantTLS(t, key) })
	switch pub := key.Public().(type) {
	case *rsa.PublicKey:
		t.Run("PKCS #1 v1.5", func(t *testing.T) { wantPKCS1(t, key, pub) })
		t.Run("PSS", func(t *testing.T) { wantPSS(t, key, pub, can) })
		t.Run("decryption", func(t *testing.T) { wantDecryption(t, key, pub, can) })
	case *ecdsa.PublicKey:
		t.Run("ECDSA", func(t *testing.T) { wantECDSA(t, key, pub) })
		if keys.CheckDecrypts(key) == nil {
			t.Error("an elliptic key opened what was encrypted with RSA")
		}
	default:
		t.Fatalf("a key of type %T", pub)
	}
}

var hashes = []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512}

func digestOf(h crypto.Hash, message string) []byte {
	w := h.New()
	w.Write([]byte(message))
	return w.Sum(nil)
}

func wantPKCS1(t *testing.T, key crypto.Signer, pub *rsa.PublicKey) {
	for _, h := range hashes {
		digest := digestOf(h, "message")
		signature, err := key.Sign(rand.Reader, digest, h)
		if err == nil {
			err = rsa.VerifyPKCS1v15(pub, h, digest, signature)
		}
		if err != nil {
			t.Errorf("%v: %v", h, err)
		}
		if h == crypto.SHA256 {
			opensslVerifies(t, pub, signature, "message")
		}
	}
}

func wantPSS(t *testing.T, key crypto.Signer, pub *rsa.PublicKey, can abilities) {
	for _, h := range hashes[1:] {
		salts := []int{rsa.PSSSaltLengthEqualsHash, h.Size(), rsa.PSSSaltLengthAuto}
		if can.anySalt {
			salts = append(salts, 20, 0x11)
		}
		for _, salt := range salts {
			digest := digestOf(h, "message")
			signature, err := key.Sign(rand.Reader, digest, &rsa.PSSOptions{SaltLength: salt, Hash: h})
			if err == nil {
				err = rsa.VerifyPSS(pub, h, digest, signature, &rsa.PSSOptions{SaltLength: salt})
			}
			if err != nil {
				t.Errorf("%v with a salt of %d: %v", h, salt, err)
			}
			if h == crypto.SHA256 && salt == rsa.PSSSaltLengthEqualsHash { // PS256
				opensslVerifies(t, pub, signature, "message", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:32")
			}
		}
	}
}

func wantECDSA(t *testing.T, key crypto.Signer, pub *ecdsa.PublicKey) {
	for _, h := range hashes {
		digest := digestOf(h, "message")
		signature, err := key.Sign(rand.Reader, digest, h)
		if err != nil {
			t.Errorf("%v: %v", h, err)
		} else if !ecdsa.VerifyASN1(pub, digest, signature) {
			t.Errorf("%v: wrong signature", h)
		}
		if h == crypto.SHA256 {
			opensslVerifies(t, pub, signature, "message")
		}
	}
}

func wantDecryption(t *testing.T, key crypto.Signer, pub *rsa.PublicKey, can abilities) {
	if err := keys.CheckDecrypts(key); err != nil {
		t.Fatal(err)
	}
	decrypter := key.(crypto.Decrypter)
	const secret = "a content encryption key"
	//lint:ignore SA1019 SCEP clients know PKCS #1 v1.5 only
	ours, err := rsa.EncryptPKCS1v15(rand.Reader, pub, []byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	//lint:ignore SA1019 see above
	session := &rsa.PKCS1v15DecryptOptions{SessionKeyLen: len(secret)}
	for name, ciphertext := range map[string][]byte{"Go": ours, "openssl": opensslEncrypts(t, pub, secret)} {
		for _, opts := range []crypto.DecrypterOpts{nil, session} {
			if plain, err := decrypter.Decrypt(rand.Reader, ciphertext, opts); err != nil || string(plain) != secret {
				t.Errorf("what %s encrypted, with %T: %d octets, %v", name, opts, len(plain), err)
			}
		}
	}
	// What strangers send must not tell them whether the padding was right.
	wrong := bytes.Clone(ours)
	wrong[len(wrong)/2] ^= 1
	one, err := decrypter.Decrypt(rand.Reader, wrong, session)
	two, err2 := decrypter.Decrypt(rand.Reader, wrong, session)
	if err != nil || err2 != nil || len(one) != len(secret) || len(two) != len(secret) || bytes.Equal(one, two) {
		t.Errorf("a changed ciphertext gave %d and %d octets, %v, %v; want a random key each time", len(one), len(two), err, err2)
	}
	for _, h := range can.oaep {
		ciphertext, err := rsa.EncryptOAEP(h.New(), rand.Reader, pub, []byte(secret), nil)
		if err != nil {
			t.Fatal(err)
		}
		if plain, err := decrypter.Decrypt(rand.Reader, ciphertext, &rsa.OAEPOptions{Hash: h}); err != nil || string(plain) != secret {
			t.Errorf("OAEP with %v: %d octets, %v", h, len(plain), err)
		}
	}
}

// wantTLS has a client of each version connect to a server with the key.
func wantTLS(t *testing.T, key crypto.Signer) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "scep.corp.example"}, DNSNames: []string{"scep.corp.example"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		a, b := net.Pipe()
		server := tls.Server(a, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MaxVersion: version})
		client := tls.Client(b, &tls.Config{RootCAs: roots, ServerName: "scep.corp.example", MinVersion: version})
		done := make(chan error, 1)
		go func() { done <- server.HandshakeContext(t.Context()) }()
		if err := client.HandshakeContext(t.Context()); err != nil {
			t.Errorf("%s: the client: %v", tls.VersionName(version), err)
		}
		if err := <-done; err != nil {
			t.Errorf("%s: the server: %v", tls.VersionName(version), err)
		}
		a.Close()
		b.Close()
	}
}

// wantConcurrent uses several keys at once.
func wantConcurrent(t *testing.T, list ...crypto.Signer) {
	t.Helper()
	var users sync.WaitGroup
	for range 4 {
		for _, key := range list {
			users.Go(func() {
				for range 2 {
					if err := keys.CheckSigns(key); err != nil {
						t.Error(err)
					}
					if _, ok := key.Public().(*rsa.PublicKey); !ok {
						continue
					}
					if err := keys.CheckDecrypts(key); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	users.Wait()
}

func opensslVerifies(t *testing.T, pub crypto.PublicKey, signature []byte, message string, more ...string) {
	t.Helper()
	dir := t.TempDir()
	args := append([]string{"dgst", "-sha256", "-verify", publicFile(t, dir, pub), "-signature", file(t, dir, "signature", signature)}, more...)
	openssl(t, append(args, file(t, dir, "message", []byte(message)))...)
}

func opensslEncrypts(t *testing.T, pub crypto.PublicKey, message string) []byte {
	t.Helper()
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	openssl(t, "pkeyutl", "-encrypt", "-pubin", "-inkey", publicFile(t, dir, pub), "-in", file(t, dir, "message", []byte(message)), "-out", out)
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func publicFile(t *testing.T, dir string, pub crypto.PublicKey) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return file(t, dir, "public", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

func file(t *testing.T, dir, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func openssl(t *testing.T, args ...string) []byte {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "openssl", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("openssl %s: %v\n%s", args[0], err, out)
	}
	return out
}
