package scep_test

import (
	"bytes"
	"crypto"
	"encoding/asn1"
	"errors"
	"strings"
	"testing"

	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/scep"
)

// The rows of this file are named after the conformance matrix in docs.

func TestAcceptedMessages(t *testing.T) {
	w := newWorld(t)
	ra := w.ra(t)
	toRA := []to{{cert: w.encryption}}
	csr := request{}.build(t)
	plain := envelope{to: toRA, plain: csr}

	sha256Param := seq(el(0xa0, alg(idSHA256)), el(0xa1, alg(idMGF1, alg(idSHA256))))
	for _, tt := range []struct {
		name   string
		msg    message
		env    envelope
		digest crypto.Hash
		cipher scep.Cipher
	}{
		{name: "T4 plain DER", env: plain},
		{name: "T4 Apple's BER on both layers", msg: message{ber: 409, digest: crypto.SHA512}, env: envelope{to: toRA, plain: csr, ber: 120}, digest: crypto.SHA512},
		{name: "T4 BER in segments of one octet", msg: message{ber: 1}, env: envelope{to: toRA, plain: csr, ber: 1}},
		{name: "T4 BER inside only", env: envelope{to: toRA, plain: csr, ber: 1000}},
		{name: "T4 digest parameters absent", msg: message{digestAlg: alg(idSHA256), sigAlg: alg(idRSA)}, env: plain},
		{name: "T4 signature algorithm names the digest", msg: message{sigAlg: alg(idRSAWithSHA256, []byte{5, 0})}, env: plain},
		{name: "T4 signature algorithm in the digest's place", msg: message{digestAlg: alg(idRSAWithSHA256, []byte{5, 0})}, env: plain},
		{name: "T4 RSASSA-PSS", msg: message{pss: true, sigAlg: alg(idPSS)}, env: plain},
		{name: "T4 RSA-OAEP, default parameters", env: envelope{to: []to{{cert: w.encryption, oaep: crypto.SHA1, oaepParam: seq()}}, plain: csr}},
		{name: "T4 RSA-OAEP, no parameters", env: envelope{to: []to{{cert: w.encryption, oaep: crypto.SHA1}}, plain: csr}},
		{name: "T4 RSA-OAEP with SHA-256", env: envelope{to: []to{{cert: w.encryption, oaep: crypto.SHA256, oaepParam: sha256Param}}, plain: csr}},
		{name: "T4 content type encryptedData", env: envelope{to: toRA, plain: csr, contentType: idEncryptedData}},
		{name: "T5 AES-192", env: envelope{to: toRA, plain: csr, cipher: idAES192}, cipher: scep.AES192CBC},
		{name: "T5 AES-256", env: envelope{to: toRA, plain: csr, cipher: idAES256}, cipher: scep.AES256CBC},
		{name: "T5 triple DES", env: envelope{to: toRA, plain: csr, cipher: id3DES}, cipher: scep.TripleDESCBC},
		{name: "T5 SHA-1", msg: message{digest: crypto.SHA1}, env: plain, digest: crypto.SHA1},
		{name: "T5 SHA-1 in the CSR", env: envelope{to: toRA, plain: request{sha1: true}.build(t)}},
		{name: "T5 SHA-384", msg: message{digest: crypto.SHA384}, env: plain, digest: crypto.SHA384},
		{name: "T6 recipient by key identifier", env: envelope{to: []to{{cert: w.encryption, keyID: true}}, plain: csr}},
		{name: "T6 previous RA key", env: envelope{to: []to{{cert: w.previous}}, plain: csr}},
		{name: "T6 all certificates as recipients", env: envelope{to: []to{{cert: w.signing}, {cert: w.ca}, {cert: w.encryption}, {cert: w.root}}, plain: csr}},
		{name: "T6 recipient's name with other string types", env: envelope{to: []to{{cert: w.encryption, issuer: restring(w.ca.RawSubject)}}, plain: csr}},
		{name: "T6 single recipient with a foreign name", env: envelope{to: []to{{cert: w.encryption, issuer: name("an old CA")}}, plain: csr}},
		{name: "T7 challenge as UTF8String", env: envelope{to: toRA, plain: request{challenge: el(12, []byte("x"))}.build(t)}},
		{name: "T7 challenge of 16 KB", env: envelope{to: toRA, plain: request{challenge: el(0x13, bytes.Repeat([]byte("MII+"), 4096))}.build(t)}},
		{name: "T3 message of 40 KB", env: envelope{to: toRA, plain: request{challenge: el(0x13, bytes.Repeat([]byte("MII+"), 10240))}.build(t)}},
		{name: "T12 RenewalReq", msg: message{messageType: "17"}, env: plain},
		{name: "attributes sent out of order, signed in order", msg: message{reversed: true}, env: plain},
		{name: "attributes signed as sent", msg: message{asSent: true}, env: plain},
		{name: "unknown and repeated foreign attributes", msg: message{extra: [][]byte{
			attr(asn1.ObjectIdentifier{1, 2, 3}, []byte{5, 0}), attr(asn1.ObjectIdentifier{1, 2, 3}, []byte{5, 0}, []byte{5, 0})}}, env: plain},
		{name: "transactionID as UTF8String", msg: message{id: el(12, transactionID)}, env: plain},
		{name: "transactionID as OCTET STRING", msg: message{id: el(4, transactionID)}, env: plain},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.msg.content = tt.env.build(t)
			m, req := exchange(t, ra, tt.msg.build(t), everything)
			if !bytes.Equal(req.CSR.Raw, tt.env.plain) {
				t.Error("the CSR is not the one that was sent")
			}
			if m.TransactionID != string(transactionID) || req.TransactionID != m.TransactionID {
				t.Errorf("transactionID %q", m.TransactionID)
			}
			if tt.digest == 0 {
				tt.digest = crypto.SHA256
			}
			if tt.cipher == 0 {
				tt.cipher = scep.AES128CBC
			}
			if m.Digest != tt.digest || m.Cipher != tt.cipher {
				t.Errorf("digest %v, cipher %v; want %v, %v", m.Digest, m.Cipher, tt.digest, tt.cipher)
			}
			if req.Signer.KeyDigest() != req.CSR.KeyDigest() {
				t.Error("the signer's key is not the CSR's")
			}
		})
	}
}

// restring writes a Name's strings as UTF8String, upper case, with a space
// doubled: the same name by RFC 5280, section 7.1.
func restring(der []byte) []byte {
	var list asn1.RawValue
	if _, err := asn1.Unmarshal(der, &list); err != nil {
		panic(err)
	}
	var out []byte
	for rest := list.Bytes; len(rest) > 0; {
		var set asn1.RawValue
		rest, _ = asn1.Unmarshal(rest, &set)
		var pair struct {
			Type  asn1.ObjectIdentifier
			Value asn1.RawValue
		}
		if _, err := asn1.Unmarshal(set.Bytes, &pair); err != nil {
			panic(err)
		}
		text := strings.ReplaceAll(strings.ToUpper(string(pair.Value.Bytes)), " ", "  ")
		out = append(out, el(0x31, seq(oid(pair.Type), el(12, []byte(text))))...)
	}
	return seq(out)
}

func TestRefusedMessages(t *testing.T) {
	w := newWorld(t)
	toRA := []to{{cert: w.encryption}}
	csr := request{}.build(t)
	plain := envelope{to: toRA, plain: csr}
	weak := testkeys.RSA1024()
	strict := scep.Algorithms{}

	for _, tt := range []struct {
		name   string
		msg    message
		env    envelope
		accept scep.Algorithms
		want   scep.FailInfo
	}{
		{"T5 single DES", message{}, envelope{to: toRA, plain: csr, cipher: idDES}, everything, scep.BadAlg},
		{"T5 RC2", message{}, envelope{to: toRA, plain: csr, cipher: idRC2}, everything, scep.BadAlg},
		{"T5 triple DES switched off", message{}, envelope{to: toRA, plain: csr, cipher: id3DES}, strict, scep.BadAlg},
		{"T5 MD5", message{digest: crypto.MD5}, plain, everything, scep.BadAlg},
		{"T5 MD5 as signature algorithm", message{sigAlg: alg(idRSAWithMD5)}, plain, everything, scep.BadAlg},
		{"T5 SHA-1 switched off", message{digest: crypto.SHA1}, plain, strict, scep.BadAlg},
		{"unknown key transport", message{}, envelope{to: []to{{cert: w.encryption, oaep: crypto.SHA1, oaepParam: seq(el(0xa0, alg(idMD5)))}}, plain: csr}, everything, scep.BadAlg},
		{"signer's key of 1024 bits", message{key: weak}, plain, everything, scep.BadAlg},
		{"signer's key is ECDSA", message{cert: rawCert{spki: ecKey(t)}.build(t)}, plain, everything, scep.BadAlg},
		{"wrong signature", message{breakSig: true}, plain, everything, scep.BadMessageCheck},
		{"wrong signature over attributes out of order", message{breakSig: true, reversed: true}, plain, everything, scep.BadMessageCheck},
		{"wrong messageDigest", message{breakDigest: true}, plain, everything, scep.BadMessageCheck},
		{"signed by another key than the certificate's", message{cert: selfSigned(t, testkeys.RSA2048(otherDeviceKey))}, plain, everything, scep.BadMessageCheck},
		{"messageType of a reply", message{messageType: "3"}, plain, everything, scep.BadRequest},
		{"messageType 41, Microsoft's ClaimChallengeAnswer", message{messageType: "41"}, plain, everything, scep.BadRequest},
		{"messageType that is no number", message{messageType: "PKCSReq"}, plain, everything, scep.BadRequest},
		{"no senderNonce", message{noNonce: true}, plain, everything, scep.BadRequest},
		{"two senderNonces", message{extra: [][]byte{attr(scepOID(5), el(4, []byte("another nonce")))}}, plain, everything, scep.BadRequest},
		{"two messageTypes", message{extra: [][]byte{attr(scepOID(2), el(0x13, []byte("17")))}}, plain, everything, scep.BadRequest},
		{"no content", message{noContent: true}, envelope{}, everything, scep.BadRequest},
		{"content that is no envelope", message{content: []byte("nonsense")}, envelope{}, everything, scep.BadMessageCheck},
		{"too many recipients", message{}, envelope{to: many(to{cert: w.encryption}, 11), plain: csr}, everything, scep.BadMessageCheck},
		{"empty encrypted content", message{}, envelope{to: toRA, padding: []byte{}}, everything, scep.BadMessageCheck},
	} {
		t.Run(tt.name, func(t *testing.T) {
			counted := countDecryptions(w.material())
			if tt.env.to != nil {
				tt.msg.content = tt.env.build(t)
			}
			m, err := scep.Parse(tt.msg.build(t), tt.accept)
			if m == nil {
				t.Fatalf("no message to reply to: %v", err)
			}
			if got := refusal(t, err).FailInfo; got != tt.want {
				t.Errorf("%v (%v), want %v", got, err, tt.want)
			}
			if _, err := m.Open(newRA(t, counted.ra)); err == nil {
				t.Error("a refused message can be opened")
			}
			if counted.n.Load() != 0 {
				t.Error("a private key was used for a message that Parse refuses")
			}
			if _, err := w.ra(t).Reply(m, refusal(t, err).Result()); err != nil {
				t.Errorf("no reply: %v", err)
			}
		})
	}
}

func many[T any](v T, n int) []T {
	list := make([]T, n)
	for i := range list {
		list[i] = v
	}
	return list
}

func TestMalformedMessages(t *testing.T) {
	w := newWorld(t)
	content := envelope{to: []to{{cert: w.encryption}}, plain: request{}.build(t)}.build(t)
	good := message{content: content}.build(t)
	deep := bytes.Repeat([]byte{0x30, 0x80}, 40)
	cert := selfSigned(t, testkeys.RSA2048(deviceKey))
	for _, tt := range []struct {
		name string
		body []byte
	}{
		{"empty", nil},
		{"HTML", []byte("<html>")},
		{"truncated", good[:len(good)-1]},
		{"nested too deeply", append(deep, make([]byte, 80)...)},
		{"an envelope alone", content},
		{"no certificate", message{content: content, certs: [][]byte{}}.build(t)},
		{"17 certificates", message{content: content, certs: many(cert, 17)}.build(t)},
		{"65 attributes", message{content: content, extra: many(attr(asn1.ObjectIdentifier{1, 2, 3}, []byte{5, 0}), 61)}.build(t)},
		{"empty transactionID", message{content: content, id: el(0x13)}.build(t)},
		{"transactionID of 256 octets", message{content: content, id: el(0x13, make([]byte, 256))}.build(t)},
		{"transactionID that is a number", message{content: content, id: []byte{2, 1, 7}}.build(t)},
		{"two transactionIDs", message{content: content, extra: [][]byte{attr(scepOID(7), el(0x13, []byte("2")))}}.build(t)},
		{"none of the certificates is the signer's", message{content: content, certs: [][]byte{w.ca.Raw, w.root.Raw}}.build(t)},
		{"a serial of 65 octets", message{content: content, cert: rawCert{serial: bytes.Repeat([]byte{1}, 65)}.build(t)}.build(t)},
		{"a certificate that is none", message{content: content, certs: [][]byte{seq()}}.build(t)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, err := scep.Parse(tt.body, everything)
			var malformed *scep.Malformed
			if m != nil || !errors.As(err, &malformed) {
				t.Errorf("message %v, error %v; want none and *Malformed", m != nil, err)
			}
		})
	}
	t.Run("bytes after the message do not matter", func(t *testing.T) {
		if _, err := scep.Parse(append(bytes.Clone(good), "\r\n"...), everything); err != nil {
			t.Error(err)
		}
	})
}

func TestOtherRequests(t *testing.T) {
	w := newWorld(t)
	ra := w.ra(t)
	issuer, subject := name("RA signing"), name("device")
	serial := []byte{2, 3, 0, 0x80, 1}
	for _, tt := range []struct {
		name  string
		kind  string
		plain []byte
		check func(*scep.Request) bool
	}{
		{"T11 CertPoll", "20", seq(issuer, subject), func(r *scep.Request) bool {
			return r.MessageType == scep.CertPoll && bytes.Equal(r.Issuer, issuer) && bytes.Equal(r.Subject, subject)
		}},
		{"CertPoll in BER", "20", toBER(seq(issuer, subject), 5), func(r *scep.Request) bool { return bytes.Equal(r.Subject, subject) }},
		{"GetCert", "21", seq(issuer, serial), func(r *scep.Request) bool {
			return r.MessageType == scep.GetCert && r.Serial.Int64() == 0x8001
		}},
		{"GetCRL", "22", seq(issuer, serial), func(r *scep.Request) bool { return r.MessageType == scep.GetCRL && bytes.Equal(r.Issuer, issuer) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			content := envelope{to: []to{{cert: w.encryption}}, plain: tt.plain}.build(t)
			if _, req := exchange(t, ra, message{messageType: tt.kind, content: content}.build(t), everything); !tt.check(req) || req.CSR != nil {
				t.Errorf("request %+v", req)
			}
		})
	}
}

// T9, T11, T12: what enrolment tells requests apart by.
func TestWhoSigned(t *testing.T) {
	w := newWorld(t)
	ra := w.ra(t)
	content := envelope{to: []to{{cert: w.encryption}}, plain: request{}.build(t)}.build(t)
	open := func(m message) *scep.Request {
		m.content = content
		_, req := exchange(t, ra, m.build(t), everything)
		return req
	}
	first := open(message{})
	again := open(message{cert: certify(t, raTemplate("made anew", 77, 0), nil, testkeys.RSA2048(deviceKey).Public(), testkeys.RSA2048(deviceKey)).Raw})
	other := open(message{key: testkeys.RSA2048(otherDeviceKey)})
	issued := certify(t, raTemplate("device", 78, 0), w.ca, testkeys.RSA2048(deviceKey).Public(), testkeys.RSA2048(caKey))
	renewal := open(message{cert: issued.Raw, certs: [][]byte{w.ca.Raw, issued.Raw}})
	byKeyID := open(message{cert: issued.Raw, certs: [][]byte{w.ca.Raw, issued.Raw}, keyID: issued.SubjectKeyId})

	if !first.Signer.SelfIssued || first.Signer.KeyDigest() != again.Signer.KeyDigest() {
		t.Error("a self-signed certificate made anew is not the same key")
	}
	if first.Signer.KeyDigest() == other.Signer.KeyDigest() {
		t.Error("another key is taken for the same")
	}
	if renewal.Signer.SelfIssued || !bytes.Equal(renewal.Signer.RawIssuer, w.ca.RawSubject) || renewal.Signer.Serial.Int64() != 78 {
		t.Error("the CA's certificate is not recognised as the signer")
	}
	if !bytes.Equal(byKeyID.Signer.Raw, issued.Raw) {
		t.Error("the signer is not found by its key identifier")
	}
}
