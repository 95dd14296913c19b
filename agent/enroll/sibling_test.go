package enroll_test

import (
	"context"
	"crypto/x509"
	"testing"

	"github.com/certconnector/certconnector/agent/enroll"
	"github.com/certconnector/certconnector/policymodule"
	"github.com/certconnector/certconnector/scep"
)

// trusting grants whatever it is asked, and wants no news.
type trusting struct{}

func (trusting) Verify(context.Context, policymodule.Request) (policymodule.Decision, error) {
	return policymodule.Decision{Granted: true}, nil
}

func (trusting) Notify(context.Context, policymodule.Outcome) error { return nil }

// A certificate that one endpoint gave does not vouch at another one of the
// same CA: whoever decides at the first would not be asked.
func TestRenewalAtASiblingEndpoint(t *testing.T) {
	for _, row := range []struct {
		name   string
		from   []string
		status scep.Status
	}{
		{"by default", nil, scep.Failure},
		{"of an endpoint that is named", []string{"corp"}, scep.Success},
		{"of another endpoint that is named", []string{"branch"}, scep.Failure},
	} {
		t.Run(row.name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				sibling, err := w.reg.Add(enroll.EndpointConfig{
					Name: "sibling", Module: trusting{}, CA: w.ca, CAName: "issuing",
					Rules: enroll.Rules{RenewalWithoutChallenge: true, RenewalFrom: row.from},
				})
				if err != nil {
					t.Fatal(err)
				}
				first := newDevice(0, "good")
				old, err := x509.ParseCertificate(w.want(w.ask(first), scep.Success).Certificate)
				if err != nil {
					t.Fatal(err)
				}
				d := newDevice(1, "")
				d.cn, d.signer = first.cn, old
				res, err := sibling.Enroll(t.Context(), d.request(t, scep.RenewalReq))
				if err != nil {
					t.Fatal(err)
				}
				if w.want(res, row.status); row.status == scep.Failure && res.FailInfo != scep.BadCertID {
					t.Errorf("failInfo %v", res.FailInfo)
				}
			})
		})
	}
}
