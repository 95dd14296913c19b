package token_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"testing"
	"time"

	"github.com/certconnector/certconnector/internal/cms"
	"github.com/certconnector/certconnector/internal/pkcs10"
	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/policymodule"
	"github.com/certconnector/certconnector/policymodule/token"
	"github.com/certconnector/certconnector/scep/scepclient"
)

// noon is when most tests happen.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

var (
	clientAuth = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 2}
	serverAuth = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 1}
)

// certificate makes a self-signed certificate that is valid for a day around at.
func certificate(t testing.TB, name string, key crypto.Signer, at time.Time, usage x509.KeyUsage) *x509.Certificate {
	t.Helper()
	serial := new(big.Int).SetBytes([]byte(name))
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, SubjectKeyId: []byte(name), KeyUsage: usage,
		NotBefore: at.Add(-12 * time.Hour), NotAfter: at.Add(12 * time.Hour),
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

func recipient(t testing.TB, name string, key *rsa.PrivateKey) token.Recipient {
	return token.Recipient{Certificate: certificate(t, name, key, noon, x509.KeyUsageKeyEncipherment), Key: key}
}

// party is somebody who signs challenges.
type party struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newParty(t testing.TB, name string, key crypto.Signer) party {
	return party{certificate(t, name, key, noon, x509.KeyUsageDigitalSignature), key}
}

func names(t testing.TB, subject, san []string) policymodule.Names {
	t.Helper()
	n, err := policymodule.ParseNames(subject, san)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// everything is rights to all names but security identifiers.
func everything(t testing.TB) policymodule.Rights {
	return policymodule.Rights{Names: names(t, []string{"*"}, []string{"*"})}
}

// world is a module with one recipient, a party that makes challenges
// elsewhere ("mdm"), and a key of its own ("local").
type world struct {
	to     token.Recipient
	mdm    party
	local  party
	config token.Config
	module *token.Module
}

func newWorld(t testing.TB, change ...func(*world)) *world {
	t.Helper()
	sealer, err := secret.NewSealer(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{to: recipient(t, "recipient", testkeys.RSA2048(0)), mdm: newParty(t, "mdm", testkeys.P256(0)), local: newParty(t, "local", testkeys.RSA2048(1))}
	w.config = token.Config{
		Endpoint: "corp", Recipients: []token.Recipient{w.to}, Sealer: sealer,
		Signers: []token.Signer{
			{Name: "mdm", Certificate: w.mdm.cert, Rights: everything(t)},
			{Name: "local", Certificate: w.local.cert, Rights: everything(t), Mint: w.local.key},
		},
		Rights: map[string]policymodule.Rights{"ops": everything(t)},
		Clock:  func() time.Time { return noon },
	}
	for _, c := range change {
		c(w)
	}
	if w.module, err = token.New(w.config); err != nil {
		t.Fatal(err)
	}
	return w
}

// object is claims as a party writes them.
type object map[string]any

// goodClaims fit goodCSR.
func goodClaims() object {
	id := make([]byte, 16)
	rand.Read(id)
	return object{
		"typ": "certconnector-challenge", "version": 1, "id": base64.RawURLEncoding.EncodeToString(id), "endpoint": "corp",
		"not_before": "2026-03-01T11:55:00Z", "not_after": "2026-03-01T12:30:00Z",
		"subject": []any{
			[]any{object{"type": "O", "value": "Corp"}},
			[]any{object{"type": "2.5.4.3", "value": "phone 7"}},
		},
		"san":       []any{object{"dns": "phone7.corp.example"}, object{"upn": "anna@corp.example"}},
		"key_usage": []any{"digitalSignature", "keyEncipherment"}, "ext_key_usage": []any{"1.3.6.1.5.5.7.3.2"},
		"key": object{"type": "rsa", "min_bits": 2048}, "hash": "sha256", "template": "Devices", "max_validity": 86400,
	}
}

func encode(t testing.TB, c object) string {
	t.Helper()
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// mint makes a challenge of any content.
func mint(t testing.TB, content string, by party, to ...token.Recipient) secret.Text {
	t.Helper()
	signed, err := cms.Sign([]byte(content), by.cert, by.key, noon)
	if err != nil {
		t.Fatal(err)
	}
	return seal(t, signed, to...)
}

func seal(t testing.TB, content []byte, to ...token.Recipient) secret.Text {
	t.Helper()
	var certs []*x509.Certificate
	for _, r := range to {
		certs = append(certs, r.Certificate)
	}
	der, err := cms.Seal(content, certs)
	if err != nil {
		t.Fatal(err)
	}
	return secret.Text(base64.StdEncoding.EncodeToString(der))
}

func goodCSR() *scepclient.CSR {
	return &scepclient.CSR{
		Subject:  pkix.Name{Organization: []string{"Corp"}, CommonName: "phone 7"},
		DNSNames: []string{"phone7.corp.example"}, UPNs: []string{"anna@corp.example"},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment, ExtKeyUsage: []asn1.ObjectIdentifier{clientAuth},
	}
}

// request is a device's, with a challenge.
func request(t testing.TB, csr *scepclient.CSR, challenge secret.Text) policymodule.Request {
	t.Helper()
	return keyed(t, csr, challenge, testkeys.RSA2048(3))
}

func keyed(t testing.TB, csr *scepclient.CSR, challenge secret.Text, key *rsa.PrivateKey) policymodule.Request {
	t.Helper()
	csr.Challenge = challenge
	der, err := csr.Encode(key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := pkcs10.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	return policymodule.Request{Endpoint: "corp", TransactionID: "1", CSR: parsed, Template: "Devices"}
}

func verify(t testing.TB, m *token.Module, r policymodule.Request) policymodule.Decision {
	t.Helper()
	d, err := m.Verify(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if !d.Granted && d.FailInfo != policymodule.BadRequest {
		t.Errorf("the sender is told failInfo %d, want badRequest of every rule", d.FailInfo)
	}
	return d
}

// withChallenge is a good request whose challenge is put in after it was read:
// not every text can be a PrintableString.
func withChallenge(t testing.TB, challenge secret.Text) *pkcs10.Request {
	r := request(t, goodCSR(), "x").CSR
	r.ChallengePassword = challenge
	return r
}
