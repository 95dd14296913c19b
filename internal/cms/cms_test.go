package cms_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"

	"github.com/certconnector/certconnector/internal/cms"
	"github.com/certconnector/certconnector/internal/testkeys"
)

// certificate makes a self-signed certificate with a subjectKeyIdentifier.
func certificate(t testing.TB, name string, key crypto.Signer) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(int64(len(name)) + 1000), Subject: pkix.Name{CommonName: name}, SubjectKeyId: []byte(name),
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func recipient(t testing.TB, name string, i int) cms.Recipient {
	return cms.Recipient{Certificate: certificate(t, name, testkeys.RSA2048(i)), Key: testkeys.RSA2048(i)}
}

func seal(t testing.TB, content string, to ...cms.Recipient) []byte {
	t.Helper()
	var certs []*x509.Certificate
	for _, r := range to {
		certs = append(certs, r.Certificate)
	}
	der, err := cms.Seal([]byte(content), certs)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func sign(t testing.TB, content string, cert *x509.Certificate, key crypto.Signer) []byte {
	t.Helper()
	der, err := cms.Sign([]byte(content), cert, key, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestSealedOpensForItsRecipients(t *testing.T) {
	first, second, stranger := recipient(t, "first", 0), recipient(t, "second", 1), recipient(t, "stranger", 2)
	for _, content := range []string{"", "x", "fifteen octets!", "sixteen octets!!", strings.Repeat("long ", 1000)} {
		der := seal(t, content, first, second)
		for _, r := range []cms.Recipient{first, second} {
			if got, err := cms.Open(der, []cms.Recipient{stranger, r}, cms.Limits{}); err != nil || string(got) != content {
				t.Errorf("%d octets for %s: %v", len(content), r.Certificate.Subject, err)
			}
		}
		if _, err := cms.Open(der, []cms.Recipient{stranger}, cms.Limits{}); !errors.Is(err, cms.ErrNotOpened) {
			t.Errorf("a stranger: %v, want ErrNotOpened", err)
		}
		if _, err := cms.Open(der, []cms.Recipient{{Certificate: first.Certificate, Key: stranger.Key}}, cms.Limits{}); !errors.Is(err, cms.ErrNotOpened) {
			t.Errorf("a wrong key: %v, want ErrNotOpened", err)
		}
		// The library reads what we write.
		p, err := pkcs7.Parse(der)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := p.Decrypt(second.Certificate, second.Key); err != nil || string(got) != content {
			t.Errorf("opened by pkcs7: %d octets, %v", len(got), err)
		}
	}
}

func TestChangedEnvelopes(t *testing.T) {
	r := recipient(t, "recipient", 0)
	content, same := strings.Repeat("content ", 30), 0
	der := seal(t, content, r)
	for i := range der {
		changed := bytes.Clone(der)
		changed[i] ^= 0x01
		got, err := cms.Open(changed, []cms.Recipient{r}, cms.Limits{})
		if err != nil && !errors.Is(err, cms.ErrMalformed) && !errors.Is(err, cms.ErrNotOpened) && !errors.Is(err, cms.ErrLimit) {
			t.Fatalf("octet %d: %v has no kind", i, err)
		}
		// CBC carries no authenticity: that is the signature's inside. But what
		// opens to the same content differs in a version number only.
		if err == nil && string(got) == content {
			same++
		}
	}
	if same > 2 {
		t.Errorf("%d octets may be changed without a trace", same)
	}
	for n := range der {
		if _, err := cms.Open(der[:n], []cms.Recipient{r}, cms.Limits{}); err == nil {
			t.Fatalf("opened %d octets of %d", n, len(der))
		}
	}
}

// TestOtherTransportsAreRefused: the library seals with PKCS #1 v1.5.
func TestOtherTransportsAreRefused(t *testing.T) {
	r := recipient(t, "recipient", 0)
	pkcs7.ContentEncryptionAlgorithm = pkcs7.EncryptionAlgorithmAES256CBC
	der, err := pkcs7.Encrypt([]byte("content"), []*x509.Certificate{r.Certificate})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cms.Open(der, []cms.Recipient{r}, cms.Limits{}); !errors.Is(err, cms.ErrMalformed) || !strings.Contains(err.Error(), "OAEP") {
		t.Errorf("PKCS #1 v1.5: %v, want a refusal that names OAEP", err)
	}
	m, err := cms.Parse(der, cms.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := m.Decrypt(r.Certificate, r.Key); err != nil || string(got) != "content" {
		t.Errorf("a client opens its reply: %q, %v", got, err)
	}
}

func TestSignedVerifies(t *testing.T) {
	for name, key := range map[string]crypto.Signer{"RSA": testkeys.RSA2048(0), "ECDSA": testkeys.P256(0)} {
		t.Run(name, func(t *testing.T) {
			cert, other := certificate(t, "signer", key), certificate(t, "somebody", testkeys.RSA2048(1))
			der := sign(t, "content", cert, key)
			s, err := cms.ReadSigned(der, cms.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if string(s.Content) != "content" || !s.By(cert) || s.By(other) {
				t.Errorf("content %q, by the signer %v, by another %v", s.Content, s.By(cert), s.By(other))
			}
			if err := s.Verify(cert); err != nil {
				t.Error(err)
			}
			if err := s.Verify(other); !errors.Is(err, cms.ErrSignature) {
				t.Errorf("another's key: %v, want ErrSignature", err)
			}
			// The library verifies what we write.
			p, err := pkcs7.Parse(der)
			if err != nil {
				t.Fatal(err)
			}
			p.Certificates = []*x509.Certificate{cert}
			if err := p.Verify(); err != nil || string(p.Content) != "content" {
				t.Errorf("verified by pkcs7: %v", err)
			}
			for i := range der {
				changed := bytes.Clone(der)
				changed[i] ^= 0x01
				if s, err := cms.ReadSigned(changed, cms.Limits{}); err == nil && s.Verify(cert) == nil && string(s.Content) != "content" {
					t.Fatalf("octet %d changed, and other content was believed", i)
				}
			}
		})
	}
}

func TestWeakSignersAreRefused(t *testing.T) {
	cert := certificate(t, "weak", testkeys.RSA1024())
	if _, err := cms.Sign([]byte("content"), cert, testkeys.RSA1024(), time.Now()); err == nil {
		t.Error("signed with RSA-1024")
	}
	sd, err := pkcs7.NewSignedData([]byte("content"))
	if err != nil {
		t.Fatal(err)
	}
	good := certificate(t, "strong", testkeys.RSA2048(0)) // with the library's default digest, SHA-1
	if err := sd.AddSigner(good, testkeys.RSA2048(0), pkcs7.SignerInfoConfig{}); err != nil {
		t.Fatal(err)
	}
	der, err := sd.Finish()
	if err != nil {
		t.Fatal(err)
	}
	s, err := cms.ReadSigned(der, cms.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(good); !errors.Is(err, cms.ErrSignature) || !strings.Contains(err.Error(), "SHA-256") {
		t.Errorf("SHA-1: %v, want ErrSignature that names SHA-256", err)
	}
}

func TestOneSignerWithAttributes(t *testing.T) {
	cert, key := certificate(t, "signer", testkeys.RSA2048(0)), testkeys.RSA2048(0)
	for name, add := range map[string]func(*pkcs7.SignedData) error{
		"two signers": func(sd *pkcs7.SignedData) error {
			return errors.Join(sd.AddSigner(cert, key, pkcs7.SignerInfoConfig{}), sd.AddSigner(cert, key, pkcs7.SignerInfoConfig{}))
		},
		"no signer":            func(*pkcs7.SignedData) error { return nil },
		"no signed attributes": func(sd *pkcs7.SignedData) error { return sd.SignWithoutAttr(cert, key, pkcs7.SignerInfoConfig{}) },
	} {
		t.Run(name, func(t *testing.T) {
			sd, err := pkcs7.NewSignedData([]byte("content"))
			if err != nil {
				t.Fatal(err)
			}
			sd.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA256)
			if err := add(sd); err != nil {
				t.Fatal(err)
			}
			der, err := sd.Finish()
			if err != nil {
				t.Fatal(err)
			}
			if s, err := cms.ReadSigned(der, cms.Limits{}); err == nil && s.Verify(cert) == nil {
				t.Error("believed")
			}
		})
	}
}

// nested is a value in a value, n deep, of definite or indefinite length.
func nested(n int, indefinite bool) []byte {
	b := []byte{5, 0}
	for range n - 1 {
		switch {
		case indefinite:
			b = append(append([]byte{0x30, 0x80}, b...), 0, 0)
		case len(b) < 128:
			b = append([]byte{0x30, byte(len(b))}, b...)
		default:
			b = append([]byte{0x30, 0x82, byte(len(b) >> 8), byte(len(b))}, b...)
		}
	}
	return b
}

func TestLimits(t *testing.T) {
	r := recipient(t, "recipient", 0)
	many := make([]cms.Recipient, 11)
	for i := range many {
		many[i] = r
	}
	bag := func(n int) []byte {
		der, err := pkcs7.DegenerateCertificate(bytes.Repeat(r.Certificate.Raw, n))
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	for _, row := range []struct {
		name   string
		der    []byte
		limits cms.Limits
		want   error // nil: parsed
	}{
		{"16 certificates", bag(16), cms.Limits{}, nil},
		{"17 certificates", bag(17), cms.Limits{}, cms.ErrLimit},
		{"10 recipients", seal(t, "x", many[:10]...), cms.Limits{}, nil},
		{"11 recipients", seal(t, "x", many...), cms.Limits{}, cms.ErrLimit},
		{"33 values deep", nested(33, false), cms.Limits{}, cms.ErrLimit},
		{"a thousand values deep", nested(1000, false), cms.Limits{}, cms.ErrLimit},
		{"a million indefinite lengths", bytes.Repeat([]byte{0x30, 0x80}, 1_000_000), cms.Limits{}, cms.ErrLimit},
		{"indefinite, 33 deep", nested(33, true), cms.Limits{}, cms.ErrLimit},
		{"empty values of indefinite length in a row", append([]byte{0x30, 0x82, 0x40, 0}, bytes.Repeat([]byte{0x30, 0x80, 0, 0}, 0x1000)...), cms.Limits{}, cms.ErrMalformed},
		{"more bytes than allowed", bag(1), cms.Limits{Bytes: 100}, cms.ErrLimit},
		{"a length beyond the end", []byte{0x30, 0x84, 0x7f, 0xff, 0xff, 0xff, 0}, cms.Limits{}, cms.ErrMalformed},
		{"a member longer than its parent", []byte{0x30, 2, 4, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0}, cms.Limits{}, cms.ErrMalformed},
		{"bytes after the end", append(bag(1), 0), cms.Limits{}, cms.ErrMalformed},
		{"nothing", nil, cms.Limits{}, cms.ErrMalformed},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := cms.Parse(row.der, row.limits)
			if (row.want == nil) != (err == nil) || row.want != nil && !errors.Is(err, row.want) {
				t.Errorf("error %v, want %v", err, row.want)
			}
		})
	}
}

// TestOpenSSL is the third opinion.
func TestOpenSSL(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Fatal("openssl is missing: install the package openssl")
	}
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, kind string, der []byte) {
		if err := os.WriteFile(path(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	openssl := func(args ...string) []byte {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), "openssl", args...).CombinedOutput()
		if err != nil {
			t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return out
	}
	key := testkeys.RSA2048(0)
	to, signer := recipient(t, "recipient", 0), certificate(t, "signer", testkeys.P256(0))
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write("to.crt", "CERTIFICATE", to.Certificate.Raw)
	write("to.key", "PRIVATE KEY", pkcs8)
	write("signer.crt", "CERTIFICATE", signer.Raw)
	for name, content := range map[string][]byte{"sealed": seal(t, "content", to), "signed": sign(t, "content", signer, testkeys.P256(0)), "plain": []byte("content")} {
		if err := os.WriteFile(path(name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	openssl("cms", "-decrypt", "-inform", "DER", "-in", path("sealed"), "-recip", path("to.crt"), "-inkey", path("to.key"), "-out", path("opened"))
	openssl("cms", "-verify", "-inform", "DER", "-in", path("signed"), "-certfile", path("signer.crt"), "-CAfile", path("signer.crt"), "-purpose", "any", "-out", path("verified"))
	for _, name := range []string{"opened", "verified"} {
		if got, err := os.ReadFile(path(name)); err != nil || string(got) != "content" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for _, keyID := range []bool{false, true} {
		args := []string{"cms", "-encrypt", "-binary", "-aes128", "-in", path("plain"), "-outform", "DER", "-out", path("theirs"),
			"-recip", path("to.crt"), "-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha256"}
		if keyID {
			args = append(args, "-keyid")
		}
		openssl(args...)
		der, err := os.ReadFile(path("theirs"))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := cms.Open(der, []cms.Recipient{to}, cms.Limits{}); err != nil || string(got) != "content" {
			t.Errorf("sealed by openssl, keyid %v: %q, %v", keyID, got, err)
		}
		sign := []string{"cms", "-sign", "-binary", "-nodetach", "-md", "sha384", "-in", path("plain"), "-outform", "DER", "-out", path("theirs"),
			"-signer", path("to.crt"), "-inkey", path("to.key")}
		if keyID {
			sign = append(sign, "-keyid")
		}
		openssl(sign...)
		if der, err = os.ReadFile(path("theirs")); err != nil {
			t.Fatal(err)
		}
		s, err := cms.ReadSigned(der, cms.Limits{})
		if err != nil || !s.By(to.Certificate) || s.Verify(to.Certificate) != nil {
			t.Errorf("signed by openssl, keyid %v: %v", keyID, err)
		}
	}
}

// FuzzRead: no input takes the readers down, and nothing but our own sealed
// and signed content is believed.
func FuzzRead(f *testing.F) {
	r, cert := recipient(f, "recipient", 0), certificate(f, "signer", testkeys.P256(0))
	f.Add(seal(f, "content", r))
	f.Add(sign(f, "content", cert, testkeys.P256(0)))
	f.Add([]byte{0x30, 0x80, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := cms.Parse(b, cms.Limits{}); err == nil {
			m.Verify([]*x509.Certificate{cert})
			m.Decrypt(r.Certificate, r.Key)
		}
		cms.Open(b, []cms.Recipient{r}, cms.Limits{})
		if s, err := cms.ReadSigned(b, cms.Limits{}); err == nil && s.Verify(cert) == nil && string(s.Content) != "content" {
			t.Error("believed what nobody signed")
		}
	})
}
