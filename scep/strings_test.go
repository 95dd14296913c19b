package scep_test

import (
	"fmt"
	"testing"

	"github.com/certconnector/certconnector/scep"
)

// The names appear in logs and metrics: they are those of RFC 8894, and an
// unknown number stays recognisable.
func TestNames(t *testing.T) {
	for _, tt := range []struct {
		value fmt.Stringer
		want  string
	}{
		{scep.PKCSReq, "PKCSReq"}, {scep.MessageType(41), "messageType(41)"},
		{scep.Success, "SUCCESS"}, {scep.Failure, "FAILURE"}, {scep.Pending, "PENDING"}, {scep.Status(1), "pkiStatus(1)"},
		{scep.BadAlg, "badAlg"}, {scep.BadCertID, "badCertId"}, {scep.FailInfo(-1), "failInfo(-1)"},
		{scep.AES128CBC, "AES-128-CBC"}, {scep.TripleDESCBC, "3DES-CBC"}, {scep.Cipher(0), "none"}, {scep.Cipher(9), "cipher(9)"},
		{scep.SplitRA, "split RA"}, {scep.Shape(7), "shape(7)"},
	} {
		if got := tt.value.String(); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
	secret := &scep.Refusal{FailInfo: scep.BadMessageCheck, Text: "not opened", Detail: "padding"}
	if got := secret.Error(); got != "badMessageCheck: not opened" {
		t.Errorf("%q: detail must stay in the log", got)
	}
	if res := secret.Result(); res.Status != scep.Failure || res.FailInfo != scep.BadMessageCheck || res.FailText != "not opened" {
		t.Errorf("result %+v", res)
	}
}
