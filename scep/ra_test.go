package scep_test

import (
	"bytes"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/smallstep/pkcs7"

	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/scep"
)

func certificates(t *testing.T, der []byte) []*x509.Certificate {
	t.Helper()
	p7, err := pkcs7.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	return p7.Certificates
}

// combined is an RA with one certificate for both roles.
func (w *world) combined(t testing.TB) scep.RA {
	key := testkeys.RSA2048(signingKey)
	cert := certify(t, raTemplate("RA", 12, x509.KeyUsageDigitalSignature|x509.KeyUsageKeyEncipherment), w.ca, key.Public(), testkeys.RSA2048(caKey))
	return scep.RA{Signing: scep.KeyPair{Certificate: cert, Key: key}, Shape: scep.CombinedRA, Chain: []*x509.Certificate{w.ca, w.root}}
}

// direct is a CA that answers for itself.
func direct(t testing.TB) scep.RA {
	key := testkeys.RSA2048(caKey)
	ca := certify(t, caTemplate("Laboratory CA", x509.KeyUsageDigitalSignature|x509.KeyUsageKeyEncipherment), nil, key.Public(), key)
	return scep.RA{Signing: scep.KeyPair{Certificate: ca, Key: key}, Shape: scep.CADirect, Chain: []*x509.Certificate{ca}}
}

func TestT1CACert(t *testing.T) {
	w := newWorld(t)
	split, combined, ca := w.material(), w.combined(t), direct(t)
	noRoot := w.material()
	noRoot.IncludeRoot = false
	for _, tt := range []struct {
		name     string
		material scep.RA
		want     []*x509.Certificate
	}{
		{"split", split, []*x509.Certificate{w.signing, w.encryption, w.ca, w.root}},
		{"split without root", noRoot, []*x509.Certificate{w.signing, w.encryption, w.ca}},
		{"combined", combined, []*x509.Certificate{combined.Signing.Certificate, w.ca}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			body, contentType := newRA(t, tt.material).CACert()
			if contentType != "application/x-x509-ca-ra-cert" || !slices.EqualFunc(certificates(t, body), tt.want, (*x509.Certificate).Equal) {
				t.Errorf("%s with %d certificates, or in another order", contentType, len(certificates(t, body)))
			}
			// eContent absent: the content info is the type alone.
			if !bytes.Contains(body, seq(oid(idData))) {
				t.Error("content is not absent")
			}
		})
	}
	t.Run("CA direct", func(t *testing.T) {
		body, contentType := newRA(t, ca).CACert()
		if contentType != "application/x-x509-ca-cert" || !bytes.Equal(body, ca.Chain[0].Raw) {
			t.Errorf("%s of %d octets", contentType, len(body))
		}
	})
	t.Run("sorted for strict parsers", func(t *testing.T) {
		sorted := w.material()
		sorted.DERSort = true
		body, _ := newRA(t, sorted).CACert()
		if !slices.IsSortedFunc(certificates(t, body), func(a, b *x509.Certificate) int { return bytes.Compare(a.Raw, b.Raw) }) {
			t.Error("not sorted")
		}
	})
}

func TestT1NextCACert(t *testing.T) {
	w := newWorld(t)
	if _, err := w.ra(t).NextCACert(); !errors.Is(err, scep.ErrNoNextCA) {
		t.Errorf("without a rollover: %v", err)
	}
	material := w.material()
	material.Next = &scep.NextCA{Chain: []*x509.Certificate{w.root}, RA: []*x509.Certificate{w.previous}}
	body, err := newRA(t, material).NextCACert()
	if err != nil {
		t.Fatal(err)
	}
	d := decode(t, body)
	if got := certificates(t, d.content); !slices.EqualFunc(got, []*x509.Certificate{w.root, w.previous}, (*x509.Certificate).Equal) {
		t.Errorf("%d certificates", len(got))
	}
	if len(d.p7.Certificates) != 1 || !d.p7.Certificates[0].Equal(w.signing) {
		t.Error("not signed by the current RA")
	}
}

func TestT1Capabilities(t *testing.T) {
	if got, want := scep.Capabilities(scep.Algorithms{Legacy3DES: true}, false),
		"AES\nDES3\nPOSTPKIOperation\nRenewal\nSHA-256\nSHA-384\nSHA-512\nSCEPStandard\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := scep.Capabilities(scep.Algorithms{}, true); strings.Contains(got, "DES3") || strings.Contains(got, "SHA-1\n") || !strings.Contains(got, "GetNextCACert\n") {
		t.Errorf("%q", got)
	}
	if got := scep.Capabilities(everything, false); !strings.Contains(got, "\nSHA-1\n") {
		t.Errorf("%q", got)
	}
}

// T6: every shape opens what is encrypted to the certificate it shows, and
// only the CA-direct shape what is encrypted to the CA.
func TestShapesOpen(t *testing.T) {
	w := newWorld(t)
	combined, ca := w.combined(t), direct(t)
	for _, material := range []scep.RA{combined, ca} {
		t.Run(material.Shape.String(), func(t *testing.T) {
			ra := newRA(t, material)
			content := envelope{to: []to{{cert: material.Signing.Certificate}}, plain: request{}.build(t)}.build(t)
			m, _ := exchange(t, ra, message{content: content}.build(t), everything)
			reply, err := ra.Reply(m, &scep.Result{Status: scep.Pending})
			if err != nil {
				t.Fatal(err)
			}
			if !decode(t, reply).p7.Certificates[0].Equal(material.Signing.Certificate) {
				t.Error("not signed by the certificate that is shown")
			}
		})
	}
}

func TestNewRARefusesWhatDevicesCannotUse(t *testing.T) {
	w := newWorld(t)
	foreign := newWorld(t)
	weakKey := testkeys.RSA1024()
	weak := certify(t, raTemplate("weak", 13, x509.KeyUsageDigitalSignature), w.ca, weakKey.Public(), testkeys.RSA2048(caKey))
	ec := certify(t, raTemplate("ec", 14, x509.KeyUsageDigitalSignature), w.ca, testkeys.P256(0).Public(), testkeys.RSA2048(caKey))
	noUsage := certify(t, raTemplate("none", 15, 0), w.ca, testkeys.RSA2048(signingKey).Public(), testkeys.RSA2048(caKey))
	otherCA := certify(t, raTemplate("other", 16, x509.KeyUsageDigitalSignature), foreign.root, testkeys.RSA2048(signingKey).Public(), testkeys.RSA2048(foreignKey))
	for _, tt := range []struct {
		name  string
		wants string // in the error
		set   func(*scep.RA)
	}{
		{"nothing at all", "missing", func(ra *scep.RA) { *ra = scep.RA{} }},
		{"key of another certificate", "not the certificate's", func(ra *scep.RA) { ra.Signing.Key = testkeys.RSA2048(otherDeviceKey) }},
		{"RSA of 1024 bits", "1024 bits", func(ra *scep.RA) { ra.Signing = scep.KeyPair{Certificate: weak, Key: weakKey} }},
		{"ECDSA", "must be RSA", func(ra *scep.RA) { ra.Signing = scep.KeyPair{Certificate: ec, Key: testkeys.P256(0)} }},
		{"no key usage", "digitalSignature missing", func(ra *scep.RA) { ra.Signing.Certificate = noUsage }},
		{"roles exchanged", "keyEncipherment missing", func(ra *scep.RA) { ra.Signing, ra.Encryption = ra.Encryption, ra.Signing }},
		{"not issued by the CA", "not issued by the CA", func(ra *scep.RA) { ra.Signing.Certificate = otherCA }},
		{"no chain", "no CA certificate", func(ra *scep.RA) { ra.Chain = nil }},
		{"chain upside down", "root last", func(ra *scep.RA) { slices.Reverse(ra.Chain) }},
		{"certificate twice", "twice", func(ra *scep.RA) { ra.Chain = append(ra.Chain, w.root) }},
		{"next CA without a certificate", "next CA", func(ra *scep.RA) { ra.Next = &scep.NextCA{} }},
		{"CA direct with an RA certificate", "not the CA's", func(ra *scep.RA) { ra.Shape, ra.Encryption = scep.CADirect, ra.Signing }},
		{"combined with two certificates", "differ", func(ra *scep.RA) { ra.Shape = scep.CombinedRA }},
		{"unknown shape", "shape(9)", func(ra *scep.RA) { ra.Shape = 9 }},
		{"previous key missing", "previous encryption pair 1", func(ra *scep.RA) { ra.Previous[0].Key = nil }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			material := w.material()
			tt.set(&material)
			if _, err := scep.NewRA(material); err == nil || !strings.Contains(err.Error(), tt.wants) {
				t.Errorf("error %v, want one with %q", err, tt.wants)
			}
		})
	}
}
