package keys

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-tpm/tpm2"
)

// TestATPMThatCannotRefusesNothing: only what a TPM says of the ciphertext may
// become a random key.
func TestATPMThatCannotRefusesNothing(t *testing.T) {
	const parameter1 = 0x40 | 0x100
	for name, row := range map[string]struct {
		code    tpm2.TPMRC
		refused bool
	}{
		"a wrong padding":          {tpm2.TPMRCValue | parameter1, true},
		"a wrong length":           {tpm2.TPMRCSize | parameter1, true},
		"it is busy":               {tpm2.TPMRCRetry, false},
		"it is locked out":         {tpm2.TPMRCLockout, false},
		"it has no memory":         {tpm2.TPMRCObjectMemory, false},
		"wrong padding at libtpms": {tpm2.TPMRCFailure, true},
		"it did not make the key":  {tpm2.TPMRCIntegrity | parameter1, false},
	} {
		err := explain(row.code, fmt.Errorf("decrypting: %w", row.code))
		if got := refusedByTPM(err); got != row.refused {
			t.Errorf("%s: %v", name, got)
		}
		plain, failed := sessionKey(nil, err, 16, refusedByTPM)
		if (failed == nil) != row.refused || (len(plain) == 16) != row.refused {
			t.Errorf("%s: %d octets, %v", name, len(plain), failed)
		}
	}
	if refusedByTPM(errors.New("the connection is gone")) {
		t.Error("a connection that is gone refused a ciphertext")
	}
}
