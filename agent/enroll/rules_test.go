package enroll_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/enroll"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/policymodule"
	"github.com/certconnector/certconnector/scep"
)

func mustDER(t *testing.T, v any) []byte {
	t.Helper()
	der, err := asn1.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func ext(t *testing.T, id asn1.ObjectIdentifier, v any) []pkix.Extension {
	t.Helper()
	return []pkix.Extension{{Id: id, Value: mustDER(t, v)}}
}

func oid(parts ...int) asn1.ObjectIdentifier { return parts }

// TestOwnRulesHoldWhoeverVouches has one row a rule: the cloud said yes, the
// registration authority says no, and the cloud is owed the failure.
func TestOwnRulesHoldWhoeverVouches(t *testing.T) {
	sidURI := "tag:microsoft.com,2022-09-14:sid:S-1-5-21-1111111111-2222222222-3333333333-1001"
	for name, tc := range map[string]struct {
		change func(t *testing.T, d *device)
		rule   policymodule.Reason
		info   scep.FailInfo
	}{
		"small key":     {func(_ *testing.T, d *device) { d.key = testkeys.RSA1024() }, enroll.RuleKeySize, scep.BadAlg},
		"SID extension": {func(t *testing.T, d *device) { d.extra = ext(t, oid(1, 3, 6, 1, 4, 1, 311, 25, 2), "S-1-5-21") }, enroll.RuleSID, scep.BadRequest},
		"SID URI nobody vouched": {func(t *testing.T, d *device) {
			d.extra = []pkix.Extension{{Id: oid(2, 5, 29, 17), Value: sanURI(t, sidURI)}}
		}, enroll.RuleSIDURI, scep.BadRequest},
		"template by name":  {func(t *testing.T, d *device) { d.extra = ext(t, oid(1, 3, 6, 1, 4, 1, 311, 20, 2), "DomainController") }, enroll.RuleTemplate, scep.BadRequest},
		"CA certificate":    {func(t *testing.T, d *device) { d.extra = ext(t, oid(2, 5, 29, 19), struct{ CA bool }{true}) }, enroll.RuleCA, scep.BadRequest},
		"unknown extension": {func(t *testing.T, d *device) { d.extra = ext(t, oid(1, 2, 3, 4), "x") }, enroll.RuleExtension, scep.BadRequest},
		"certificate signing": {func(t *testing.T, d *device) {
			d.extra = ext(t, oid(2, 5, 29, 15), asn1.BitString{Bytes: []byte{0x04}, BitLength: 6})
		}, enroll.RuleKeyUsage, scep.BadRequest},
		"request agent": {func(t *testing.T, d *device) {
			d.extra = ext(t, oid(2, 5, 29, 37), []asn1.ObjectIdentifier{oid(1, 3, 6, 1, 4, 1, 311, 20, 2, 1)})
		}, enroll.RuleExtKeyUsage, scep.BadRequest},
		"EKU not in the list": {func(t *testing.T, d *device) {
			d.extra = ext(t, oid(2, 5, 29, 37), []asn1.ObjectIdentifier{oid(1, 3, 6, 1, 5, 5, 7, 3, 1)})
		}, enroll.RuleExtKeyUsage, scep.BadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.stop()
				w.config.Rules.ExtKeyUsages = []asn1.ObjectIdentifier{oid(1, 3, 6, 1, 5, 5, 7, 3, 2)}
				w.start()
				d := newDevice(0, "good")
				tc.change(t, &d)
				w.wantFailure(w.ask(d), tc.info)
				if got := w.entries(1)[0].Failure.Rule; got != string(tc.rule) {
					t.Errorf("refused by rule %q, want %q", got, tc.rule)
				}
				w.later(5 * time.Second)
				w.told(0, 1)
				if w.core.issues != 0 {
					t.Error("the CA was asked")
				}
			})
		})
	}
}

func sanURI(t *testing.T, uri string) []byte {
	return mustDER(t, []asn1.RawValue{{Class: 2, Tag: 6, Bytes: []byte(uri)}})
}

func TestTemplateFollowsTheKeyUsage(t *testing.T) {
	usage := func(bits byte) asn1.BitString { return asn1.BitString{Bytes: []byte{bits}, BitLength: 8} }
	for name, tc := range map[string]struct {
		usage *asn1.BitString
		want  string
	}{
		"digitalSignature":  {ptr(usage(0x80)), "Sign"},
		"nonRepudiation":    {ptr(usage(0x40)), "Sign"},
		"keyEncipherment":   {ptr(usage(0x20)), "Encrypt"},
		"keyAgreement":      {ptr(usage(0x08)), "Encrypt"},
		"both":              {ptr(usage(0xA0)), "Both"},
		"no keyUsage asked": {nil, "Both"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.stop()
				w.config.Templates = enroll.Templates{Signature: "Sign", Encryption: "Encrypt", General: "Both"}
				w.start()
				d := newDevice(0, "good")
				if tc.usage != nil {
					d.extra = []pkix.Extension{{Id: oid(2, 5, 29, 15), Critical: true, Value: mustDER(t, *tc.usage)}}
				}
				w.ask(d)
				if got := w.entries(1)[0].Template; got != tc.want {
					t.Errorf("template %q, want %q", got, tc.want)
				}
			})
		})
	}
}

func ptr[T any](v T) *T { return &v }

func TestRenewal(t *testing.T) {
	for name, tc := range map[string]struct {
		allowed bool // renewal.without_challenge
		kind    scep.MessageType
		change  func(w *world, d *device)
		status  scep.Status
		info    scep.FailInfo
	}{
		"RenewalReq by our certificate":                 {true, scep.RenewalReq, func(*world, *device) {}, scep.Success, 0},
		"PKCSReq by our certificate":                    {true, scep.PKCSReq, func(*world, *device) {}, scep.Success, 0},
		"same key, same transaction":                    {true, scep.PKCSReq, func(_ *world, d *device) { d.key, d.transaction = testkeys.RSA2048(0), "T0" }, scep.Success, 0},
		"with a fresh challenge where it is off":        {false, scep.RenewalReq, func(_ *world, d *device) { d.challenge = "good again" }, scep.Success, 0},
		"with the old challenge":                        {true, scep.RenewalReq, func(_ *world, d *device) { d.challenge = "good" }, scep.Failure, scep.BadRequest},
		"without a challenge where it is off":           {false, scep.RenewalReq, func(*world, *device) {}, scep.Failure, scep.BadRequest},
		"another subject":                               {true, scep.RenewalReq, func(_ *world, d *device) { d.cn = "administrator" }, scep.Failure, scep.BadRequest},
		"after the certificate ended":                   {true, scep.RenewalReq, func(*world, *device) { time.Sleep(time.Hour) }, scep.Failure, scep.BadCertID},
		"by a revoked certificate":                      {true, scep.RenewalReq, func(w *world, d *device) { w.core.revoked[d.signer.SerialNumber.String()] = 1 }, scep.Failure, scep.BadCertID},
		"by another CA's certificate":                   {true, scep.RenewalReq, func(w *world, d *device) { d.signer = foreignCertificate(w.t, d) }, scep.Failure, scep.BadCertID},
		"RenewalReq by a self-signed certificate":       {true, scep.RenewalReq, func(_ *world, d *device) { d.signer = nil }, scep.Failure, scep.BadCertID},
		"PKCSReq by somebody's self-signed certificate": {true, scep.PKCSReq, func(w *world, d *device) { d.signer = selfSignedBy(w.t, 5) }, scep.Failure, scep.BadMessageCheck},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.stop()
				w.config.Rules.RenewalWithoutChallenge = tc.allowed
				w.start()
				w.core.life = 30 * time.Minute
				first := newDevice(0, "good")
				old, err := x509.ParseCertificate(w.want(w.ask(first), scep.Success).Certificate)
				if err != nil {
					t.Fatal(err)
				}
				d := newDevice(1, "")
				d.cn, d.signer = first.cn, old
				tc.change(w, &d)
				res := w.want(w.send(d.request(t, tc.kind)), tc.status)
				switch {
				case tc.status == scep.Failure && res.FailInfo != tc.info:
					t.Errorf("failInfo %v (%s), want %v", res.FailInfo, res.FailText, tc.info)
				case tc.status == scep.Success && string(res.Certificate) == string(old.Raw):
					t.Error("a renewal returned the old certificate")
				}
			})
		})
	}
}

// certmonger's resubmit repeats key, names, transaction ID and a static
// challenge of the first enrolment; only CSR bytes and signer differ.
func TestRenewalByResubmissionIsNoRepetition(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.cloud.set(func(c *cloud) { c.indifferent = true })
		d := newDevice(0, "good")
		seen := map[string]bool{}
		for renewal := range 3 {
			res := w.want(w.ask(d), scep.Success)
			if seen[string(res.Certificate)] {
				t.Fatalf("renewal %d returned an old certificate", renewal)
			}
			seen[string(res.Certificate)] = true
			if again := w.want(w.ask(d), scep.Success); string(again.Certificate) != string(res.Certificate) {
				t.Errorf("renewal %d: repeated with a fresh CSR it returned another certificate", renewal)
			}
			old, err := x509.ParseCertificate(res.Certificate)
			if err != nil {
				t.Fatal(err)
			}
			d.signer = old
			d.extra = []pkix.Extension{{Id: []int{2, 5, 29, 19}, Value: []byte{0x30, 0}}} // other CSR bytes
		}
	})
}

func foreignCertificate(t *testing.T, d *device) *x509.Certificate {
	other := newFakeCA(t)
	csr := d.request(t, scep.PKCSReq).CSR
	other.root.RawSubject = append([]byte(nil), other.root.RawSubject...)
	tmplKey := testkeys.P256(1)
	tmpl := &x509.Certificate{SerialNumber: d.signer.SerialNumber, RawSubject: csr.RawSubject, NotBefore: time.Now(), NotAfter: time.Now().AddDate(1, 0, 0)}
	parent := *other.root
	parent.PublicKey = tmplKey.Public()
	der, err := x509.CreateCertificate(nil, tmpl, &parent, csr.PublicKey, tmplKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func selfSignedBy(t *testing.T, i int) *x509.Certificate {
	d := newDevice(i, "")
	cert, err := x509.ParseCertificate(d.signerCertificate(t).Raw)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}
