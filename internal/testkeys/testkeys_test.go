package testkeys_test

import (
	"testing"

	"github.com/certconnector/certconnector/internal/testkeys"
)

func TestKeysLoad(t *testing.T) {
	seen := map[string]bool{}
	for i := range 8 {
		k := testkeys.RSA2048(i)
		if k.N.BitLen() != 2048 {
			t.Errorf("key %d has %d bits", i, k.N.BitLen())
		}
		seen[k.N.String()] = true
	}
	if len(seen) != 8 {
		t.Errorf("%d different RSA-2048 keys, want 8", len(seen))
	}
	if b := testkeys.RSA1024().N.BitLen(); b != 1024 {
		t.Errorf("small key has %d bits", b)
	}
	if testkeys.P256(0).Equal(testkeys.P256(1)) {
		t.Error("the two P-256 keys are the same")
	}
}
