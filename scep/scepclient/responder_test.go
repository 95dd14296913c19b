package scepclient_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"

	"github.com/certconnector/certconnector/internal/pkcs10"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/scep/scepclient"
)

func TestMain(m *testing.M) {
	pkcs7.ContentEncryptionAlgorithm = pkcs7.EncryptionAlgorithmAES128CBC
	os.Exit(m.Run())
}

// authority is a root and the certificates under it.
type authority struct {
	root, signing, encryption, combined *x509.Certificate
	rootKey, signingKey, encryptionKey  *rsa.PrivateKey
}

func issue(t testing.TB, cn string, usage x509.KeyUsage, ca bool, public *rsa.PublicKey, parent *x509.Certificate, by *rsa.PrivateKey) *x509.Certificate {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: cn}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: usage, BasicConstraintsValid: true, IsCA: ca,
	}
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, by)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func newAuthority(t testing.TB) *authority {
	a := &authority{rootKey: testkeys.RSA2048(0), signingKey: testkeys.RSA2048(1), encryptionKey: testkeys.RSA2048(2)}
	a.root = issue(t, "Root", x509.KeyUsageCertSign|x509.KeyUsageCRLSign, true, &a.rootKey.PublicKey, nil, a.rootKey)
	a.signing = issue(t, "RA signing", x509.KeyUsageDigitalSignature, false, &a.signingKey.PublicKey, a.root, a.rootKey)
	a.encryption = issue(t, "RA encryption", x509.KeyUsageKeyEncipherment, false, &a.encryptionKey.PublicKey, a.root, a.rootKey)
	a.combined = issue(t, "RA", x509.KeyUsageDigitalSignature|x509.KeyUsageKeyEncipherment, false, &a.signingKey.PublicKey, a.root, a.rootKey)
	return a
}

// received is one request as the responder read it with an independent
// library.
type received struct {
	method, path, query, userAgent string
	raw                            []byte
	messageType, transactionID     string
	content                        []byte
	signer                         []byte // certificate, DER
}

// responder is a SCEP server of a few lines. Its fields distort what it
// answers.
type responder struct {
	*authority
	capabilities string
	certificates []*x509.Certificate
	pending      int // so many PENDINGs come before the certificate
	failInfo     string

	transactionID, messageType, contentType string // sent in place of the right ones
	nonce                                   []byte
	signWith                                *x509.Certificate
	signKey                                 *rsa.PrivateKey
	otherKey                                bool // issue for another key

	mu   sync.Mutex
	seen []received
}

func newResponder(t testing.TB) *responder {
	a := newAuthority(t)
	return &responder{
		authority: a, capabilities: "AES\nDES3\nPOSTPKIOperation\nRenewal\nSHA-256\nSHA-512\nSCEPStandard\n",
		certificates: []*x509.Certificate{a.signing, a.encryption, a.root}, signWith: a.signing, signKey: a.signingKey,
		contentType: "application/x-pki-message", messageType: "3",
	}
}

func (s *responder) start(t testing.TB) string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serve(t, w, r) }))
	t.Cleanup(server.Close)
	return server.URL + "/scep"
}

func (s *responder) requests() []received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen
}

func (s *responder) serve(t testing.TB, w http.ResponseWriter, r *http.Request) {
	switch {
	case strings.Contains(r.URL.RawQuery, "operation=GetCACaps"):
		io.WriteString(w, s.capabilities)
	case strings.Contains(r.URL.RawQuery, "operation=GetCACert"):
		var all []byte
		for _, c := range s.certificates {
			all = append(all, c.Raw...)
		}
		if len(s.certificates) == 1 {
			w.Header().Set("Content-Type", "application/x-x509-ca-cert")
			w.Write(all)
			return
		}
		bag, _ := pkcs7.DegenerateCertificate(all)
		w.Header().Set("Content-Type", "application/x-x509-ca-ra-cert")
		w.Write(bag)
	default:
		s.operate(t, w, r)
	}
}

func (s *responder) operate(t testing.TB, w http.ResponseWriter, r *http.Request) {
	raw, _ := io.ReadAll(r.Body)
	if r.Method == http.MethodGet {
		_, text, _ := strings.Cut(r.URL.RawQuery, "message=")
		text, _, _ = strings.Cut(text, "&operation")
		raw = unescape(t, text)
	}
	got := s.read(t, raw)
	got.method, got.path, got.query, got.userAgent = r.Method, r.URL.Path, r.URL.RawQuery, r.UserAgent()
	s.mu.Lock()
	s.seen = append(s.seen, got)
	n := len(s.seen)
	s.mu.Unlock()

	w.Header().Set("Content-Type", s.contentType)
	switch {
	case n <= s.pending:
		w.Write(s.reply(t, got, "3", nil))
	case s.failInfo != "":
		w.Write(s.reply(t, got, "2", nil))
	default:
		w.Write(s.reply(t, got, "0", s.certificate(t)))
	}
}

// certificate issues for the CSR that came first.
func (s *responder) certificate(t testing.TB) []byte {
	csr, err := pkcs10.Parse(s.requests()[0].content)
	if err != nil {
		t.Errorf("certification request: %v", err)
		return nil
	}
	key, _ := csr.PublicKey.(*rsa.PublicKey)
	if s.otherKey {
		key = &s.rootKey.PublicKey
	}
	return issue(t, "issued", x509.KeyUsageDigitalSignature|x509.KeyUsageKeyEncipherment, false, key, s.root, s.rootKey).Raw
}

var scepAttribute = func(n int) asn1.ObjectIdentifier { return asn1.ObjectIdentifier{2, 16, 840, 1, 113733, 1, 9, n} }

// read verifies and decrypts a request. The signer certificate is patched in
// by hand where crypto/x509 refuses it.
func (s *responder) read(t testing.TB, raw []byte) received {
	pkcs7.SetFallbackLegacyX509CertificateParserEnabled(true)
	p, err := pkcs7.Parse(raw)
	if err != nil {
		t.Errorf("request: %v", err)
		return received{}
	}
	if err := p.Verify(); err != nil {
		t.Errorf("request: %v", err)
	}
	envelope, err := pkcs7.Parse(p.Content)
	if err != nil {
		t.Errorf("envelope: %v", err)
		return received{}
	}
	content, err := envelope.Decrypt(s.encryption, s.encryptionKey)
	if err != nil {
		t.Errorf("envelope: %v", err)
	}
	got := received{raw: raw, content: content, signer: p.Certificates[0].Raw}
	p.UnmarshalSignedAttribute(scepAttribute(2), &got.messageType)
	p.UnmarshalSignedAttribute(scepAttribute(7), &got.transactionID)
	return got
}

// reply builds a CertRep with the library's own builder.
func (s *responder) reply(t testing.TB, to received, status string, certificate []byte) []byte {
	request, err := pkcs7.Parse(to.raw)
	if err != nil {
		t.Errorf("request: %v", err)
		return nil
	}
	var nonce []byte
	request.UnmarshalSignedAttribute(scepAttribute(5), &nonce)
	if s.nonce != nil {
		nonce = s.nonce
	}
	id := to.transactionID
	if s.transactionID != "" {
		id = s.transactionID
	}
	var content []byte
	if certificate != nil {
		bag, _ := pkcs7.DegenerateCertificate(certificate)
		if content, err = pkcs7.Encrypt(bag, request.Certificates[:1]); err != nil {
			t.Errorf("reply: %v", err)
		}
	}
	attributes := []pkcs7.Attribute{
		{Type: scepAttribute(2), Value: s.messageType}, {Type: scepAttribute(3), Value: status},
		{Type: scepAttribute(5), Value: []byte("0123456789abcdef")}, {Type: scepAttribute(6), Value: nonce}, {Type: scepAttribute(7), Value: printableString(id)},
	}
	if status == "2" {
		attributes = append(attributes, pkcs7.Attribute{Type: scepAttribute(4), Value: s.failInfo})
	}
	signed, err := pkcs7.NewSignedData(content)
	if err != nil {
		t.Errorf("reply: %v", err)
		return nil
	}
	signed.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA256)
	if err := signed.AddSigner(s.signWith, crypto.PrivateKey(s.signKey), pkcs7.SignerInfoConfig{ExtraSignedAttributes: attributes}); err != nil {
		t.Errorf("reply: %v", err)
		return nil
	}
	raw, err := signed.Finish()
	if err != nil {
		t.Errorf("reply: %v", err)
	}
	return raw
}

// printableString keeps encoding/asn1 from choosing UTF8String.
func printableString(s string) asn1.RawValue {
	return asn1.RawValue{Tag: asn1.TagPrintableString, Bytes: []byte(s)}
}

func quirks(t testing.TB, platform string) scepclient.Quirks {
	t.Helper()
	q, err := scepclient.Platform(platform)
	if err != nil {
		t.Fatal(err)
	}
	return q
}
