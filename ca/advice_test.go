package ca

import (
	"strings"
	"testing"
)

func TestAdviceNamesCodeAndWayOut(t *testing.T) {
	for _, c := range []struct {
		name   string
		code   int32
		retry  Retry
		text   string
		symbol string
	}{
		{"no right at the CA", -2146877423, Final, "Request Certificates", "CERTSRV_E_ENROLL_DENIED"},
		{"no right on the template", HResultTemplateDenied, Final, "Read and Enroll", "CERTSRV_E_TEMPLATE_DENIED"},
		{"a person said no", HResultAdminDenied, Final, "person", "CERTSRV_E_ADMIN_DENIED_REQUEST"},
		{"display name instead of the name", HResultUnknownTemplate, Final, "display name", "CERTSRV_E_UNSUPPORTED_CERT_TYPE"},
		{"service stopped", HResultUnavailable, Later, "CertSvc", "RPC_S_SERVER_UNAVAILABLE"},
		{"backup", -2146877434, Later, "wait", "CERTSRV_E_SERVER_SUSPENDED"},
		{"no sessions", -2146877425, Later, "connections", "CERTSRV_E_NO_DB_SESSIONS"},
	} {
		got := Advice(c.code)
		if !strings.Contains(got, c.text) || !strings.Contains(got, c.symbol) {
			t.Errorf("%s: advice %q lacks %q or %q", c.name, got, c.text, c.symbol)
		}
		if IsTransient(c.code) != (c.retry == Later) {
			t.Errorf("%s: transient %t, want %t", c.name, IsTransient(c.code), c.retry == Later)
		}
	}
}

func TestAdviceForUnknownCodeNamesIt(t *testing.T) {
	if got := Advice(-2146877183); !strings.Contains(got, "0x80094101") {
		t.Errorf("advice %q lacks the code", got)
	}
	if IsTransient(-2146877183) {
		t.Error("an unknown code is taken for a transient one")
	}
}

func TestAdviceIsComplete(t *testing.T) {
	for code, a := range advice {
		if a.Name == "" || a.Do == "" || strings.HasSuffix(a.Do, ".") {
			t.Errorf("0x%08X: name %q, advice %q (one sentence without a full stop)", code, a.Name, a.Do)
		}
	}
}
