package agent

import (
	"runtime"
	"strings"
	"testing"
)

// A configuration for Windows is well formed everywhere, and a mistake where
// it would be used elsewhere.
func TestSSPIIsForWindows(t *testing.T) {
	for name, c := range map[string]CA{
		"adcs":    {ADCS: &ADCS{SSPI: &SSPI{}}},
		"certsrv": {Certsrv: &Certsrv{SSPI: &SSPI{}}},
		"wstep":   {WSTEP: &WSTEP{SSPI: &SSPI{}}},
	} {
		var m mistakes
		c.check(nil, "cas[0]", &m)
		err := m.Err()
		switch {
		case runtime.GOOS == "windows":
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		case err == nil || !strings.Contains(err.Error(), "cas[0]."+name+".sspi") || !strings.Contains(err.Error(), "keytab"):
			t.Errorf("%s: %v, want the way out", name, err)
		}
	}
}
