package scep_test

import (
	"crypto/x509"
	"testing"

	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/scep"
)

// A device that asked GetCACert before the pairs changed knows the older
// signer alone: it gets its answer from that one, a refusal as well as a
// certificate. Everybody else gets it from the present one.
func TestAnswerToAnOlderKeyIsSignedByThePairOfItsTime(t *testing.T) {
	w := newWorld(t)
	older := certify(t, raTemplate("RA signing", 8, x509.KeyUsageDigitalSignature), w.ca, testkeys.RSA2048(foreignKey).Public(), testkeys.RSA2048(caKey))
	material := w.material()
	material.PreviousSigning = []scep.KeyPair{{Certificate: older, Key: testkeys.RSA2048(foreignKey)}}
	ra := newRA(t, material)

	for _, tt := range []struct {
		name   string
		to     *x509.Certificate
		ra     *scep.RA
		result *scep.Result
		want   *x509.Certificate
	}{
		{"encrypted to the present key", w.encryption, ra, &scep.Result{Status: scep.Success, Certificate: w.signing.Raw}, w.signing},
		{"encrypted to the older key", w.previous, ra, &scep.Result{Status: scep.Success, Certificate: w.signing.Raw}, older},
		{"encrypted to the older key and refused", w.previous, ra, scep.Refuse(scep.BadRequest, "no"), older},
		{"the older signer is gone", w.previous, w.ra(t), scep.Refuse(scep.BadRequest, "no"), w.signing},
	} {
		t.Run(tt.name, func(t *testing.T) {
			content := envelope{to: []to{{cert: tt.to}}, plain: request{}.build(t)}.build(t)
			m, _ := exchange(t, tt.ra, message{content: content}.build(t), everything)
			reply, err := tt.ra.Reply(m, tt.result)
			if err != nil {
				t.Fatal(err)
			}
			d := decode(t, reply) // verified against the certificate inside
			if len(d.p7.Certificates) != 1 || !d.p7.Certificates[0].Equal(tt.want) {
				t.Errorf("signed by %q, want %q", d.p7.Certificates[0].Subject, tt.want.Subject)
			}
		})
	}
}

// An envelope for the older key that does not open is answered like any other
// message of that device.
func TestRefusalOfADamagedEnvelopeForAnOlderKey(t *testing.T) {
	w := newWorld(t)
	older := certify(t, raTemplate("RA signing", 8, x509.KeyUsageDigitalSignature), w.ca, testkeys.RSA2048(foreignKey).Public(), testkeys.RSA2048(caKey))
	material := w.material()
	material.PreviousSigning = []scep.KeyPair{{Certificate: older, Key: testkeys.RSA2048(foreignKey)}}
	ra := newRA(t, material)
	content := envelope{to: []to{{cert: w.previous}}, plain: []byte("no request at all")}.build(t)
	m, err := scep.Parse(message{content: content}.build(t), everything)
	if err != nil {
		t.Fatal(err)
	}
	_, err = m.Open(ra)
	reply, replyErr := ra.Reply(m, refusal(t, err).Result())
	if replyErr != nil {
		t.Fatal(replyErr)
	}
	if d := decode(t, reply); !d.p7.Certificates[0].Equal(older) {
		t.Errorf("signed by %q", d.p7.Certificates[0].Subject)
	}
}

func TestPreviousSigningPairIsChecked(t *testing.T) {
	w := newWorld(t)
	material := w.material()
	material.PreviousSigning = []scep.KeyPair{{Certificate: w.signing, Key: testkeys.RSA2048(foreignKey)}}
	if _, err := scep.NewRA(material); err == nil {
		t.Error("a key that is not the certificate's was taken")
	}
}
