package crpclient

import (
	"strings"
	"testing"

	"github.com/certconnector/certconnector/internal/mtls"
	"github.com/certconnector/certconnector/policymodule"
)

// Whatever the other side sends: a grant is a grant in so many words, and a
// refusal fits a log and a label.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"verdict":"granted","notify":true,"maxValiditySeconds":3600,"challengeMade":"2027-01-15T08:00:00Z"}`))
	f.Add([]byte(`{"verdict":"refused","rule":"intune_unknown","failInfo":2,"detail":"x"}`))
	f.Add([]byte(`{"verdict":"refused","rule":"A","failInfo":-7,"detail":"\u0007"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := readVerdict(201, b)
		if err != nil {
			return
		}
		if v.Verdict == grantedVerdict {
			if v.MaxValiditySeconds < 0 || v.ReleasesItself {
				t.Errorf("granted %+v", v)
			}
			return
		}
		d := v.refusal()
		if d.Granted || !mtls.IsRule(string(d.Rule)) || d.FailInfo < policymodule.BadAlg || d.FailInfo > policymodule.BadCertID ||
			strings.ContainsAny(d.Detail, "\r\n\x1b") || len([]rune(d.Detail)) > mostText {
			t.Errorf("refused %+v", d)
		}
	})
}
