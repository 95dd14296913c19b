package adcs

import (
	"testing"

	"github.com/certconnector/certconnector/ca/adcstest"
)

func TestAttackerOnTheWay(t *testing.T) {
	kdc := startKDC(t)
	for _, v := range []struct {
		name string
		kdc  *adcstest.KDC
		cfg  Config
	}{
		{"NTLM", nil, Config{}},
		{"NTLM in SPNEGO", nil, Config{SPNEGO: true}},
		{"Kerberos", kdc, Config{}},
		{"Kerberos in SPNEGO", kdc, Config{SPNEGO: true}},
		{"plain RPC with NTLM", nil, Config{Issue: []Road{ICPR}}},
	} {
		t.Run(v.name, func(t *testing.T) {
			v.cfg.Find = CSRA
			testAttacker(t, func(t *testing.T) *CA {
				return newLab(t, v.kdc, adcstest.Options{}).connect(t, "svc", v.cfg)
			}, issuing)
		})
	}
}
