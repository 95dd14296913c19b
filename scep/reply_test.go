package scep_test

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/smallstep/pkcs7"

	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/scep"
)

func (m message) signerKey() *rsa.PrivateKey { return testkeys.RSA2048(deviceKey) }

// decoded is a reply as another implementation reads it.
type decoded struct {
	p7         *pkcs7.PKCS7
	content    []byte
	attributes map[string][]byte // attribute → DER of its one value
}

// decode reads and verifies a reply with smallstep/pkcs7, the second opinion.
func decode(t testing.TB, reply []byte) decoded {
	t.Helper()
	p7, err := pkcs7.Parse(reply)
	if err != nil {
		t.Fatalf("reply cannot be read: %v", err)
	}
	if err := p7.Verify(); err != nil {
		t.Fatalf("reply cannot be verified: %v", err)
	}
	d := decoded{p7: p7, content: p7.Content, attributes: map[string][]byte{}}
	for _, a := range p7.Signers[0].AuthenticatedAttributes {
		if d.attributes[a.Type.String()] != nil {
			t.Errorf("attribute %v comes twice", a.Type)
		}
		d.attributes[a.Type.String()] = a.Value.Bytes
	}
	return d
}

// open decrypts a successful reply with the device's certificate.
func (d decoded) open(t testing.TB, cert []byte) []byte {
	t.Helper()
	inner, err := pkcs7.Parse(d.content)
	if err != nil {
		t.Fatalf("envelope: %v", err)
	}
	c, err := x509.ParseCertificate(cert)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := inner.Decrypt(c, testkeys.RSA2048(deviceKey))
	if err != nil {
		t.Fatalf("decrypting: %v", err)
	}
	return plain
}

func (d decoded) expect(t *testing.T, n int, want []byte) {
	t.Helper()
	if got := d.attributes[scepOID(n).String()]; !bytes.Equal(got, want) {
		t.Errorf("attribute %v is %x, want %x", scepOID(n), got, want)
	}
}

func TestSuccess(t *testing.T) {
	w := newWorld(t)
	cert := selfSigned(t, testkeys.RSA2048(deviceKey))
	for _, tt := range []struct {
		name   string
		cipher asn1.ObjectIdentifier
		digest crypto.Hash
		id     []byte
	}{
		{"AES-128 and SHA-256", idAES128, crypto.SHA256, el(0x13, transactionID)},
		{"AES-256 and SHA-512", idAES256, crypto.SHA512, el(12, transactionID)},
		{"3DES and SHA-1", id3DES, crypto.SHA1, el(0x16, transactionID)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ra := w.ra(t)
			content := envelope{to: []to{{cert: w.encryption}}, plain: request{}.build(t), cipher: tt.cipher}.build(t)
			m, _ := exchange(t, ra, message{cert: cert, id: tt.id, digest: tt.digest, content: content}.build(t), everything)
			reply, err := ra.Reply(m, &scep.Result{Status: scep.Success, Certificate: w.signing.Raw})
			if err != nil {
				t.Fatal(err)
			}
			d := decode(t, reply)
			d.expect(t, 2, el(0x13, []byte("3")))
			d.expect(t, 3, el(0x13, []byte("0")))
			d.expect(t, 4, nil)
			d.expect(t, 6, el(4, []byte("0123456789abcdef")))
			d.expect(t, 7, tt.id)
			if nonce := d.attributes[scepOID(5).String()]; len(nonce) != 18 || bytes.Contains(nonce, []byte("0123456789abcdef")) {
				t.Error("senderNonce is not a fresh one")
			}
			if !slices.EqualFunc(d.p7.Certificates, []*x509.Certificate{w.signing}, (*x509.Certificate).Equal) {
				t.Errorf("%d certificates in clear, want the signer's alone", len(d.p7.Certificates))
			}
			si := d.p7.Signers[0]
			if !si.DigestEncryptionAlgorithm.Algorithm.Equal(idRSA) || !bytes.Equal(si.DigestEncryptionAlgorithm.Parameters.FullBytes, []byte{5, 0}) {
				t.Errorf("signature algorithm %v", si.DigestEncryptionAlgorithm)
			}
			if !bytes.Contains(reply, oid(tt.cipher)) || !bytes.Equal(oid(si.DigestAlgorithm.Algorithm), digestOID(tt.digest)) {
				t.Error("cipher or digest are not those of the request")
			}
			issued, err := pkcs7.Parse(d.open(t, cert))
			if err != nil || len(issued.Certificates) != 1 || !issued.Certificates[0].Equal(w.signing) {
				t.Errorf("not exactly the issued certificate inside: %v", err)
			}
		})
	}
}

func digestOID(h crypto.Hash) []byte {
	return oid(map[crypto.Hash]asn1.ObjectIdentifier{crypto.SHA1: idSHA1, crypto.SHA256: idSHA256, crypto.SHA512: idSHA512}[h])
}

func TestFailureAndPending(t *testing.T) {
	w := newWorld(t)
	content := envelope{to: []to{{cert: w.encryption}}, plain: request{}.build(t)}.build(t)
	for _, tt := range []struct {
		name    string
		set     func(*scep.RA)
		msg     message
		result  *scep.Result
		status  string
		info    []byte
		content []byte
		text    bool
	}{
		{"failure", nil, message{}, scep.Refuse(scep.BadRequest, "why"), "2", el(0x13, []byte("2")), nil, false},
		{"pending", nil, message{}, &scep.Result{Status: scep.Pending}, "3", nil, nil, false},
		{"dummy content", func(ra *scep.RA) { ra.DummyContent = true }, message{}, scep.Refuse(scep.BadTime, ""), "2", el(0x13, []byte("3")), []byte{0}, false},
		{"dummy content while pending", func(ra *scep.RA) { ra.DummyContent = true }, message{}, &scep.Result{Status: scep.Pending}, "3", nil, []byte{0}, false},
		{"text on the wire", func(ra *scep.RA) { ra.SendFailInfoText = true }, message{}, scep.Refuse(scep.BadCertID, "why"), "2", el(0x13, []byte("4")), nil, true},
		{"SHA-1 refused, answered with SHA-256", nil, message{digest: crypto.SHA1}, scep.Refuse(scep.BadAlg, ""), "2", el(0x13, []byte("0")), nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			material := w.material()
			if tt.set != nil {
				tt.set(&material)
			}
			tt.msg.content = content
			m, _ := scep.Parse(tt.msg.build(t), scep.Algorithms{})
			reply, err := newRA(t, material).Reply(m, tt.result)
			if err != nil {
				t.Fatal(err)
			}
			d := decode(t, reply)
			d.expect(t, 3, el(0x13, []byte(tt.status)))
			d.expect(t, 4, tt.info)
			if !bytes.Equal(d.content, tt.content) || tt.content == nil && !bytes.Contains(reply, seq(oid(idData))) {
				t.Errorf("content %x, want %x", d.content, tt.content)
			}
			text := d.attributes[asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 24, 1}.String()]
			if tt.text != bytes.Equal(text, el(12, []byte("why"))) {
				t.Errorf("failInfoText %q", text)
			}
			if !d.p7.Signers[0].DigestAlgorithm.Algorithm.Equal(idSHA256) {
				t.Error("digest weaker than SHA-256")
			}
		})
	}
	t.Run("no senderNonce, no recipientNonce", func(t *testing.T) {
		m, err := scep.Parse(message{content: content, noNonce: true}.build(t), everything)
		reply, err := w.ra(t).Reply(m, refusal(t, err).Result())
		if err != nil {
			t.Fatal(err)
		}
		decode(t, reply).expect(t, 6, nil)
	})
	t.Run("success for a message that was never opened", func(t *testing.T) {
		m, _ := scep.Parse(message{content: content, breakSig: true}.build(t), everything)
		if _, err := w.ra(t).Reply(m, &scep.Result{Status: scep.Success, Certificate: w.signing.Raw}); err == nil {
			t.Error("a certificate left for a message that was refused")
		}
	})
	t.Run("success without a certificate", func(t *testing.T) {
		m, _ := scep.Parse(message{content: content}.build(t), everything)
		if _, err := w.ra(t).Reply(m, &scep.Result{Status: scep.Success}); err == nil {
			t.Error("a success with nothing in it")
		}
	})
}

func TestChainInReplyAndCRL(t *testing.T) {
	w := newWorld(t)
	material := w.material()
	material.IncludeChain = true
	ra := newRA(t, material)
	cert := selfSigned(t, testkeys.RSA2048(deviceKey))
	answer := func(kind string, plain []byte, res *scep.Result) *pkcs7.PKCS7 {
		content := envelope{to: []to{{cert: w.encryption}}, plain: plain}.build(t)
		m, _ := exchange(t, ra, message{cert: cert, messageType: kind, content: content}.build(t), everything)
		reply, err := ra.Reply(m, res)
		if err != nil {
			t.Fatal(err)
		}
		p7, err := pkcs7.Parse(decode(t, reply).open(t, cert))
		if err != nil {
			t.Fatal(err)
		}
		return p7
	}
	p7 := answer("19", request{}.build(t), &scep.Result{Status: scep.Success, Certificate: w.encryption.Raw})
	if !slices.EqualFunc(p7.Certificates, []*x509.Certificate{w.encryption, w.ca}, (*x509.Certificate).Equal) {
		t.Errorf("%d certificates, want the issued one, then the chain without the root", len(p7.Certificates))
	}
	crl, err := x509.CreateRevocationList(nil, &x509.RevocationList{Number: w.ca.SerialNumber, ThisUpdate: notBefore, NextUpdate: notAfter},
		withKeyID(w.ca), testkeys.RSA2048(caKey))
	if err != nil {
		t.Fatal(err)
	}
	p7 = answer("22", seq(w.ca.RawSubject, []byte{2, 1, 5}), &scep.Result{Status: scep.Success, CRL: crl})
	if len(p7.CRLs) != 1 || len(p7.Certificates) != 0 {
		t.Errorf("%d CRLs and %d certificates", len(p7.CRLs), len(p7.Certificates))
	}
}

func withKeyID(c *x509.Certificate) *x509.Certificate {
	c2 := *c
	c2.SubjectKeyId = []byte{1}
	return &c2
}

// TestOpenSSLReadsReplies has OpenSSL verify, decrypt and unpack a reply.
func TestOpenSSLReadsReplies(t *testing.T) {
	w := newWorld(t)
	ra := w.ra(t)
	key := testkeys.RSA2048(deviceKey)
	cert := selfSigned(t, key)
	content := envelope{to: []to{{cert: w.encryption}}, plain: request{}.build(t), cipher: idAES256}.build(t)
	m, _ := exchange(t, ra, message{cert: cert, content: content}.build(t), everything)
	reply, err := ra.Reply(m, &scep.Result{Status: scep.Success, Certificate: w.signing.Raw})
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	openssl := func(args ...string) string {
		out, err := exec.CommandContext(t.Context(), "openssl", args...).CombinedOutput()
		if err != nil {
			t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	pemFile := func(name, kind string, der []byte) string {
		return write(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	chain := write("chain.pem", slices.Concat(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.ca.Raw}),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.root.Raw})))
	inner, issued := filepath.Join(dir, "inner.der"), filepath.Join(dir, "issued.der")
	openssl("cms", "-verify", "-inform", "DER", "-in", write("reply.der", reply), "-CAfile", chain, "-purpose", "any", "-attime", "1800000000", "-binary", "-out", inner)
	openssl("cms", "-decrypt", "-inform", "DER", "-in", inner, "-recip", pemFile("device.pem", "CERTIFICATE", cert),
		"-inkey", pemFile("key.pem", "PRIVATE KEY", keyDER), "-binary", "-out", issued)
	if out := openssl("pkcs7", "-inform", "DER", "-in", issued, "-print_certs", "-noout"); strings.Count(out, "subject=") != 1 || !strings.Contains(out, "RA signing") {
		t.Errorf("openssl sees %s", out)
	}
}

// TestForeignBuilder feeds messages that smallstep/pkcs7 made.
func TestForeignBuilder(t *testing.T) {
	w := newWorld(t)
	pkcs7.ContentEncryptionAlgorithm = pkcs7.EncryptionAlgorithmAES256CBC // a global, hence no parallel tests here
	csr := request{}.build(t)
	content, err := pkcs7.Encrypt(csr, []*x509.Certificate{w.ca, w.encryption})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(selfSigned(t, testkeys.RSA2048(deviceKey)))
	if err != nil {
		t.Fatal(err)
	}
	sd, err := pkcs7.NewSignedData(content)
	if err != nil {
		t.Fatal(err)
	}
	sd.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA256)
	if err := sd.AddSigner(cert, testkeys.RSA2048(deviceKey), pkcs7.SignerInfoConfig{ExtraSignedAttributes: []pkcs7.Attribute{
		{Type: scepOID(2), Value: "19"}, {Type: scepOID(7), Value: "abc=="}, {Type: scepOID(5), Value: []byte("0123456789abcdef")},
	}}); err != nil {
		t.Fatal(err)
	}
	body, err := sd.Finish()
	if err != nil {
		t.Fatal(err)
	}
	m, req := exchange(t, w.ra(t), body, scep.Algorithms{})
	if !bytes.Equal(req.CSR.Raw, csr) || m.Cipher != scep.AES256CBC || m.TransactionID != "abc==" {
		t.Error("not the request that was sent")
	}
}
