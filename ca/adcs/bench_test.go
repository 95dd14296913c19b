package adcs

import (
	"testing"

	"github.com/certconnector/certconnector/ca/adcstest"
)

// BenchmarkIssue measures a request on kept connections, the CA for tests
// included.
func BenchmarkIssue(b *testing.B) {
	for _, v := range []struct {
		name  string
		roads []Road
		kdc   bool
	}{
		{"dcom ntlm", []Road{DCOM}, false}, {"dcom kerberos", []Road{DCOM}, true}, {"icpr kerberos", []Road{ICPR}, true},
	} {
		b.Run(v.name, func(b *testing.B) {
			var kdc *adcstest.KDC
			if v.kdc {
				kdc = startKDC(b)
			}
			l := newLab(b, kdc, adcstest.Options{})
			c := l.connect(b, "svc", Config{Issue: v.roads, Certificates: chainOf(l)})
			req := newRequest(b)
			for b.Loop() {
				if _, err := c.Issue(b.Context(), req); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
