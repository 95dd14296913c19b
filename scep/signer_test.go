package scep_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"testing"

	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/scep"
)

// rawCert is a certificate under construction that crypto/x509 would not make.
type rawCert struct {
	v1         bool
	serial     []byte // content octets; default 01
	issuer     []byte // default: self-issued
	spki       []byte // default: the device's
	extensions [][]byte
}

func (c rawCert) build(t testing.TB) []byte {
	t.Helper()
	key := testkeys.RSA2048(deviceKey)
	if c.serial == nil {
		c.serial = []byte{1}
	}
	subject := seq(el(0x31, seq(oid(asn1.ObjectIdentifier{2, 5, 4, 3}), el(0x13, []byte("anna_b@example.com")))))
	if c.issuer == nil {
		c.issuer = subject
	}
	if c.spki == nil {
		c.spki = marshalKey(t, key.Public())
	}
	validity := seq(el(0x17, []byte("200101000000Z")), el(0x17, []byte("200102000000Z")))
	fields := [][]byte{el(2, c.serial), alg(idRSAWithSHA256, []byte{5, 0}), c.issuer, validity, subject, c.spki}
	if !c.v1 {
		fields = append([][]byte{el(0xa0, []byte{2, 1, 2})}, fields...)
		if c.extensions != nil {
			fields = append(fields, el(0xa3, seq(c.extensions...)))
		}
	}
	tbs := seq(fields...)
	return seq(tbs, alg(idRSAWithSHA256, []byte{5, 0}), el(3, []byte{0}, signPKCS1(t, key, crypto.SHA256, tbs)))
}

func marshalKey(t testing.TB, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func ecKey(t testing.TB) []byte { return marshalKey(t, testkeys.P256(0).Public()) }

func criticalAKI() []byte {
	return seq(oid(asn1.ObjectIdentifier{2, 5, 29, 35}), el(1, []byte{0xff}), el(4, seq(el(0x80, []byte{1, 2, 3, 4}))))
}

func TestT8SignerCertificatesOfRealDevices(t *testing.T) {
	w := newWorld(t)
	ra := w.ra(t)
	content := envelope{to: []to{{cert: w.encryption}}, plain: request{}.build(t)}.build(t)
	for _, tt := range []struct {
		name    string
		cert    rawCert
		refused bool // by crypto/x509
	}{
		{"critical authorityKeyIdentifier, as Windows sends it", rawCert{extensions: [][]byte{criticalAKI()}}, true},
		{"malformed extension", rawCert{extensions: [][]byte{seq(oid(asn1.ObjectIdentifier{2, 5, 29, 15}), el(4, []byte{9, 9}))}}, true},
		{"version 1 without extensions", rawCert{v1: true}, true}, // for the subject's characters
		{"serial 0", rawCert{serial: []byte{0}}, true},
		{"serial of 33 octets", rawCert{serial: append([]byte{0}, bytes.Repeat([]byte{0xee}, 32)...)}, true},
		{"negative serial", rawCert{serial: []byte{0x80}}, true},
		{"validity long over", rawCert{}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			der := tt.cert.build(t)
			if _, err := x509.ParseCertificate(der); (err != nil) != tt.refused {
				t.Logf("crypto/x509 has changed its mind: %v", err)
			}
			m, req := exchange(t, ra, message{cert: der, content: content}.build(t), everything)
			if !bytes.Equal(req.Signer.Raw, der) || !req.Signer.SelfIssued {
				t.Error("not the signer that was sent")
			}
			reply, err := ra.Reply(m, &scep.Result{Status: scep.Success, Certificate: w.signing.Raw})
			if err != nil {
				t.Fatal(err)
			}
			if want := seq(req.Signer.RawIssuer, el(2, req.Signer.RawSerial)); !bytes.Contains(decode(t, reply).content, want) {
				t.Error("the reply does not name the recipient by its own bytes")
			}
		})
	}
}
