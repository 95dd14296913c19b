package enroll_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/enroll"
	"github.com/certconnector/certconnector/scep"
)

// TestRenewalComparesNamesAsEncoded: names that read alike as text, and names
// that are in one place only, are not those of the old certificate (M12).
func TestRenewalComparesNamesAsEncoded(t *testing.T) {
	subject := func(t *testing.T, n pkix.Name) []byte { return mustDER(t, n.ToRDNSequence()) }
	for name, tc := range map[string]struct {
		change func(t *testing.T, req *scep.Request)
		ok     bool
	}{
		"the same names": {func(*testing.T, *scep.Request) {}, true},
		"two attributes that read like one with a comma": {func(t *testing.T, req *scep.Request) {
			req.CSR.RawSubject = subject(t, pkix.Name{CommonName: "device", Organization: []string{"Corp"}})
		}, false},
		"another string type": {func(t *testing.T, req *scep.Request) {
			req.CSR.RawSubject[len(req.CSR.RawSubject)-len("device,O=Corp")-2] ^= 0x0c ^ 0x13
		}, false},
		"a subjectAltName more": {func(t *testing.T, req *scep.Request) {
			req.CSR.RawSAN = generalNames(t, dns("device.example.test"), dns("dc.example.test")).Value
		}, false},
		"no subjectAltName": {func(_ *testing.T, req *scep.Request) { req.CSR.RawSAN = nil }, false},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.stop()
				w.config.Rules.RenewalWithoutChallenge = true
				w.start()
				w.core.life = time.Hour
				first := newDevice(0, "good")
				first.cn = "device,O=Corp"
				old, err := x509.ParseCertificate(w.want(w.ask(first), scep.Success).Certificate)
				if err != nil {
					t.Fatal(err)
				}
				d := newDevice(1, "")
				d.cn, d.signer = first.cn, old
				req := d.request(t, scep.RenewalReq)
				tc.change(t, req)
				res := w.send(req)
				if tc.ok {
					w.want(res, scep.Success)
					return
				}
				w.wantFailure(res, scep.BadRequest)
				if rule := w.line("request refused")["rule"]; rule != string(enroll.RuleRenewalNames) {
					t.Errorf("refused by %v", rule)
				}
			})
		})
	}
}
