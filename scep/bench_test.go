package scep_test

//lint:file-ignore SA1019 the floor of SCEP is PKCS #1 v1.5

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"testing"

	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/scep"
)

// BenchmarkParseOpenReply is one PKCSReq, from the body that came to the body
// that goes. BenchmarkFloor beside it is the RSA work that no server can
// avoid; their ratio is the budget of the design.
func BenchmarkParseOpenReply(b *testing.B) {
	w := newWorld(b)
	ra := w.ra(b)
	content := envelope{to: []to{{cert: w.encryption}}, plain: request{challenge: el(0x13, make([]byte, 4096))}.build(b)}.build(b)
	der := message{content: content}
	ber := message{content: envelope{to: []to{{cert: w.encryption}}, plain: request{challenge: el(0x13, make([]byte, 4096))}.build(b), ber: 1000}.build(b), ber: 1000}
	for _, bb := range []struct {
		name string
		msg  message
	}{{"DER", der}, {"BER", ber}} {
		body := bb.msg.build(b)
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				m, err := scep.Parse(body, scep.Algorithms{})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := m.Open(ra); err != nil {
					b.Fatal(err)
				}
				if _, err := ra.Reply(m, &scep.Result{Status: scep.Success, Certificate: w.signing.Raw}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkFloor verifies the message, decrypts the key, verifies the CSR,
// encrypts the reply's key and signs the reply: five RSA operations.
func BenchmarkFloor(b *testing.B) {
	device, decrypting, signing := testkeys.RSA2048(deviceKey), testkeys.RSA2048(encryptionKey), testkeys.RSA2048(signingKey)
	digest := make([]byte, 32)
	signature, err := rsa.SignPKCS1v15(rand.Reader, device, crypto.SHA256, digest)
	if err != nil {
		b.Fatal(err)
	}
	key := make([]byte, 16)
	encrypted, err := rsa.EncryptPKCS1v15(rand.Reader, &decrypting.PublicKey, key)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		_ = rsa.VerifyPKCS1v15(&device.PublicKey, crypto.SHA256, digest, signature)
		_ = rsa.DecryptPKCS1v15SessionKey(rand.Reader, decrypting, encrypted, key)
		_ = rsa.VerifyPKCS1v15(&device.PublicKey, crypto.SHA256, digest, signature)
		_, _ = rsa.EncryptPKCS1v15(rand.Reader, &device.PublicKey, key)
		_, _ = rsa.SignPKCS1v15(rand.Reader, signing, crypto.SHA256, digest)
	}
}

// BenchmarkOpenFailures shows that failures cost alike, whatever their cause.
func BenchmarkOpenFailures(b *testing.B) {
	w := newWorld(b)
	ra := w.ra(b)
	csr := request{}.build(b)
	toRA := []to{{cert: w.encryption}}
	for _, bb := range []struct {
		name string
		env  envelope
	}{
		{"key padding", envelope{to: []to{{cert: w.encryption, encrypted: make([]byte, 256)}}, plain: csr}},
		{"content padding", envelope{to: toRA, plain: csr, padding: make([]byte, 16-len(csr)%16)}},
		{"no DER", envelope{to: toRA, plain: make([]byte, len(csr))}},
		{"CSR signature", envelope{to: toRA, plain: request{breakSig: true}.build(b)}},
	} {
		m, err := scep.Parse(message{content: bb.env.build(b)}.build(b), scep.Algorithms{})
		if err != nil {
			b.Fatal(err)
		}
		b.Run(bb.name, func(b *testing.B) {
			for b.Loop() {
				if _, err := m.Open(ra); err == nil {
					b.Fatal("opened")
				}
			}
		})
	}
}
