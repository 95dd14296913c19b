package scep

import (
	"bytes"
	"crypto/x509"
	"errors"
	"testing"
)

// The seeds of these targets are in testdata/fuzz; TestWriteCorpus makes them.

// FuzzParse feeds foreign bytes to the outer layer: never a panic, and either
// nothing to reply to or a message that can be refused.
func FuzzParse(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := Parse(body, Algorithms{LegacySHA1: true, Legacy3DES: true})
		var refusal *Refusal
		var malformed *Malformed
		switch {
		case m == nil && !errors.As(err, &malformed), m != nil && err != nil && !errors.As(err, &refusal):
			t.Errorf("message %v with error %v", m != nil, err)
		case m != nil && (len(m.TransactionID) == 0 || len(m.TransactionID) > 255 || m.Signer == nil || m.replyDigest == 0):
			t.Error("a message that cannot be replied to")
		case m != nil && err == nil && (m.envelope == nil || len(m.envelope.recipients) == 0 || m.Cipher == 0):
			t.Error("a message that cannot be opened")
		}
	})
}

// FuzzBER normalises: the result is DER, does not grow and does not change again.
func FuzzBER(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		der, err := toDER(b)
		if err != nil {
			return
		}
		if len(der) > len(b)+4*maxDepth {
			t.Errorf("%d octets grew to %d", len(b), len(der))
		}
		if n, plain, err := scan(der, 0); err != nil || !plain || n != len(der) {
			t.Errorf("the result is not DER: %v", err)
		}
		if again, err := toDER(der); err != nil || !bytes.Equal(again, der) {
			t.Errorf("normalising twice makes a difference: %v", err)
		}
	})
}

// FuzzOpenInner feeds what a decryption may yield to the readers of content.
func FuzzOpenInner(f *testing.F) {
	f.Fuzz(func(t *testing.T, kind uint8, plain []byte) {
		req := &Request{MessageType: MessageType(kind)}
		if err := req.readContent(plain); err != nil {
			return
		}
		switch req.MessageType {
		case PKCSReq, RenewalReq:
			_ = req.checkCSR(Algorithms{})
		case CertPoll:
			if req.Issuer == nil || req.Subject == nil {
				t.Error("a poll without names")
			}
		default:
			if req.Issuer == nil || req.Serial == nil {
				t.Error("a query without issuer and serial")
			}
		}
	})
}

// FuzzEnvelope feeds the inner layer before decryption, with everything a
// recipient may say.
func FuzzEnvelope(f *testing.F) {
	ra := &RA{decryption: []decryptionKey{{issuer: []byte{0x30, 0}, serial: []byte{1}, keyID: []byte{2}, size: 256}}}
	f.Fuzz(func(t *testing.T, content []byte) {
		e, err := readEnvelope(content, Algorithms{Legacy3DES: true})
		if err != nil {
			return
		}
		if len(ra.candidates(e.recipients)) > maxDecryptions {
			t.Error("too many decryptions")
		}
		if len(e.content) == 0 || len(e.content)%ciphers[e.cipher].block != 0 || len(e.iv) != ciphers[e.cipher].block {
			t.Error("content that cannot be decrypted")
		}
	})
}

// FuzzSignerCertificate: what crypto/x509 reads, the lenient reader reads too,
// and the same.
func FuzzSignerCertificate(f *testing.F) {
	f.Fuzz(func(t *testing.T, der []byte) {
		signer, err := ParseSigner(der)
		_ = subjectKeyID(der)
		strict, strictErr := x509.ParseCertificate(der)
		if strictErr != nil || strict.SerialNumber.BitLen() >= maxSerial*8 {
			return
		}
		if err != nil {
			t.Fatalf("refused, though crypto/x509 reads it: %v", err)
		}
		if !bytes.Equal(signer.RawIssuer, strict.RawIssuer) || !bytes.Equal(signer.RawSubject, strict.RawSubject) ||
			signer.Serial.Cmp(strict.SerialNumber) != 0 || !bytes.Equal(signer.RawSubjectPublicKeyInfo, strict.RawSubjectPublicKeyInfo) {
			t.Error("read differently from crypto/x509")
		}
		if len(strict.SubjectKeyId) > 0 && !bytes.Equal(subjectKeyID(der), strict.SubjectKeyId) {
			t.Error("subjectKeyIdentifier read differently from crypto/x509")
		}
	})
}
